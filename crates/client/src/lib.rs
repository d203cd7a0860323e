//! The typed client of Kluis: the native API over HTTPS, a launcher's signed session, a run's broker socket, and the
//! packing and unpacking of snapshots. It holds no rules of its own and reads no environment.
//!
//! | wanted | module |
//! |---|---|
//! | call the server as a user, a service or an agent | [`Client`] |
//! | which server, which login | [`config`], [`credentials`] |
//! | who is trusted on the other end | [`trust`] |
//! | what an invitation's code holds | [`invite`] |
//! | act as a run's launcher | [`session`] |
//! | ask a run's launcher, without a runtime | [`broker`] |
//! | pack, check and unpack a source tree | [`snapshot`] |
//!
//! A credential is only ever sent to the server that it was made for: [`Client::signed_in`] takes a
//! [`credentials::Credential`], which carries its own [`trust::Server`], and there is no other way to send a token.

pub mod broker;
mod client;
pub mod config;
pub mod credentials;
mod error;
mod http;
pub mod invite;
pub mod logs;
mod native;
mod random;
pub mod session;
pub mod snapshot;
pub mod trust;

pub use client::{Client, Download};
pub use error::{ApiError, Error};
pub use http::jittered;
pub use random::SystemRng;
