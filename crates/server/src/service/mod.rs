//! What Kluis does for a caller, one noun per file: the only place where vault meets store. A method authorizes in its
//! first line, and commits its audit record with what it changes; faces parse, call it and render.
//!
//! | noun | service | borrowed by |
//! |---|---|---|
//! | logins, tokens, principals, invitations | [`identity`] | `app.identity()` |
//! | workspaces, members, keys | [`workspaces`] | `app.workspaces()` |
//! | compute targets | [`computes`] | `app.computes()` |
//! | secrets and versions | [`secrets`] | `app.secrets()` |
//! | the audit log | [`audit`] | `app.audit()` |
//! | runs and snapshots | [`runs`], [`snapshots`] | |
//! | what agents and launchers say | [`attempts`], [`sessions`] | |

pub mod attempts;
pub mod audit;
pub mod authorize;
pub mod computes;
pub mod identity;
pub mod row;
pub mod runs;
pub mod secrets;
pub mod sessions;
pub mod snapshots;
pub(crate) mod wait;
pub mod workspaces;
