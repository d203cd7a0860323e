//! The client itself: a server, perhaps a credential, and the calls of `native`. Cheap to clone; connections are shared.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use kluis_core::api::identity::ClientLogin;
use kluis_core::api::{Page, PageQuery};
use kluis_core::plaintext::Plaintext;

use crate::config::{ConfigError, Login, Resolved};
use crate::credentials::Credential;
use crate::error::Error;
use crate::http::{Call, Transport};
use crate::trust::Server;

/// A typed client of one server. Every method is one call of the native API; the wire types are `kluis_core::api`'s.
///
/// Errors are [`Error`]; a call that is harmless to repeat has been repeated before it fails.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    token: Option<Arc<Plaintext>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { transport, token } = self;
        f.debug_struct("Client").field("server", transport.server()).field("signed_in", &token.is_some()).finish()
    }
}

impl Client {
    /// Without a login: what is public, and signing in.
    pub fn anonymous(server: &Server) -> Self {
        Self { transport: Transport::new(server.clone()), token: None }
    }

    /// As the holder of this credential, on the server that it was made for.
    pub fn signed_in(credential: &Credential) -> Self {
        Self {
            transport: Transport::new(credential.server().clone()),
            token: Some(Arc::new(credential.token().clone())),
        }
    }

    /// As whoever the configuration says, signing in first where that takes a call. Sends nothing when there is no login.
    pub async fn connect(resolved: &Resolved) -> Result<Self, Error> {
        let server = &resolved.server;
        match &resolved.login {
            Login::Token(credential) => Ok(Self::signed_in(credential)),
            Login::Client { id, secret } => {
                let login = ClientLogin { client_id: *id, client_secret: secret.clone() };
                let issued = Self::anonymous(server).login_client(&login).await?;
                Ok(Self::signed_in(&Credential::new(server.clone(), issued.token, Some(issued.principal.name))))
            }
            Login::None { hint } => Err(ConfigError::NotSignedIn { origin: server.origin.clone(), hint }.into()),
        }
    }

    /// The server that is called.
    pub fn server(&self) -> &Server {
        self.transport.server()
    }

    /// Everything that a paged list has, in its order: `Client::all(|page| client.secrets(&workspace, page))`.
    pub async fn all<T, Fetch, Answer>(mut fetch: Fetch) -> Result<Vec<T>, Error>
    where
        Fetch: FnMut(PageQuery) -> Answer,
        Answer: Future<Output = Result<Page<T>, Error>>,
    {
        let mut items = Vec::new();
        let mut query = PageQuery::default();
        loop {
            let page = fetch(query).await?;
            items.extend(page.items);
            match page.next {
                Some(next) => query = PageQuery { limit: None, after: Some(next) },
                None => return Ok(items),
            }
        }
    }

    pub(crate) fn call(&self, action: &'static str, method: Method, path: &[&str]) -> Call<'_> {
        let call = self.transport.call(action, method, path);
        match &self.token {
            Some(token) => call.bearer(token.expose()),
            None => call,
        }
    }

    pub(crate) fn get(&self, action: &'static str, path: &[&str]) -> Call<'_> {
        self.call(action, Method::GET, path)
    }

    pub(crate) fn post(&self, action: &'static str, path: &[&str]) -> Call<'_> {
        self.call(action, Method::POST, path)
    }

    pub(crate) fn put(&self, action: &'static str, path: &[&str]) -> Call<'_> {
        self.call(action, Method::PUT, path)
    }

    pub(crate) fn patch(&self, action: &'static str, path: &[&str]) -> Call<'_> {
        self.call(action, Method::PATCH, path)
    }

    pub(crate) fn delete(&self, action: &'static str, path: &[&str]) -> Call<'_> {
        self.call(action, Method::DELETE, path)
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(crate) async fn download(&self, action: &'static str, call: Call<'_>) -> Result<Download, Error> {
        let response = call.patience(None).send().await?;
        Ok(Download { transport: self.transport.clone(), action, response })
    }
}

/// A body that arrives piece by piece.
pub struct Download {
    pub(crate) transport: Transport,
    pub(crate) action: &'static str,
    pub(crate) response: reqwest::Response,
}

/// A server that says nothing for so long in the middle of a body is gone.
const STALLED: Duration = Duration::from_mins(2);

impl Download {
    /// How many bytes there are, when the server said so.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next piece; nothing at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match tokio::time::timeout(STALLED, self.response.chunk()).await {
            Ok(result) => result.map_err(|error| self.transport.failure(self.action, &error)),
            Err(_) => Err(Error::Unreachable {
                action: self.action,
                origin: self.transport.origin().clone(),
                reason: "the download stalled".to_owned(),
            }),
        }
    }

    /// Writes everything to `out` and says how much it was.
    pub async fn write_to(mut self, out: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Result<u64, Error> {
        use tokio::io::AsyncWriteExt;
        let action = self.action;
        let io = |source| Error::Io { action: format!("{action}: writing"), source };
        let mut bytes = 0;
        while let Some(chunk) = self.chunk().await? {
            out.write_all(&chunk).await.map_err(io)?;
            bytes += chunk.len() as u64;
        }
        out.flush().await.map_err(io)?;
        Ok(bytes)
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("action", &self.action).finish_non_exhaustive()
    }
}
