//! `kluis up`: the server, the login of whoever starts it first, and the agent for the target `server`, which speaks HTTPS
//! like any other.

use std::path::{Path, PathBuf};

use kluis_client::Client;
use kluis_client::config::UserFile;
use kluis_client::credentials::{Credential, Credentials};
use kluis_client::trust::{CaPin, Origin, Server as Address};
use kluis_core::access::PrincipalKind;
use kluis_core::api::agents::Confine;
use kluis_core::api::identity::{CreateInvite, RedeemInvite};
use kluis_core::name::{ComputeName, PrincipalName, WorkspaceName};
use kluis_runner::{Agent, AgentOptions};
use kluis_server::config::{HostName, RootKeyOption, TlsSource};
use kluis_server::{Running, Server, ServerOptions};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::agent::{self, GRACE_SECONDS};
use super::login::machine;
use crate::args::{Data, Up};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

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

fn passphrase(file: &Path) -> Outcome<Zeroizing<String>> {
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
    // The owner's login is nowhere else: that it can be written is known before it is made.
    let config = context.config_folder()?;
    let mut logins = Credentials::load(&config)?;
    writable(&config)?;
    let data = options.data.clone();
    let stop = agent::stop_on_signals()?;
    let mut running = Server::start(options).await?;
    let address = address(&up, &running)?;
    if let Some(address) = &address {
        signed_in(context, &config, &mut logins, address, &mut running)?;
    }
    let note = |text: String| context.out.note(text);
    note(format!("data in {}", data.display()));
    if let Some(address) = &address {
        let Address { origin, ca_sha256 } = address;
        note(format!("from elsewhere: kluis login {origin} --ca-sha256 {ca_sha256}"));
    }
    context.out.line(format_args!("ready https://{}", shown(&up.listen, &running)));

    // The port is open; what follows can take its time.
    let stopping = CancellationToken::new();
    let agent = match address {
        Some(address) if !up.no_runner => {
            let runner = Runner { context, up: &up, data: &data, config: &config };
            match runner.agent(&logins, address).await {
                Ok(agent) => Some(tokio::spawn(agent.run(stopping.clone()))),
                Err(failure) => {
                    tracing::error!(error = failure.message, "the compute target `server` is not served");
                    None
                }
            }
        }
        _ => None,
    };
    stop.cancelled().await;
    tracing::info!("stopping; runs go on");
    stopping.cancel();
    if let Some(agent) = agent {
        match agent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the agent had stopped"),
            Err(error) => tracing::warn!(%error, "the agent had stopped"),
        }
    }
    running.shutdown().await;
    Ok(0)
}

/// A specific address or name to listen on is one that clients use.
fn listened_host(listen: &str) -> Option<HostName> {
    let host: HostName = listen.rsplit_once(':')?.0.parse().ok()?;
    match &host {
        HostName::Ip(ip) if ip.is_unspecified() || ip.is_loopback() => None,
        HostName::Dns(name) if name == "localhost" => None,
        _ => Some(host),
    }
}

/// `HOST:PORT` as asked for, with the port that it became.
fn shown(listen: &str, running: &Running) -> String {
    let host = listen.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("{host}:{}", running.addr().port())
}

/// How this machine reaches the server; `None` with a site's certificate, whose issuer only the site knows.
fn address(up: &Up, running: &Running) -> Outcome<Option<Address>> {
    let Some(pin) = running.ca_sha256() else { return Ok(None) };
    let bad = |what: &str| Failure::failed(format!("{what} of this server can not be written down"));
    let origin: Origin = format!("https://{}", shown(&up.listen, running)).parse().map_err(|_| bad("the address"))?;
    let ca_sha256: CaPin = pin.parse().map_err(|_| bad("the pin"))?;
    Ok(Some(Address { origin, ca_sha256 }))
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

/// Keeps the owner's login on this machine usable: new at first start, moved when port or CA have changed.
fn signed_in(
    context: &Context<'_>,
    config: &Path,
    logins: &mut Credentials,
    address: &Address,
    running: &mut Running,
) -> Outcome<()> {
    if let Some(first) = running.first_start() {
        logins.put(Credential::new(address.clone(), first.token, Some(first.owner.clone())));
        logins.save()?;
        context.out.note(format_args!("first start: {} owns this installation and is signed in", first.owner));
        context.out.note(format_args!(
            "the root key is {}: keep a copy elsewhere, for without it everything is lost",
            first.root_key.display()
        ));
        let mut user = UserFile::load(config)?;
        user.address = Some(address.origin.clone());
        user.ca_sha256 = Some(address.ca_sha256);
        user.workspace = Some(WorkspaceName::parse("default")?);
        user.save(config)?;
        return Ok(());
    }
    move_login(config, logins, address)
}

/// The same CA at another port of the same host is this installation: it has just been opened here.
fn move_login(config: &Path, logins: &mut Credentials, address: &Address) -> Outcome<()> {
    if logins.find(address).is_none() {
        let same = |c: &&Credential| {
            c.server().ca_sha256 == address.ca_sha256 && c.server().origin.host() == address.origin.host()
        };
        let Some(moved) = logins.entries().iter().find(same).map(|c| c.moved_to(address.clone())) else {
            return Ok(());
        };
        let before: Vec<Address> = logins.entries().iter().filter(same).map(|c| c.server().clone()).collect();
        for server in before {
            logins.remove(&server);
        }
        logins.put(moved);
        logins.save()?;
    }
    let mut user = UserFile::load(config)?;
    if user.ca_sha256 == Some(address.ca_sha256) && user.address.as_ref() != Some(&address.origin) {
        user.address = Some(address.origin.clone());
        user.save(config)?;
    }
    Ok(())
}

/// The built-in agent.
struct Runner<'r> {
    context: &'r Context<'r>,
    up: &'r Up,
    data: &'r Path,
    config: &'r Path,
}

impl Runner<'_> {
    async fn agent(
        &self,
        owner: &Credentials,
        address: Address,
    ) -> Outcome<Agent<Client, kluis_runner::engine::ProcessEngine>> {
        let engine = agent::engine(self.context, self.up.launcher.as_deref())?;
        let client = self.login(owner, address).await?;
        let options = AgentOptions {
            compute: compute()?,
            only: None,
            mine: false,
            slots: self.up.slots,
            devices: Vec::new(),
            state: self.folder(),
            covered: vec![self.data.to_owned(), self.config.to_owned(), self.context.state_folder()?],
            python: None,
            confine: if self.up.unsafe_local { Confine::None } else { Confine::Auto },
            grace_seconds: GRACE_SECONDS,
        };
        Ok(Agent::new(client, engine, options)?)
    }

    fn folder(&self) -> PathBuf {
        self.data.join("agent")
    }

    /// The agent's own login, beside its state; at first it is made with the owner's.
    async fn login(&self, owner: &Credentials, address: Address) -> Outcome<Client> {
        let mut own = Credentials::load(&self.folder())?;
        if own.find(&address).is_none()
            && let Some(moved) = own.entries().first().map(|c| c.moved_to(address.clone()))
        {
            // The data folder is this installation's: its agent's login is too, whatever port and CA it has now.
            for server in own.entries().iter().map(|c| c.server().clone()).collect::<Vec<_>>() {
                own.remove(&server);
            }
            own.put(moved);
            own.save()?;
        }
        if let Some(credential) = own.find(&address) {
            return Ok(Client::signed_in(credential));
        }
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
