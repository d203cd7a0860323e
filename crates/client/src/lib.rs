//! kluis-client
