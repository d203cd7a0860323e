//! kluis-launch
fn main() {}
