//! kluis-mask
