//! kluis-launch
