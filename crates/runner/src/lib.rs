//! kluis-runner
