//! The decision itself: an address, the pin it is recognised by, and the login that may be sent there.

use kluis_core::id::PrincipalId;
use kluis_core::name::{ComputeName, WorkspaceName};
use kluis_core::plaintext::Plaintext;

use super::{ConfigError, Environment, Flags, Project, UserFile};
use crate::credentials::{Credential, Credentials};
use crate::trust::{CaPin, Origin, Server};

/// Where the address came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line or the call.
    Flag,
    /// The environment.
    Environment,
    /// A project's file.
    Project,
    /// The user's file.
    UserFile,
    /// Nobody said anything: `127.0.0.1:8443`.
    Default,
}

/// What to call, and as whom.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The server.
    pub server: Server,
    /// Who said so.
    pub source: Source,
    /// The login for it.
    pub login: Login,
    /// The workspace, if anything named one.
    pub workspace: Option<WorkspaceName>,
    /// The compute target, if a file named one: the project's, else the user's. It only names a queue of the server.
    pub compute: Option<ComputeName>,
}

/// The login that may be sent to the server.
#[derive(Clone, Debug)]
pub enum Login {
    /// A token.
    Token(Credential),
    /// A service principal's id and secret, to be exchanged for a token.
    Client {
        /// The id.
        id: PrincipalId,
        /// The secret.
        secret: Plaintext,
    },
    /// None: only public calls are possible.
    None {
        /// Why what is there was not used, or nothing.
        hint: &'static str,
    },
}

/// Decides. Reads nothing and sends nothing.
pub fn resolve(
    flags: &Flags,
    environment: &Environment,
    project: Option<&Project>,
    user: &UserFile,
    credentials: &Credentials,
) -> Result<Resolved, ConfigError> {
    let (origin, source) = address(flags, environment, project, user)?;
    let given_pin = match (&flags.ca_sha256, &environment.ca_sha256) {
        (Some(text), _) => Some(parse("--ca-sha256", text)?),
        (None, Some(text)) => Some(parse("KLUIS_CA_SHA256", text)?),
        (None, None) => None,
    };
    let addressed_by = project.filter(|_| source == Source::Project);
    let user_pin = user.ca_sha256.filter(|_| user.address.as_ref() == Some(&origin));
    let pin = match given_pin.or(addressed_by.and_then(|p| p.ca_sha256)).or(user_pin) {
        Some(pin) => pin,
        None => stored_pin(&origin, credentials)?,
    };
    let server = Server { origin, ca_sha256: pin };
    let login = login(&server, source, environment, credentials)?;
    if let (Login::None { .. }, Some(project)) = (&login, addressed_by)
        && given_pin.is_none()
        && project.ca_sha256.is_some()
        && credentials.pins(&server.origin).next().is_some()
    {
        return Err(ConfigError::OtherPin { path: project.path.clone(), origin: server.origin });
    }
    let workspace = workspace(flags, environment, project, user)?;
    let compute = project.and_then(|p| p.compute.clone()).or_else(|| user.compute.clone());
    Ok(Resolved { server, source, login, workspace, compute })
}

fn address(
    flags: &Flags,
    environment: &Environment,
    project: Option<&Project>,
    user: &UserFile,
) -> Result<(Origin, Source), ConfigError> {
    if let Some(text) = &flags.address {
        return Ok((parse("--addr", text)?, Source::Flag));
    }
    if let Some(text) = environment.address.as_deref().filter(|t| !t.is_empty()) {
        return Ok((parse("KLUIS_ADDR", text)?, Source::Environment));
    }
    if let Some(origin) = project.and_then(|p| p.address.clone()) {
        return Ok((origin, Source::Project));
    }
    if let Some(origin) = user.address.clone() {
        return Ok((origin, Source::UserFile));
    }
    Ok((parse("the default address", "127.0.0.1")?, Source::Default))
}

fn stored_pin(origin: &Origin, credentials: &Credentials) -> Result<CaPin, ConfigError> {
    let mut pins = credentials.pins(origin);
    match (pins.next(), pins.next()) {
        (Some(pin), None) => Ok(pin),
        (Some(_), Some(_)) => Err(ConfigError::SeveralPins(origin.clone())),
        (None, _) => Err(ConfigError::UnknownServer(origin.clone())),
    }
}

fn login(
    server: &Server,
    source: Source,
    environment: &Environment,
    credentials: &Credentials,
) -> Result<Login, ConfigError> {
    let by_caller = matches!(source, Source::Flag | Source::Environment);
    let token = environment.token.as_ref().filter(|t| !t.is_empty());
    let client = match (&environment.client_id, &environment.client_secret) {
        (Some(id), Some(secret)) if !id.is_empty() && !secret.is_empty() => Some((id, secret)),
        _ => None,
    };
    if by_caller && let Some(token) = token {
        return Ok(Login::Token(Credential::new(server.clone(), token.clone(), None)));
    }
    if by_caller && let Some((id, secret)) = client {
        return Ok(Login::Client { id: parse("KLUIS_CLIENT_ID", id)?, secret: secret.clone() });
    }
    if let Some(stored) = credentials.find(server) {
        return Ok(Login::Token(stored.clone()));
    }
    let unused = !by_caller && (token.is_some() || client.is_some());
    let hint = if unused {
        " (KLUIS_TOKEN and KLUIS_CLIENT_SECRET are only sent to an address given by --addr or KLUIS_ADDR)"
    } else {
        ""
    };
    Ok(Login::None { hint })
}

fn workspace(
    flags: &Flags,
    environment: &Environment,
    project: Option<&Project>,
    user: &UserFile,
) -> Result<Option<WorkspaceName>, ConfigError> {
    if let Some(text) = &flags.workspace {
        return parse("--workspace", text).map(Some);
    }
    if let Some(text) = environment.workspace.as_deref().filter(|t| !t.is_empty()) {
        return parse("KLUIS_WORKSPACE", text).map(Some);
    }
    Ok(project.map(|p| p.workspace.clone()).or_else(|| user.workspace.clone()))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(place: &str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error: T::Err| ConfigError::Invalid { place: place.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(of: &str) -> CaPin {
        CaPin::of_certificate(of.as_bytes())
    }

    fn server(address: &str, ca: &str) -> Server {
        Server { origin: Origin::parse(address).unwrap(), ca_sha256: pin(ca) }
    }

    fn stored(entries: &[(&str, &str, &str)]) -> Credentials {
        let mut credentials = Credentials::load(std::path::Path::new("/nonexistent")).unwrap();
        for (address, ca, token) in entries {
            let token = Plaintext::from_text(token).unwrap();
            credentials.put(Credential::new(server(address, ca), token, None));
        }
        credentials
    }

    fn project(address: Option<&str>, ca: Option<&str>) -> Project {
        Project {
            path: "/p/.kluis/config.json".into(),
            address: address.map(|a| Origin::parse(a).unwrap()),
            workspace: WorkspaceName::parse("theirs").unwrap(),
            ca_sha256: ca.map(pin),
            compute: None,
            azure: None,
        }
    }

    fn token_in(environment: &str) -> Environment {
        Environment { token: Some(Plaintext::from_text(environment).unwrap()), ..Environment::default() }
    }

    fn sent(resolved: &Resolved) -> Option<&str> {
        match &resolved.login {
            Login::Token(credential) => Some(credential.token().expose()),
            Login::Client { secret, .. } => Some(secret.expose()),
            Login::None { .. } => None,
        }
    }

    #[test]
    fn a_hostile_project_file_gets_no_credential() {
        let credentials = stored(&[("good.example.org", "good", "mine")]);
        let environment = token_in("from-environment");
        let user = UserFile {
            address: Some(Origin::parse("good.example.org").unwrap()),
            ca_sha256: Some(pin("good")),
            ..UserFile::default()
        };
        let go = |p: &Project| resolve(&Flags::default(), &environment, Some(p), &user, &credentials);
        // Another origin, with a pin of its own: nothing to send, and the reason is said.
        let resolved = go(&project(Some("evil.example.org"), Some("evil"))).unwrap();
        assert_eq!(sent(&resolved), None);
        assert!(matches!(&resolved.login, Login::None { hint } if hint.contains("--addr")));
        // Another origin with the good pin, and the good origin on another port: a credential has both of its own.
        assert_eq!(sent(&go(&project(Some("evil.example.org"), Some("good"))).unwrap()), None);
        assert_eq!(sent(&go(&project(Some("good.example.org:444"), Some("good"))).unwrap()), None);
        // The good origin with another pin would let somebody in the middle.
        let error = go(&project(Some("good.example.org"), Some("evil"))).unwrap_err();
        assert!(matches!(error, ConfigError::OtherPin { .. }), "{error}");
        // Without a pin there is nothing to recognise it by.
        assert!(matches!(go(&project(Some("evil.example.org"), None)), Err(ConfigError::UnknownServer(_))));
    }

    #[test]
    fn an_honest_project_file_finds_the_login_that_is_there() {
        let credentials = stored(&[("good.example.org", "good", "mine")]);
        for ca in [Some("good"), None] {
            let project = project(Some("good.example.org"), ca);
            let go = resolve(
                &Flags::default(),
                &token_in("from-environment"),
                Some(&project),
                &UserFile::default(),
                &credentials,
            );
            assert_eq!(sent(&go.unwrap()), Some("mine"), "{ca:?}");
        }
    }

    #[test]
    fn the_compute_target_is_the_projects_else_the_users() {
        let credentials = stored(&[("good.example.org", "good", "mine")]);
        let name = |name: &str| Some(ComputeName::parse(name).unwrap());
        let mut theirs = project(Some("good.example.org"), None);
        let user = UserFile { compute: name("mine"), ..UserFile::default() };
        let go = |project: &Project, user: &UserFile| {
            resolve(&Flags::default(), &Environment::default(), Some(project), user, &credentials).unwrap().compute
        };
        assert_eq!(go(&theirs, &UserFile::default()), None);
        assert_eq!(go(&theirs, &user), name("mine"));
        theirs.compute = name("theirs");
        assert_eq!(go(&theirs, &user), name("theirs"));
    }

    #[test]
    fn a_token_from_the_environment_goes_where_the_caller_says() {
        let mut environment = token_in("ci");
        environment.address = Some("ci.example.org".into());
        environment.ca_sha256 = Some(pin("ci").to_string());
        let project = project(Some("evil.example.org"), Some("evil"));
        let none = stored(&[]);
        let user = UserFile::default();
        let resolved = resolve(&Flags::default(), &environment, Some(&project), &user, &none).unwrap();
        assert_eq!((sent(&resolved), &resolved.server), (Some("ci"), &server("ci.example.org", "ci")));
        assert_eq!(resolved.workspace.unwrap().as_str(), "theirs");
        let flags = Flags { address: Some("flag.example.org".into()), ..Flags::default() };
        let resolved = resolve(&flags, &environment, None, &user, &none).unwrap();
        assert_eq!((resolved.source, resolved.server.origin.host()), (Source::Flag, "flag.example.org"));
    }

    #[test]
    fn flag_environment_project_user_in_this_order() {
        let credentials = stored(&[("a.example.org", "a", "t")]);
        let mut flags =
            Flags { address: Some("a.example.org".into()), workspace: Some("f".into()), ..Flags::default() };
        let mut environment = Environment { workspace: Some("e".into()), ..Environment::default() };
        let project = project(None, None);
        let user = UserFile { workspace: Some(WorkspaceName::parse("u").unwrap()), ..UserFile::default() };
        let mut seen = Vec::new();
        for step in 0..4 {
            match step {
                1 => flags.workspace = None,
                2 => environment.workspace = None,
                _ => {}
            }
            let project = (step < 3).then_some(&project);
            let resolved = resolve(&flags, &environment, project, &user, &credentials).unwrap();
            seen.push(resolved.workspace.unwrap().to_string());
        }
        assert_eq!(seen, ["f", "e", "theirs", "u"]);
    }

    #[test]
    fn a_service_principal_signs_in_with_id_and_secret() {
        let environment = Environment {
            address: Some("a.example.org".into()),
            client_id: Some("0".repeat(32)),
            client_secret: Some(Plaintext::from_text("s").unwrap()),
            ..Environment::default()
        };
        let credentials = stored(&[("a.example.org", "a", "t")]);
        let resolved = resolve(&Flags::default(), &environment, None, &UserFile::default(), &credentials).unwrap();
        assert!(matches!(resolved.login, Login::Client { .. }));
    }

    #[test]
    fn mistakes_are_told_by_place() {
        let go = |flags: Flags| {
            resolve(&flags, &Environment::default(), None, &UserFile::default(), &stored(&[])).unwrap_err().to_string()
        };
        assert!(go(Flags { address: Some("http://x".into()), ..Flags::default() }).starts_with("--addr:"));
        assert!(go(Flags { ca_sha256: Some("x".into()), ..Flags::default() }).starts_with("--ca-sha256:"));
        assert!(go(Flags::default()).contains("https://127.0.0.1:8443 is not known"));
        let two = stored(&[("a.example.org", "1", "t"), ("a.example.org", "2", "t")]);
        let flags = Flags { address: Some("a.example.org".into()), ..Flags::default() };
        let error = resolve(&flags, &Environment::default(), None, &UserFile::default(), &two).unwrap_err();
        assert!(matches!(error, ConfigError::SeveralPins(_)));
    }
}
