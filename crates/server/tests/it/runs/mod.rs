//! `/workspaces/{workspace}/runs`, `/experiments` and `/snapshots`.

mod roles;
mod snapshots;
mod submit;
mod watch;
