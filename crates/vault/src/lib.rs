//! kluis-vault
