//! Files that `azureml-core` uploads from the run. That client speaks the blob service's dialect to a host
//! `ACCOUNT.blob.SUFFIX` over https, so there is such a host below the vault's name, under the same certificate. What
//! arrives is laid down in the run's folder and then goes the way of every file of the run.
//!
//! Of the dialect: a blob at once, or in blocks that are listed in the order in which they came, and its size.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderValue, LAST_MODIFIED};
use hyper::{Method, Request, Response, StatusCode};
use kluis_client::Error;
use kluis_core::api::azureml::{data_container, run_of_container};
use kluis_core::name::RunId;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

use super::http::{self, Reply};
use super::names::Names;
use super::tokens::same;
use crate::broker::Desk;
use crate::files::{FileError, Source, output_name};
use crate::retry;

/// The account, and what stands between it and the vault's name.
pub(super) const PREFIX: &str = "run.blob.";
/// The largest file, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024 * 1024;
/// How long a piece of a body may take.
const PIECE: Duration = Duration::from_mins(1);
/// So many files are uploaded in blocks at once.
const MOST_AT_ONCE: usize = 64;
/// So many uploaded ones are remembered.
const MOST_REMEMBERED: usize = 10_000;
/// The largest list of blocks, in bytes.
const MAX_LIST: usize = 8 * 1024 * 1024;

/// A file of a run: of which, and its name.
type Key = (RunId, String);

/// A file that is coming in.
#[derive(Debug, Default)]
struct Coming {
    blocks: Vec<String>,
    bytes: u64,
}

/// The blob service of a run.
pub(super) struct Files {
    desk: Arc<Desk>,
    /// Where files are laid down.
    folder: PathBuf,
    names: Names,
    /// In the addresses that the client is given, which it asks without a token.
    signature: Zeroizing<String>,
    coming: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Coming>>>>,
    uploaded: Mutex<BTreeMap<Key, u64>>,
}

/// The host below the vault's name.
pub(super) fn host(names: &Names) -> String {
    format!("{PREFIX}{}", names.host)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock held")
}

/// Why a file is not taken.
struct Refused(StatusCode, &'static str);

fn reply(status: StatusCode, code: Option<&'static str>) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    // Clients parse them, and nothing hangs on what they say.
    headers.insert(ETAG, HeaderValue::from_static("\"0x1\""));
    headers.insert(LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    if let Some(code) = code {
        headers.insert("x-ms-error-code", HeaderValue::from_static(code));
    }
    reply
}

/// What the run may not name twice: one spelling of a file on disk.
fn file_of(key: &Key) -> String {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

impl Files {
    pub(super) fn new(desk: Arc<Desk>, folder: PathBuf, names: Names) -> Self {
        let (coming, uploaded) = (Mutex::default(), Mutex::default());
        Self { desk, folder, names, signature: super::tokens::random_hex(), coming, uploaded }
    }

    /// Where to upload these files of a run to.
    pub(super) fn places(&self, run: &RunId, paths: &[String]) -> Value {
        let container = data_container(run);
        let mut artifacts = serde_json::Map::new();
        let mut information = serde_json::Map::new();
        for path in paths {
            let uri = format!(
                "https://{PREFIX}{}/{container}/{}?sv=1&sig={}",
                self.names.url.to_string().trim_start_matches("https://"),
                encoded(path),
                *self.signature
            );
            artifacts.insert(path.clone(), artifact(&container, path));
            let place = json!({"contentUri": uri, "origin": "ExperimentRun", "container": container, "path": path});
            information.insert(path.clone(), place);
        }
        json!({"artifacts": artifacts, "artifactContentInformation": information, "errors": {}})
    }

    /// What was uploaded this way.
    pub(super) fn list(&self, run: &RunId) -> Value {
        let container = data_container(run);
        let uploaded = lock(&self.uploaded);
        let of_run = uploaded.keys().filter(|(of, _)| of == run);
        let value: Vec<Value> = of_run.map(|(_, path)| artifact(&container, path)).collect();
        json!({"value": value, "continuationToken": null})
    }

    /// Answers the blob service's client.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Reply {
        let query = request.uri().query();
        let signed = http::parameter(query, "sig").is_some_and(|signature| same(&signature, &self.signature));
        if !signed {
            return reply(StatusCode::FORBIDDEN, Some("AuthenticationFailed"));
        }
        let Some(key) = self.key(request.uri().path()) else {
            return reply(StatusCode::NOT_FOUND, Some("ResourceNotFound"));
        };
        let comp = http::parameter(query, "comp");
        let outcome = match (request.method(), comp.as_deref()) {
            (&Method::PUT, None) => self.whole(key, request.into_body()).await,
            (&Method::PUT, Some("block")) => {
                let id = http::parameter(query, "blockid").unwrap_or_default();
                self.block(key, id, request.into_body()).await
            }
            (&Method::PUT, Some("blocklist")) => self.finish(key, request.into_body()).await,
            (&Method::HEAD, None) => {
                let Some(bytes) = lock(&self.uploaded).get(&key).copied() else {
                    return reply(StatusCode::NOT_FOUND, Some("BlobNotFound"));
                };
                let mut reply = reply(StatusCode::OK, None);
                reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
                reply.headers_mut().insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
                return reply;
            }
            _ => Err(Refused(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb")),
        };
        match outcome {
            Ok(()) => reply(StatusCode::CREATED, None),
            Err(Refused(status, code)) => reply(status, Some(code)),
        }
    }

    /// `/CONTAINER/PATH`.
    fn key(&self, path: &str) -> Option<Key> {
        let segments = http::segments(path)?;
        let (container, rest) = segments.split_first()?;
        let run = run_of_container(container)?;
        output_name(&rest.join("/")).map(|name| (run, name))
    }

    async fn whole(&self, key: Key, body: Incoming) -> Result<(), Refused> {
        let coming = self.coming(&key)?;
        let mut coming = coming.lock().await;
        *coming = Coming::default();
        self.append(&key, &mut coming, body).await?;
        self.upload(key, coming.bytes).await
    }

    async fn block(&self, key: Key, id: String, body: Incoming) -> Result<(), Refused> {
        let coming = self.coming(&key)?;
        let mut coming = coming.lock().await;
        // A block that is sent again after a lost answer would be there twice.
        if coming.blocks.last() == Some(&id) {
            return Err(Refused(StatusCode::BAD_REQUEST, "InvalidBlockId"));
        }
        self.append(&key, &mut coming, body).await?;
        coming.blocks.push(id);
        Ok(())
    }

    async fn finish(&self, key: Key, body: Incoming) -> Result<(), Refused> {
        let coming = self.coming(&key)?;
        let coming = coming.lock().await;
        let list = http::body(body, MAX_LIST).await.ok_or(Refused(StatusCode::BAD_REQUEST, "InvalidBlockList"))?;
        let list = String::from_utf8_lossy(&list);
        let ids = list.split("<Latest>").skip(1).filter_map(|rest| rest.split("</Latest>").next());
        if !ids.eq(coming.blocks.iter().map(String::as_str)) {
            lock(&self.coming).remove(&key);
            return Err(Refused(StatusCode::BAD_REQUEST, "InvalidBlockList"));
        }
        self.upload(key, coming.bytes).await
    }

    fn coming(&self, key: &Key) -> Result<Arc<tokio::sync::Mutex<Coming>>, Refused> {
        let mut coming = lock(&self.coming);
        if coming.len() >= MOST_AT_ONCE && !coming.contains_key(key) {
            return Err(Refused(StatusCode::CONFLICT, "TooManyUploads"));
        }
        Ok(coming.entry(key.clone()).or_default().clone())
    }

    /// Lays down what comes behind what is there.
    async fn append(&self, key: &Key, coming: &mut Coming, mut body: Incoming) -> Result<(), Refused> {
        let here = |_| Refused(StatusCode::CONFLICT, "NoRoomInTheRunsFolder");
        tokio::fs::create_dir_all(&self.folder).await.map_err(here)?;
        let path = self.folder.join(file_of(key));
        let begin = coming.bytes == 0;
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).mode(0o600);
        if begin {
            options.write(true).truncate(true)
        } else {
            options.append(true)
        };
        let mut file = options.open(&path).await.map_err(here)?;
        let cut = || Refused(StatusCode::BAD_REQUEST, "IncompleteBody");
        while let Some(frame) = tokio::time::timeout(PIECE, body.frame()).await.map_err(|_| cut())? {
            let Ok(data) = frame.map_err(|_| cut())?.into_data() else { continue };
            coming.bytes += data.len() as u64;
            if coming.bytes > MOST_BYTES {
                return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge"));
            }
            file.write_all(&data).await.map_err(here)?;
        }
        file.flush().await.map_err(here)
    }

    /// Sends what was laid down, and forgets it.
    async fn upload(&self, key: Key, bytes: u64) -> Result<(), Refused> {
        let (run, name) = &key;
        let target = (*run != self.desk.context.run).then_some(run);
        let source = Source::folder(&self.folder, &self.desk.covers).map(Arc::new);
        let source = source.map_err(|_| Refused(StatusCode::CONFLICT, "NoRoomInTheRunsFolder"))?;
        let file = file_of(&key);
        // A name can hold a value like any other text.
        let name = self.desk.masking.text(name);
        let sent = source.upload(&self.desk.session, target, &name, Path::new(&file)).await;
        lock(&self.coming).remove(&key);
        let _gone = tokio::fs::remove_file(self.folder.join(&file)).await;
        match sent {
            Ok(_) => {
                let mut uploaded = lock(&self.uploaded);
                if uploaded.len() >= MOST_REMEMBERED {
                    uploaded.pop_first();
                }
                uploaded.insert(key, bytes);
                Ok(())
            }
            Err(FileError::Server(error)) if retry::is_definite(&error) || matches!(error, Error::Api(_)) => {
                Err(Refused(StatusCode::CONFLICT, "RefusedByTheServer"))
            }
            Err(_) => Err(Refused(StatusCode::CONFLICT, "NotUploaded")),
        }
    }
}

fn artifact(container: &str, path: &str) -> Value {
    json!({
        "artifactId": format!("ExperimentRun/{container}/{path}"), "origin": "ExperimentRun", "container": container,
        "path": path,
    })
}

/// A path as it stands in an address.
fn encoded(path: &str) -> String {
    use std::fmt::Write;
    path.bytes().fold(String::with_capacity(path.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(byte as char),
            byte => {
                let _always = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}
