//! `kluis up`: the server, the login of whoever starts it first, and the agent for the target `server`, which speaks HTTPS
//! like any other.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kluis_client::Client;
use kluis_client::config::UserFile;
use kluis_client::credentials::{Credential, Credentials};
use kluis_client::trust::Server as Address;
use kluis_core::access::PrincipalKind;
use kluis_core::api::agents::Confine;
use kluis_core::api::identity::{CreateInvite, RedeemInvite};
use kluis_core::name::{ComputeName, PrincipalName, WorkspaceName};
use kluis_runner::engine::ProcessEngine;
use kluis_runner::{Agent, AgentOptions};
use kluis_server::config::{HostName, RootKeyOption, TlsSource};
use kluis_server::{Running, Server, ServerOptions};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::agent;
use super::login::machine;
use crate::args::{Data, Up};
use crate::context::Context;
use crate::covered;
use crate::failure::{Failure, Outcome};
use crate::vault_names::{self, VaultHost};

/// Before an agent that gave up is started anew.
const PAUSE: Duration = Duration::from_secs(30);

pub(super) fn up(context: &Context<'_>, up: Up) -> Outcome<u8> {
    agent::log_to_stderr(context);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("a runtime: {e}")))?;
    runtime.block_on(serve(context, up))
}

/// What the server is started with; also for work on a stopped one.
pub(super) fn options(context: &Context<'_>, data: &Data) -> Outcome<ServerOptions> {
    let owner = context.environment.user.as_deref().and_then(|user| PrincipalName::parse(user).ok());
    let owner = match owner {
        Some(owner) => owner,
        None => PrincipalName::parse("owner")?,
    };
    let mut options = ServerOptions::new(context.data_folder(data.data.as_deref())?, owner);
    options.owner_label = machine();
    options.root_key = match &data.passphrase_file {
        Some(file) => RootKeyOption::Passphrase(passphrase(file)?),
        None => RootKeyOption::File(data.root_key_file.clone()),
    };
    Ok(options)
}

/// The passphrase on a file's first line.
pub(super) fn passphrase(file: &Path) -> Outcome<Zeroizing<String>> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(Failure::failed(format!("{}: its first line is empty", file.display()))),
    }
}

async fn serve(context: &Context<'_>, up: Up) -> Outcome<u8> {
    let mut options = options(context, &up.data)?;
    options.listen.clone_from(&up.listen);
    options.hosts = up.hosts.clone();
    options.hosts.extend(listened_host(&up.listen));
    if let (Some(certificate), Some(key)) = (&up.tls_cert, &up.tls_key) {
        options.tls = TlsSource::Files { certificate: certificate.clone(), key: key.clone() };
    }
    let host = host(&up.listen, &options)?;
    // The owner's login is nowhere else: that it can be written is known before it is made.
    let config = context.config_folder()?;
    let mut logins = Credentials::load(&config)?;
    writable(&config)?;
    let data = options.data.clone();
    let stop = agent::stop_on_signals()?;
    let mut running = Server::start(options).await?;
    let address = address(&host, &running)?;
    signed_in(context, &config, &mut logins, &address, &mut running).await?;
    let keys = [Some(running.root_key().to_owned()), up.data.passphrase_file.clone(), up.tls_key.clone()];
    let own: Vec<PathBuf> = [data.clone(), config].into_iter().chain(keys.into_iter().flatten()).collect();
    let own = covered::absolute_all(&own)?;
    if let Err(failure) = covered::note(context, &own) {
        let error = failure.message;
        tracing::warn!(
            error,
            "agents of this user can not be told where the data and keys are: their runs may see them"
        );
    }
    let note = |text: String| context.out.note(text);
    note(format!("data in {}", data.display()));
    note(format!(
        "the root key is {}: keep a copy elsewhere, for without it everything is lost",
        running.root_key().display()
    ));
    note(format!("from elsewhere: kluis login {} --ca-sha256 {}", address.origin, address.ca_sha256));
    context.out.line(format_args!("ready {}", address.origin));
    if let Some(hosts) = vaults_unresolved(&address).await {
        note(format!("note for Azure's clients: {hosts}"));
    }

    // The port is open; what follows can take its time.
    tokio::spawn(give_back());
    if up.no_runner {
        note("the compute target `server` is not served (--no-runner)".to_owned());
        stop.cancelled().await;
    } else {
        let runner = Runner { context, up: &up, data: &data, own: &own, running: &running };
        runner.serve(&address, &stop).await;
    }
    tracing::info!("stopping; runs go on");
    running.shutdown().await;
    Ok(0)
}

/// How long after `ready` a start is over: the integrity check of a small installation, the agent's first questions.
const SETTLED: Duration = Duration::from_secs(2);

/// Gives back what only the start needed. The allocator would keep it, and a server that waits should cost little.
async fn give_back() {
    tokio::time::sleep(SETTLED).await;
    trim();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc's malloc_trim has no safe wrapper")]
fn trim() {
    // SAFETY: it takes no pointer, touches free memory only, and may be called by any thread at any time.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// A specific address or name to listen on is one that clients use.
fn listened_host(listen: &str) -> Option<HostName> {
    let host: HostName = listen.rsplit_once(':')?.0.parse().ok()?;
    match &host {
        HostName::Ip(ip) if ip.is_unspecified() || ip.is_loopback() => None,
        HostName::Dns(name) if name == "localhost" => None,
        _ => Some(host),
    }
}

/// The host by which this machine reaches the server: where it listens; with a site's certificate, the first name that
/// the certificate is made out for.
fn host(listen: &str, options: &ServerOptions) -> Outcome<String> {
    let here = match listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host) {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let TlsSource::Files { certificate, .. } = &options.tls else { return Ok(here.to_owned()) };
    let named = options.hosts.iter().cloned().chain(here.parse());
    for host in named {
        if options.tls.is_for(&host)? {
            return Ok(match host {
                HostName::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
                host => host.to_string(),
            });
        }
    }
    Err(Failure::usage(format!(
        "{} is not made out for {here}: say with --host under which of its names this server is reached",
        certificate.display()
    )))
}

/// How this machine reaches the server, and what it recognises it by.
fn address(host: &str, running: &Running) -> Outcome<Address> {
    let bad = |what: &str| Failure::failed(format!("{what} of this server can not be written down"));
    let origin = format!("https://{host}:{}", running.addr().port()).parse().map_err(|_| bad("the address"))?;
    let pin = running.ca_sha256().and_then(|pin| pin.parse().ok());
    Ok(Address { origin, ca_sha256: pin.ok_or_else(|| bad("the pin"))? })
}

/// What to add for Azure's clients on this machine, if they would not find the first workspace's vault.
async fn vaults_unresolved(address: &Address) -> Option<String> {
    let vault = VaultHost::new(&address.origin, &WorkspaceName::parse("default").ok()?).ok()?;
    vault_names::unresolved(&vault).await
}

fn writable(config: &Path) -> Outcome<()> {
    use std::os::unix::fs::DirBuilderExt;
    let fail = |e: std::io::Error| Failure::failed(format!("the config folder {}: {e}", config.display()));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(config).map_err(fail)?;
    tempfile(config).map_err(fail)
}

fn tempfile(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe))
}

/// Keeps the owner's login on this machine usable: new at first start, moved when port or authority have changed.
async fn signed_in(
    context: &Context<'_>,
    config: &Path,
    logins: &mut Credentials,
    address: &Address,
    running: &mut Running,
) -> Outcome<()> {
    let Some(first) = running.first_start() else { return move_login(config, logins, address, running).await };
    context.warn_of_network_folder()?;
    logins.put(Credential::new(address.clone(), first.token, Some(first.owner.clone())));
    logins.save()?;
    context.out.note(format_args!("first start: {} owns this installation and is signed in", first.owner));
    let mut user = UserFile::load(config)?;
    user.address = Some(address.origin.clone());
    user.ca_sha256 = Some(address.ca_sha256);
    user.workspace = Some(WorkspaceName::parse("default")?);
    Ok(user.save(config)?)
}

/// A login that this installation issued is its login at whatever address and with whatever authority it has now. The
/// installation itself says which ones are (docs/adr/0014).
async fn move_login(config: &Path, logins: &mut Credentials, address: &Address, running: &Running) -> Outcome<()> {
    if logins.find(address).is_some() {
        return Ok(());
    }
    let Some((moved, before)) = issued_here(logins, address, running).await else { return Ok(()) };
    // Another name of the same server may well go on working; another port of this one does not.
    if before.origin.host() == address.origin.host() {
        logins.remove(&before);
    }
    logins.put(moved);
    logins.save()?;
    let mut user = UserFile::load(config)?;
    if user.address.as_ref() == Some(&before.origin) {
        user.address = Some(address.origin.clone());
        user.ca_sha256 = Some(address.ca_sha256);
        user.save(config)?;
    }
    Ok(())
}

/// A login of this installation, made out for this address, and the address that it had.
async fn issued_here(logins: &Credentials, address: &Address, running: &Running) -> Option<(Credential, Address)> {
    for login in logins.entries() {
        let moved = login.moved_to(address.clone(), async |token| running.knows(token).await).await;
        if let Some(moved) = moved {
            return Some((moved, login.server().clone()));
        }
    }
    None
}

/// The built-in agent.
struct Runner<'r> {
    context: &'r Context<'r>,
    up: &'r Up,
    data: &'r Path,
    /// What this server's runs must not see, besides what no run may.
    own: &'r [PathBuf],
    running: &'r Running,
}

impl Runner<'_> {
    /// Serves `server` until the stop. An agent that gives up is said at once, and started anew after a pause.
    async fn serve(&self, address: &Address, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let error = match self.agent(address.clone()).await {
                Ok(agent) => match agent.run(stop.clone()).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Err(failure) => failure.message,
            };
            tracing::error!(error, "the compute target `server` is not served; trying again");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn agent(&self, address: Address) -> Outcome<Agent<Client, ProcessEngine>> {
        let engine = agent::engine(self.context, self.up.launcher.as_deref())?;
        let client = self.login(address).await?;
        let mut options = AgentOptions {
            slots: self.up.slots,
            confine: if self.up.unsafe_local { Confine::None } else { Confine::Auto },
            ..agent::options(self.context, compute()?, self.folder())?
        };
        options.covered.extend_from_slice(self.own);
        Ok(Agent::new(client, engine, options)?)
    }

    fn folder(&self) -> PathBuf {
        self.data.join("agent")
    }

    /// The agent's own login, beside its state; at first it is made with the owner's.
    async fn login(&self, address: Address) -> Outcome<Client> {
        let mut own = Credentials::load(&self.folder())?;
        if own.find(&address).is_none()
            && let Some((moved, _)) = issued_here(&own, &address, self.running).await
        {
            for server in own.entries().iter().map(|c| c.server().clone()).collect::<Vec<_>>() {
                own.remove(&server);
            }
            own.put(moved);
            own.save()?;
        }
        if let Some(credential) = own.find(&address) {
            return Ok(Client::signed_in(credential));
        }
        let owner = self.context.credentials()?;
        let owner = owner.find(&address).ok_or_else(|| {
            Failure::failed(
                "its agent has no login yet, and the owner is not signed in here; start `kluis up` as the owner once",
            )
        })?;
        let invite = CreateInvite {
            name: PrincipalName::parse("server")?,
            kind: PrincipalKind::Agent,
            membership: None,
            compute: Some(compute()?),
            life_seconds: Some(60),
        };
        let invited = Client::signed_in(owner).invite_create(&invite).await?;
        let redeem = RedeemInvite { code: invited.code, label: "built-in agent".to_owned() };
        let issued = Client::anonymous(&address).login_invite(&redeem).await?;
        own.put(Credential::new(address.clone(), issued.token, Some(issued.principal.name)));
        own.save()?;
        let credential = own.find(&address).expect("it was just put there");
        Ok(Client::signed_in(credential))
    }
}

fn compute() -> Outcome<ComputeName> {
    Ok(ComputeName::parse("server")?)
}
