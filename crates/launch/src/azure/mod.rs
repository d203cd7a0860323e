//! In a run, unmodified Azure clients just work: they find an identity, their vault and the run's history on loopback, served
//! by the launcher. All of it is a face of what the broker does: nothing here reads a value, changes a tag or takes a metric
//! in another way than the run's UNIX socket does.
//!
//! | what | where |
//! |---|---|
//! | tokens for the vault | plain http on 127.0.0.1, [`identity`] |
//! | `azureml-core`'s services | the same listener, [`azureml`] |
//! | where `azureml-core` uploads files | a host below the vault's, [`files`] |
//! | the vault, under the name that it has outside | TLS with an authority of the run's own, [`trust`], [`vault`] |
//! | its name in the run | a hosts file of the run's own, [`hosts`]; else a proxy, [`proxy`] |
//! | who may connect | the same user and a descendant of the launcher, [`peers`] |
//! | what clients are told | [`variables`] |
//!
//! Nothing of this is needed for a run to start: what can not be had here is said in the run's system log and left out.

mod azureml;
mod files;
mod hosts;
mod http;
mod identity;
mod names;
mod peers;
mod proxy;
mod tokens;
mod trust;
mod variables;
mod vault;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use kluis_client::trust::Origin;
use kluis_core::api::agents::AttemptId;
use kluis_core::api::session::RunContext;
use kluis_core::clock::Clock;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::broker::Desk;
use crate::clock::SteadyClock;
use crate::confine::{Covers, Wall};
use crate::environment::Environment;
use crate::harden;
use crate::membership::Member;
use crate::place::{PrivateFolder, WorkFolder};
use azureml::History;
use files::Files;
pub(crate) use http::Listening;
use http::Reply;
use names::Names;
use proxy::Upstream;
use tokens::{Life, Tokens};
use trust::Certificate;
use vault::Vault;

/// Everything that is there before the run starts.
pub(crate) struct Azure {
    names: Names,
    clock: Arc<SteadyClock>,
    plain: Arc<TcpListener>,
    /// Shown by clients that ask for a token.
    secret: Zeroizing<String>,
    run_tokens: Arc<Tokens>,
    vault_tokens: Arc<Tokens>,
    trust: Option<Trust>,
    way: Way,
    notes: Vec<String>,
    /// Where files on their way to the server are laid down.
    uploads: PathBuf,
}

/// The certificate and the files that tell the run of it.
#[derive(Debug)]
struct Trust {
    certificate: Certificate,
    /// The system's roots and the authority.
    all: Option<PathBuf>,
    authority: PathBuf,
}

/// How the vault's name leads to the launcher.
#[derive(Debug)]
enum Way {
    /// By a hosts file, which stands over the machine's.
    Hosts { listener: Arc<TcpListener>, file: PathBuf, over: PathBuf },
    /// By a proxy.
    Proxy { listener: Arc<TcpListener> },
    /// Not at all.
    None,
}

impl std::fmt::Debug for Azure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Azure").field("names", &self.names).field("way", &self.way).finish_non_exhaustive()
    }
}

impl Azure {
    /// Listens, makes the certificate and writes what the run will read. Beside the redeeming of the ticket, which takes
    /// longer.
    pub(crate) async fn prepare(
        attempt: &AttemptId,
        server: &Origin,
        private: &PrivateFolder,
        work: &WorkFolder,
        wall: Option<Wall>,
    ) -> std::io::Result<Self> {
        let plain = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let names = Names::of(&attempt.workspace, server);
        let clock = Arc::new(SteadyClock::start());
        let folder = private.path().to_owned();
        let making = tokio::task::spawn_blocking({
            let (names, clock, folder) = (names.clone(), clock.clone(), folder.clone());
            move || Trust::make(&names, &clock, &folder)
        });
        let way = Way::find(&names, &folder, wall).await;
        let mut notes = Vec::new();
        let trust = match making.await.map_err(std::io::Error::other).and_then(|made| made) {
            Ok(trust) => Some(trust),
            Err(error) => {
                notes.push(format!("Azure clients do not find the vault in this run: {error}"));
                None
            }
        };
        if trust.as_ref().is_some_and(|trust| trust.all.is_none()) {
            notes.push(
                "this machine has no list of trusted roots (ca-certificates), so REQUESTS_CA_BUNDLE and SSL_CERT_FILE are \
                 not set: of the Azure clients only Node's trust the vault in this run"
                    .to_owned(),
            );
        }
        harden::lock_heap();
        let subject = attempt.run.as_str();
        Ok(Self {
            secret: tokens::random_hex(),
            run_tokens: Arc::new(Tokens::new("urn:kluis:azureml", subject, Life::Run, clock.clone())),
            vault_tokens: Arc::new(Tokens::new(names.url.resource(), subject, Life::Short, clock.clone())),
            names,
            clock,
            plain,
            trust,
            way,
            notes,
            uploads: work.root.join("uploads"),
        })
    }

    /// The file that stands over the machine's hosts file in the run, and that file.
    pub(crate) fn hosts(&self) -> Option<(PathBuf, PathBuf)> {
        match &self.way {
            Way::Hosts { file, over, .. } => Some((file.clone(), over.clone())),
            Way::Proxy { .. } | Way::None => None,
        }
    }

    /// Tells the run's processes.
    pub(crate) fn add_to(
        &self,
        environment: &mut Environment,
        context: &RunContext,
        private: &PrivateFolder,
        work: &WorkFolder,
        covers: &Covers,
    ) {
        let run_token = self.run_tokens.issue();
        let proxy = match &self.way {
            Way::Proxy { listener } if self.trust.is_some() && self.upstream(context).is_ok() => port(listener),
            _ => None,
        };
        let reachable = proxy.is_some() || matches!(self.way, Way::Hosts { .. });
        let trust = self.trust.as_ref().filter(|_| reachable);
        let trusted = trust.map(|trust| variables::Trusted { all: trust.all.as_deref(), authority: &trust.authority });
        let Some(plain) = port(&self.plain) else { return };
        let offer = variables::Offer {
            names: &self.names,
            plain,
            secret: &self.secret,
            run_token: &run_token,
            trust: trusted,
            proxy,
        };
        for (name, value) in offer.variables(context) {
            environment.set(name, value);
        }
        // A bundle of the submitter's is theirs, and the authority with it.
        let Some(trust) = trust else { return };
        for (index, name) in variables::BUNDLES.into_iter().chain([variables::EXTRA_BUNDLE]).enumerate() {
            let theirs = variables::given(context, &[name]).and_then(|path| readable(&work.tree.join(path), covers));
            let Some(theirs) = theirs else { continue };
            let file = format!("ca-{index}.pem");
            match trust::write(private.path(), &file, &[&theirs, &trust.certificate.authority]) {
                Ok(path) => environment.set(name, path),
                Err(error) => tracing::warn!(%error, "a bundle of certificates could not be written"),
            }
        }
    }

    /// From now on the run is answered, until what this gives is dropped.
    pub(crate) fn serve(&self, desk: &Arc<Desk>) -> Vec<Listening> {
        for note in &self.notes {
            desk.logs.system(note);
        }
        let files = Arc::new(Files::new(desk.clone(), self.uploads.clone(), self.names.clone()));
        let vault = self.trust.as_ref().map(|trust| {
            Arc::new(Vault {
                files: files.clone(),
                names: self.names.clone(),
                tokens: self.vault_tokens.clone(),
                desk: desk.clone(),
                tls: TlsAcceptor::from(trust.certificate.tls.clone()),
            })
        });
        let plain = Arc::new(Plain {
            names: self.names.clone(),
            secret: self.secret.clone(),
            tokens: self.vault_tokens.clone(),
            history: History::new(desk.clone(), files, self.run_tokens.clone(), self.clock.clone()),
        });
        let mut listening = vec![Listening::start(self.plain.clone(), desk.clone(), move |stream, member| {
            let plain = plain.clone();
            http::serve(stream, move |request| {
                let plain = plain.clone();
                async move { plain.answer(request, member).await }
            })
        })];
        match (&self.way, vault) {
            (Way::Hosts { listener, .. }, Some(vault)) => {
                listening.push(Listening::start(listener.clone(), desk.clone(), move |stream, member| {
                    vault.clone().serve(stream, member)
                }));
            }
            (Way::Proxy { listener }, Some(vault)) => match self.upstream(&desk.context) {
                Ok(upstream) => {
                    listening.push(Listening::start(listener.clone(), desk.clone(), move |stream, member| {
                        proxy::serve(stream, member, vault.clone(), upstream.clone())
                    }));
                }
                Err(()) => desk.logs.system(
                    "Azure clients do not find the vault in this run: its name needs a proxy here, and the run's own \
                     HTTPS_PROXY is none that can be chained to (only http:// is)",
                ),
            },
            _ => {}
        }
        listening
    }

    /// The proxy that the submission names, if any; an error when it can not be chained to.
    fn upstream(&self, context: &RunContext) -> Result<Option<Upstream>, ()> {
        let given = variables::given(context, &["https_proxy", "HTTPS_PROXY"]);
        given.map(|url| Upstream::parse(url).ok_or(())).transpose()
    }
}

/// What the plain listener answers.
struct Plain {
    names: Names,
    secret: Zeroizing<String>,
    tokens: Arc<Tokens>,
    history: History,
}

impl Plain {
    async fn answer(&self, request: Request<Incoming>, member: Member) -> Reply {
        if request.uri().path() == identity::PATH {
            identity::answer(&request, &self.names, &self.secret, &self.tokens)
        } else {
            self.history.answer(request, member).await
        }
    }
}

impl Trust {
    fn make(names: &Names, clock: &SteadyClock, folder: &Path) -> std::io::Result<Self> {
        let certificate =
            Certificate::make(&names.host, &[files::host(names)], clock.now()).map_err(std::io::Error::other)?;
        let authority = trust::write(folder, "authority.pem", &[&certificate.authority])?;
        let all = match trust::system() {
            Some(system) => Some(trust::write(folder, "ca.pem", &[&system, &certificate.authority])?),
            None => None,
        };
        Ok(Self { certificate, all, authority })
    }
}

impl Way {
    /// By a hosts file, where the run has a mount namespace and the vault's port can be had; else by a proxy.
    async fn find(names: &Names, folder: &Path, wall: Option<Wall>) -> Self {
        if wall == Some(Wall::Bwrap)
            && let Some(over) = hosts::machines()
            && let Some(listener) = hosts::listen(names.port).await
            && let Ok(SocketAddr::V4(address)) = listener.local_addr()
            && let Ok(content) = hosts::content(*address.ip(), &[&names.host, &files::host(names)], &over)
            && let Ok(file) = trust::write(folder, "hosts", &[&content])
        {
            return Self::Hosts { listener: Arc::new(listener), file, over };
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
            Ok(listener) => Self::Proxy { listener: Arc::new(listener) },
            Err(_) => Self::None,
        }
    }
}

fn port(listener: &TcpListener) -> Option<u16> {
    listener.local_addr().ok().map(|address| address.port())
}

/// The certificates of a bundle that the submitter named, unless it lies where the run can not look.
fn readable(path: &Path, covers: &Covers) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let kept = covers.kept.iter().any(|kept| real.starts_with(kept));
    (kept || !covers.hides(&real)).then(|| trust::certificates(&real))?
}
