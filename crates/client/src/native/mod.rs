//! The calls of the native API, one file per noun, each method named after its route.

mod agents;
mod audit;
mod identity;
mod runs;
mod secrets;
mod workspaces;
