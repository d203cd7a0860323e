//! What a running server does besides answering. Nothing here is needed for the first answer, so it starts after the port
//! is open; each piece can be stopped at any moment and goes on at the next start.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;

use super::{Certificate, keep};
use crate::app::App;
use crate::config::TlsSource;
use crate::error::Result;
use crate::steady::SteadyClock;
use crate::tls::{self, Leaf};

/// How often the house is kept.
const ROUND: Duration = Duration::from_mins(1);

/// Starts everything; it ends when the server stops.
pub(super) fn start(app: &App, certificate: Certificate, tls: TlsSource, tasks: &TaskTracker) {
    let log = app.clone();
    spawn(app, tasks, async move { log.audit().keep_checkpoints().await });
    spawn(app, tasks, rounds(app.clone(), certificate, tls));
    let runs = app.clone();
    spawn(app, tasks, async move { crate::service::attempts::watch(&runs).await });
}

fn spawn(app: &App, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
    let stopping = app.stopping.clone();
    tasks.spawn(async move {
        stopping.run_until_cancelled_owned(work).await;
    });
}

async fn rounds(app: App, mut certificate: Certificate, tls: TlsSource) {
    let mut clock = SteadyClock::new(app.now());
    let mut wear_known = false;
    loop {
        wear_known = wear_known || log("key wear", app.workspaces().count_wear().await);
        log("rewrapping", app.workspaces().rewrap_all().await);
        destroy(&app, &mut clock).await;
        app.record_refusals(app.refusals.gathered(false)).await;
        renew(&app, &mut certificate, &tls).await;
        tokio::time::sleep(ROUND).await;
    }
}

/// What goes for good when its time is over: a clock that jumped ahead, and is put right afterwards, takes nothing with it.
async fn destroy(app: &App, clock: &mut SteadyClock) {
    clock.jump(app.now());
    if clock.is_steady() {
        log("purging", app.secrets().purge_due().await);
        log("purging deleted workspaces", app.workspaces().purge_due().await);
        log("forgetting expired logins", app.identity().forget_expired().await);
    }
}

/// Whether it was done.
fn log(what: &'static str, result: Result<()>) -> bool {
    if let Err(e) = &result {
        tracing::error!(error = %e, what, "work in the background failed; it is tried again");
    }
    result.is_ok()
}

/// A new server certificate while a third of the old one's life is left; a site's when its files have changed.
async fn renew(app: &App, certificate: &mut Certificate, tls: &TlsSource) {
    match (&certificate.authority, &certificate.leaf, tls) {
        (Some(authority), Some(leaf), _) if leaf.is_due(app.now()) => {
            let renewed = async {
                let leaf = authority.issue(app.now())?;
                keep(&app.store, &app.vault, app.now(), Leaf::NAME, &leaf.to_bytes()).await?;
                let (chain, key) = authority.chain(&leaf);
                certificate.shown.show(chain, key)?;
                Ok::<_, super::StartError>(leaf)
            };
            match renewed.await {
                Ok(leaf) => certificate.leaf = Some(leaf),
                Err(e) => tracing::error!(error = %e, "the server's certificate was not renewed"),
            }
        }
        (None, _, TlsSource::Files { certificate: chain, key }) => {
            let now = changed(chain, key);
            if now == certificate.read {
                return;
            }
            match tls::from_files(chain, key).and_then(|(chain, key)| certificate.shown.renew(chain, key)) {
                Ok(()) => {
                    certificate.read = now;
                    tracing::info!("the site's certificate was read again");
                }
                // The two files are rarely changed in one moment: they are looked at until they fit.
                Err(e) => tracing::error!(error = %e, "the site's new certificate is not used yet"),
            }
        }
        _ => {}
    }
}

/// When a site's certificate and key were last changed.
pub(super) type Changed = (SystemTime, SystemTime);

/// `None` while one of them is not there.
pub(super) fn changed(chain: &Path, key: &Path) -> Option<Changed> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    Some((modified(chain)?, modified(key)?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use kluis_core::access::PrincipalKind;
    use kluis_core::api::identity::{CreateInvite, CreateToken, RedeemInvite};
    use kluis_core::clock::{ManualClock, Timestamp};
    use kluis_core::name::PrincipalName;

    use super::*;
    use crate::server::{Prepared, prepare};
    use crate::{Server, ServerOptions};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test(start_paused = true)]
    #[expect(clippy::await_holding_invalid_type, reason = "the client's side of it")]
    async fn a_clock_that_jumps_ahead_and_is_put_right_takes_no_login_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_seconds(1_795_530_000);
        let wall = Arc::new(ManualClock::at(start));
        let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
        options.clock = wall.clone();
        let (app, first) = Server::open(&options).await.unwrap();
        let owner = app.sign_in(first.unwrap().token.expose(), HERE).await.unwrap();
        let create = CreateToken { label: "a day".into(), life_seconds: Some(24 * 3600) };
        let token = app.identity().token_create(&owner, &create).await.unwrap().token;
        let invite = CreateInvite {
            name: PrincipalName::parse("ada").unwrap(),
            kind: PrincipalKind::User,
            membership: None,
            compute: None,
            life_seconds: None,
        };
        let code = app.identity().invite(&owner, &invite).await.unwrap().code;

        let mut clock = SteadyClock::new(app.now());
        tokio::time::advance(Duration::from_hours(1)).await;
        wall.set(start.plus(Duration::from_hours(1)));
        destroy(&app, &mut clock).await;
        wall.set(start.plus(Duration::from_hours(100 * 24)));
        for _ in 0..9 {
            destroy(&app, &mut clock).await;
            tokio::time::advance(ROUND).await;
            wall.advance(ROUND);
        }
        assert!(app.sign_in(token.expose(), HERE).await.is_err(), "by that clock it is over");
        wall.set(start.plus(Duration::from_hours(2)));
        destroy(&app, &mut clock).await;
        app.sign_in(token.expose(), HERE).await.expect("it is still there");
        let redeem = RedeemInvite { code, label: "x".into() };
        app.identity().login_invite(&redeem, HERE).await.expect("it is still there");

        // What is over by a clock that goes evenly is forgotten.
        wall.set(start.plus(Duration::from_hours(48)));
        destroy(&app, &mut clock).await;
        for _ in 0..11 {
            tokio::time::advance(ROUND).await;
            wall.advance(ROUND);
            destroy(&app, &mut clock).await;
        }
        wall.set(start);
        assert!(app.sign_in(token.expose(), HERE).await.is_err(), "setting the clock back does not bring it back");
        app.store.close();
    }

    /// The two files are not changed in one moment.
    #[tokio::test]
    async fn a_sites_new_certificate_is_taken_when_its_key_has_come_too() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let authority = rcgen::Issuer::new(ca, ca_key);
        let pair = || {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["kluis.site.example".to_owned()]).unwrap();
            (params.signed_by(&key, &authority).unwrap().pem() + &ca_pem, key.serialize_pem())
        };
        let write = |path: &Path, text: &str, second: u64| {
            std::fs::write(path, text).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_530_000 + second);
            File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        };
        let (old_chain, old_key) = pair();
        write(&chain, &old_chain, 0);
        write(&key, &old_key, 0);
        let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
        options.tls = TlsSource::Files { certificate: chain.clone(), key: key.clone() };
        let Prepared { app, mut certificate, .. } = prepare(&options).await.unwrap();
        let old = certificate.read;
        assert_eq!(old, changed(&chain, &key));

        let (new_chain, new_key) = pair();
        write(&chain, &new_chain, 1);
        renew(&app, &mut certificate, &options.tls).await;
        assert_eq!(certificate.read, old, "what does not fit is not taken");
        write(&key, &new_key, 2);
        renew(&app, &mut certificate, &options.tls).await;
        assert_ne!(certificate.read, old);
        assert_eq!(certificate.read, changed(&chain, &key));
        app.store.close();
    }
}
