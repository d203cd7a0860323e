//! kluis._native
