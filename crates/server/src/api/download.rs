//! Streamed answers. A stream that fails half way ends the connection without its proper end, so a client never takes a
//! part for the whole.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};

use crate::blobs::BlobStream;
use crate::error::Result;

/// A stored file, as bytes of unknown kind: a browser saves it and never shows it.
#[derive(Debug)]
pub(crate) struct Download(pub(crate) BlobStream);

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        let length = self.0.length();
        let stream = self.0.into_stream().inspect(|item| {
            if let Err(error) = item {
                tracing::error!(%error, "a download was cut off");
            }
        });
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
            (CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
            (CONTENT_LENGTH, HeaderValue::from(length)),
        ];
        (headers, Body::from_stream(stream)).into_response()
    }
}

/// JSON lines, as they come.
#[derive(Debug)]
pub(super) struct JsonLines(Body);

impl JsonLines {
    pub(super) fn new(lines: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self(Body::from_stream(lines.inspect(|item| {
            if let Err(error) = item {
                tracing::warn!(%error, "a stream of lines was cut off");
            }
        })))
    }
}

impl IntoResponse for JsonLines {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"))], self.0).into_response()
    }
}
