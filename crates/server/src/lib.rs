//! The Kluis server: services over vault and store, and the faces that speak for them.
//!
//! | concept | module |
//! |---|---|
//! | what configuration says | [`config`] |
//! | start, stop, first start | [`server`] |
//! | TLS and the private authority | `tls`, `listen` |
//! | what every service works with | [`app`] |
//! | whether the wall clock can be believed | `steady` |
//! | who is asking, and who is refused | [`caller`], [`signed`], [`refusals`] |
//! | rules | [`service`] |
//! | which face a request is for | [`faces`] |
//! | the native face | [`api`] |
//! | the faces of Azure's clients | `azure` |
//! | the face of `azureml-core` | `azureml` |
//! | snapshots, logs, outputs | [`blobs`] |
//! | what can go wrong | [`error`] |
//!
//! docs/api-design.md tells how the native API is meant to be used.

pub mod api;
pub mod app;
mod azure;
mod azureml;
pub mod blobs;
pub mod caller;
pub mod config;
pub mod error;
pub mod faces;
mod listen;
pub mod refusals;
pub mod server;
pub mod service;
pub mod signed;
mod steady;
pub mod throttle;
mod tls;
mod version;

pub use config::ServerOptions;
pub use listen::ListenError;
pub use server::{FirstStart, Running, Server, StartError};
pub use tls::TlsError;
