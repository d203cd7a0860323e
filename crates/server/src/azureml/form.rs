//! Forms with files, part by part as they arrive. What is not read away is bounded, and so is the whole; each part of a
//! connection's patience, too.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use multer::{Constraints, Field, Multipart, SizeLimit};

use crate::error::{Error, Result};

/// How long the next bytes may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much may lie unread: headers of a part that have no end, mostly.
const MAX_UNREAD: usize = 1024 * 1024;

/// A form.
pub(super) struct Form {
    parts: Multipart<'static>,
    unread: Arc<AtomicUsize>,
    limit: u64,
}

/// One part of it.
pub(super) struct Part {
    field: Field<'static>,
    unread: Arc<AtomicUsize>,
    limit: u64,
}

impl Form {
    /// The form in a request, of at most `limit` bytes in all.
    pub(super) fn new(request: Request, limit: u64) -> Result<Self> {
        let said = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let boundary = multer::parse_boundary(said)
            .map_err(|_| Error::bad_request("the body must be a form: `content-type: multipart/form-data`"))?;
        let unread = Arc::new(AtomicUsize::new(0));
        let bytes = request.into_body().into_data_stream();
        let paced = Paced { bytes: Box::pin(bytes), unread: unread.clone(), rest: false };
        let constraints = Constraints::new().size_limit(SizeLimit::new().whole_stream(limit));
        Ok(Self { parts: Multipart::with_constraints(paced, boundary, constraints), unread, limit })
    }

    /// The next part; the one before has been read or is passed over.
    pub(super) async fn next(&mut self) -> Result<Option<Part>> {
        let next = tokio::time::timeout(PATIENCE, self.parts.next_field()).await.map_err(|_| slow())?;
        let field = next.map_err(|e| refused(&e, self.limit))?;
        // What was passed over and what were headers is read.
        self.unread.store(0, Ordering::Relaxed);
        Ok(field.map(|field| Part { field, unread: self.unread.clone(), limit: self.limit }))
    }
}

impl Part {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.field.name().unwrap_or_default()
    }

    /// The file's name, as the other side says.
    pub(super) fn file_name(&self) -> &str {
        self.field.file_name().unwrap_or_default()
    }

    /// The whole part, of at most so many bytes.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if whole.len() + bytes.len() > limit {
                return Err(Error::TooLarge { limit: limit as u64 });
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }

    /// Its bytes, as they arrive.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
        futures_util::stream::try_unfold(
            self,
            |mut this| async move { Ok(this.chunk().await?.map(|bytes| (bytes, this))) },
        )
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let next = tokio::time::timeout(PATIENCE, self.field.chunk()).await.map_err(|_| slow())?;
        let bytes = next.map_err(|e| refused(&e, self.limit))?;
        if let Some(bytes) = &bytes {
            let read = bytes.len();
            let less = |unread: usize| Some(unread.saturating_sub(read));
            let _before = self.unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(bytes)
    }
}

/// The body, one piece at a time: the parser takes all that it is given before it looks, so it is given little, and
/// after so much that nobody has read, nothing.
struct Paced<S> {
    bytes: Pin<Box<S>>,
    unread: Arc<AtomicUsize>,
    rest: bool,
}

impl<S: Stream<Item = std::result::Result<Bytes, axum::Error>>> Stream for Paced<S> {
    type Item = std::result::Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.rest) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.bytes.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            self.rest = true;
            if self.unread.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() > MAX_UNREAD {
                let why = "a part of the form has headers without an end";
                return Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other(why)))));
            }
        }
        polled
    }
}

fn slow() -> Error {
    Error::bad_request("nothing of the body arrived for 30 s")
}

/// The parser's own words may hold names of the form.
fn refused(error: &multer::Error, limit: u64) -> Error {
    match error {
        multer::Error::StreamSizeExceeded { .. } => Error::TooLarge { limit },
        _ => Error::bad_request("the form is not understood, or was cut off"),
    }
}
