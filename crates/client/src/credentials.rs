//! Logins on this machine: `credentials.json` in the config folder, 0600, one user's. Each is keyed by origin and CA pin,
//! and a [`Credential`] can not be taken apart from the server that it was made for.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kluis_core::file_system::network_kind;
use kluis_core::name::PrincipalName;
use kluis_core::plaintext::Plaintext;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::trust::{CaPin, Origin, Server};

/// The file's name in the config folder.
pub const FILE: &str = "credentials.json";

/// A token and the one server that may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    #[serde(flatten)]
    server: Server,
    token: Plaintext,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<PrincipalName>,
}

impl Credential {
    /// A token that this server issued, or that its user says belongs to it.
    pub fn new(server: Server, token: Plaintext, principal: Option<PrincipalName>) -> Self {
        Self { server, token, principal }
    }

    /// Where it may be sent.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The same login for an address or a CA that the same installation has now, if that installation says that it
    /// issued the token. Only `kluis up` can ask it so: it has just opened the installation's keys in this process, so
    /// the token goes nowhere to find out. See docs/adr/0014.
    pub async fn moved_to(&self, server: Server, issued_here: impl AsyncFnOnce(&Plaintext) -> bool) -> Option<Self> {
        issued_here(&self.token).await.then(|| Self { server, ..self.clone() })
    }

    /// Whose it is, if known.
    pub fn principal(&self) -> Option<&PrincipalName> {
        self.principal.as_ref()
    }

    pub(crate) fn token(&self) -> &Plaintext {
        &self.token
    }
}

/// The credentials file can not be used. Never holds its content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It can not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Others can read it, so it is not read.
    #[error(
        "{path} can be read by others (mode {mode:o}); make it private with `chmod 600` and change the tokens in it"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not ours.
    #[error("{path} is not a credentials file (line {line}, column {column}); remove it and sign in again")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
}

/// The logins of one config folder.
#[derive(Debug)]
pub struct Credentials {
    path: PathBuf,
    entries: Vec<Credential>,
}

#[derive(Serialize, Deserialize)]
struct FileContent {
    credentials: Vec<Credential>,
}

impl Credentials {
    /// Reads the config folder's logins; none when there is no file.
    pub fn load(config_folder: &Path) -> Result<Self, CredentialsError> {
        let path = config_folder.join(FILE);
        let io = |source| CredentialsError::Io { path: path.clone(), source };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, entries: Vec::new() });
            }
            Err(error) => return Err(io(error)),
        };
        let metadata = file.metadata().map_err(io)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(CredentialsError::Exposed { mode: metadata.mode() & 0o777, path });
        }
        // Room for everything at once, so that growing leaves no copies behind.
        let mut content = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        std::io::Read::read_to_end(&mut &file, &mut content).map_err(io)?;
        let FileContent { credentials } = serde_json::from_slice(&content).map_err(|error| {
            CredentialsError::Malformed { path: path.clone(), line: error.line(), column: error.column() }
        })?;
        Ok(Self { path, entries: credentials })
    }

    /// The login for exactly this server.
    pub fn find(&self, server: &Server) -> Option<&Credential> {
        self.entries.iter().find(|entry| entry.server == *server)
    }

    /// The pins that logins for this origin were made with.
    pub fn pins(&self, origin: &Origin) -> impl Iterator<Item = CaPin> {
        self.entries.iter().filter(move |entry| entry.server.origin == *origin).map(|entry| entry.server.ca_sha256)
    }

    /// All of them.
    pub fn entries(&self) -> &[Credential] {
        &self.entries
    }

    /// Puts a login in the place of the one for the same server.
    pub fn put(&mut self, credential: Credential) {
        self.remove(&credential.server.clone());
        self.entries.push(credential);
    }

    /// Forgets the login for a server; says whether there was one.
    pub fn remove(&mut self, server: &Server) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.server != *server);
        self.entries.len() < before
    }

    /// Writes them: a new private file that takes the old one's place, so that a crash leaves one or the other.
    pub fn save(&self) -> Result<(), CredentialsError> {
        let folder = self.path.parent().expect("the file was joined to a folder");
        let content = FileContent { credentials: self.entries.clone() };
        let json = Zeroizing::new(serde_json::to_vec_pretty(&content).expect("credentials are JSON"));
        write_private(folder, &self.path, &json)
            .map_err(|source| CredentialsError::Io { path: self.path.clone(), source })
    }
}

/// The kind of a network file system that a folder lies on, if it does: other machines and their administrators see what
/// is written there, and a lock or a rename may not be what it seems. For a warning; magic numbers as in `statfs(2)`.
pub fn network_file_system(folder: &Path) -> Option<&'static str> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    network_kind(rustix::fs::statfs(existing).ok()?.f_type as u64 & 0xffff_ffff)
}

/// Replaces a file of the config folder: folder 0700 (when it is made here), file 0600, on disk before it is seen.
pub(crate) fn write_private(folder: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?; // 0600
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECTORY.bits() as i32)
        .open(folder)?
        .sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn credential(address: &str, ca: &[u8], token: &str) -> Credential {
        let server = Server { origin: Origin::parse(address).unwrap(), ca_sha256: CaPin::of_certificate(ca) };
        Credential::new(server, Plaintext::from_text(token).unwrap(), Some(PrincipalName::parse("ann").unwrap()))
    }

    #[test]
    fn a_login_is_found_by_origin_and_pin_together() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        let mut credentials = Credentials::load(&config).unwrap();
        credentials.put(credential("a.example.org", b"one", "t1"));
        credentials.put(credential("a.example.org", b"two", "t2"));
        credentials.put(credential("a.example.org", b"two", "t3"));
        credentials.save().unwrap();
        let credentials = Credentials::load(&config).unwrap();
        let token =
            |address, ca| credentials.find(credential(address, ca, "").server()).map(|c| c.token().expose().to_owned());
        assert_eq!(token("a.example.org", b"one").as_deref(), Some("t1"));
        assert_eq!(token("a.example.org:8443", b"two").as_deref(), Some("t3"));
        assert_eq!(token("a.example.org", b"three"), None);
        assert_eq!(token("b.example.org", b"one"), None);
        assert_eq!(token("a.example.org:9000", b"one"), None);
    }

    #[test]
    fn the_file_is_private_and_an_exposed_one_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        let mut credentials = Credentials::load(&config).unwrap();
        credentials.put(credential("a.example.org", b"one", "t1"));
        credentials.save().unwrap();
        let file = config.join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&config).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Credentials::load(&config), Err(CredentialsError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn a_malformed_file_is_told_by_position() {
        let folder = tempfile::tempdir().unwrap();
        write_private(folder.path(), &folder.path().join(FILE), br#"{"credentials": ["kls_usr_hunter2"]}"#).unwrap();
        let error = Credentials::load(folder.path()).unwrap_err();
        assert!(matches!(error, CredentialsError::Malformed { line: 1, .. }));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn a_folder_on_a_network_file_system_is_recognised() {
        assert_eq!(network_kind(0x6969), Some("NFS"));
        assert_eq!(network_kind(0xff53_4d42), Some("SMB/CIFS"));
        // ext4, tmpfs, overlay: a machine's own.
        assert!([0xef53, 0x0102_1994, 0x794c_7630].into_iter().all(|own| network_kind(own).is_none()));
        assert_eq!(network_file_system(Path::new("/proc/self/absent/folder")), None);
    }

    #[tokio::test]
    async fn a_login_moves_only_when_its_installation_issued_it() {
        let login = credential("a.example.org:8443", b"one", "t1");
        let to = credential("a.example.org:9000", b"two", "").server().clone();
        let moved = login.moved_to(to.clone(), async |token| token.expose() == "t1").await.unwrap();
        assert_eq!((moved.server(), moved.token().expose()), (&to, "t1"));
        assert_eq!(login.moved_to(to, async |_| false).await, None);
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", credential("a.example.org", b"one", "hunter2")).contains("hunter2"));
    }
}
