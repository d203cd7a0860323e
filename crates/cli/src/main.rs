//! kluis
fn main() {}
