//! Frames: four bytes of length, most significant first, then so much JSON. Buffers that may hold a value are wiped.

use kluis_core::api::broker::{Answer, BrokerError, MAX_FRAME, Request};
use kluis_core::api::code;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

/// What does not fit is read in pieces of this size, so that a length alone takes no memory.
const PIECE: usize = 64 * 1024;

/// The next request; `None` when the peer hung up between requests. A frame that is not a request is an error to answer;
/// one that is too large ends the conversation.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<Option<Result<Request, BrokerError>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the frame is too large"));
    }
    let mut frame = Vec::with_capacity(length.min(PIECE));
    while frame.len() < length {
        let start = frame.len();
        frame.resize((start + PIECE).min(length), 0);
        stream.read_exact(&mut frame[start..]).await?;
    }
    Ok(Some(serde_json::from_slice(&frame).map_err(|error| BrokerError {
        code: code::BAD_REQUEST.to_owned(),
        // By position: serde's own text may repeat what was sent.
        detail: format!("not a request of this protocol (line {}, column {})", error.line(), error.column()),
    })))
}

/// Sends an answer.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> std::io::Result<()> {
    let mut frame = Zeroizing::new(Vec::with_capacity(size_hint(answer)));
    frame.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *frame, answer).map_err(std::io::Error::other)?;
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        let error = BrokerError {
            code: code::TOO_LARGE.to_owned(),
            detail: format!("the answer has {length} bytes, more than fits in one; ask for fewer secrets at once"),
        };
        return Box::pin(write(stream, &Answer::Error(error))).await;
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Large enough that the buffer does not grow and leave pieces of itself behind: JSON makes at most six bytes of one.
fn size_hint(answer: &Answer) -> usize {
    match answer {
        Answer::Secrets(read) => 256 + read.items.iter().map(|item| 512 + 6 * item.value.len()).sum::<usize>(),
        _ => 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_bytes(mut bytes: &[u8]) -> std::io::Result<Option<Result<Request, BrokerError>>> {
        read(&mut bytes).await
    }

    fn frame(json: &str) -> Vec<u8> {
        [&(json.len() as u32).to_be_bytes()[..], json.as_bytes()].concat()
    }

    #[tokio::test]
    async fn a_request_is_read_and_nonsense_is_answered_without_repeating_it() {
        let request = read_bytes(&frame(r#"{"op":"flush"}"#)).await.unwrap().unwrap();
        assert_eq!(request, Ok(Request::Flush {}));
        let error = read_bytes(&frame(r#"{"op":"hunter2"}"#)).await.unwrap().unwrap().unwrap_err();
        assert!(error.code == code::BAD_REQUEST && !error.detail.contains("hunter2"), "{error:?}");
        assert!(read_bytes(&[]).await.unwrap().is_none());
        assert!(read_bytes(&frame("{}")[..5]).await.is_err());
        assert!(read_bytes(&u32::MAX.to_be_bytes()).await.is_err());
    }

    #[tokio::test]
    async fn an_answer_is_one_frame() {
        let mut out = Vec::new();
        write(&mut out, &Answer::Done {}).await.unwrap();
        assert_eq!(out, frame(r#"{"answer":"done"}"#));
    }
}
