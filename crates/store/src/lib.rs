//! kluis-store
