//! The launcher as a whole: the real program, a real Python, real walls, against a small server that speaks the session's
//! routes over TLS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod azure;
mod broker;
mod confinement;
mod console;
mod fake;
mod harness;
mod life;
mod output;
