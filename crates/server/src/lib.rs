//! kluis-server
