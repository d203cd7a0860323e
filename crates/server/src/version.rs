//! Versions apart: clients, agents and launchers of ours are accepted one minor version older or newer. They all say their
//! version in `user-agent`; other programs say nothing that is looked at.

use http::HeaderMap;
use http::header::USER_AGENT;

use crate::error::{Error, Result};

/// This server's version.
pub(crate) const OWN: &str = env!("CARGO_PKG_VERSION");

/// Refuses a client of ours whose version is too far from this server's.
pub(crate) fn check(headers: &HeaderMap) -> Result<()> {
    let said = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    match said.and_then(|said| said.strip_prefix("kluis/")) {
        Some(theirs) if !work_together(OWN, theirs) => Err(Error::VersionSkew(
            format!(
                "this server is kluis {OWN} and works with versions at most one minor version older or newer; the caller's is \
                 not: upgrade the older of the two"
            )
            .into(),
        )),
        _ => Ok(()),
    }
}

/// The same major version, minor versions at most one apart. What is no version works with nothing.
fn work_together(ours: &str, theirs: &str) -> bool {
    let (Some(ours), Some(theirs)) = (major_minor(ours), major_minor(theirs)) else { return false };
    ours.0 == theirs.0 && ours.1.abs_diff(theirs.1) <= 1
}

fn major_minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_some().then_some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_minor_version_apart_works_and_two_do_not() {
        for (ours, theirs, fits) in [
            ("1.4.2", "1.4.9", true),
            ("1.4.2", "1.3.0", true),
            ("1.4.2", "1.5.0-rc.1", true),
            ("1.4.2", "1.2.9", false),
            ("1.4.2", "1.6.0", false),
            ("1.4.2", "2.4.2", false),
            ("1.0.0", "0.9.9", false),
            ("1.4.2", "1.4", false),
            ("1.4.2", "", false),
            ("1.4.2", "one.4.2", false),
        ] {
            assert_eq!(work_together(ours, theirs), fits, "{ours} and {theirs}");
        }
    }
}
