//! A proxy for https on loopback, for runs that can not have a hosts file of their own. `CONNECT` to the vault's name reaches
//! the launcher's vault; to any other place it reaches that place, through the proxy that the run was given if it was given
//! one. Only processes of the run are served, so nobody else gets a way anywhere by it; and the run gets none that it has
//! not: the launcher is of the same user on the same network.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::http;
use super::vault::Vault;
use crate::membership::Member;

/// The largest head of a request or of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// How long a head, or a connection to another place, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Another proxy, on the way to everything but the vault.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Upstream {
    authority: String,
    /// The header that it is given.
    credentials: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.authority)
    }
}

impl Upstream {
    /// Of `http://[USER:PASSWORD@]HOST[:PORT][/]`; `None` for what can not be chained to, such as a proxy behind TLS.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) => scheme.eq_ignore_ascii_case("http").then_some(rest)?,
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        if authority.is_empty() || authority.contains(['/', '?', '#', ' ']) || authority.chars().any(char::is_control) {
            return None;
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let credentials = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let plain = format!("{}:{}", http::decoded(name)?, http::decoded(password)?);
            Some(Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(plain.as_bytes()))))
        });
        Some(Self { authority, credentials: credentials.map(|c| c.ok_or(())).transpose().ok()? })
    }
}

/// Serves one connection of a process of the run.
pub(super) async fn serve(mut stream: TcpStream, member: Member, vault: Arc<Vault>, upstream: Option<Upstream>) {
    let Ok(Some(head)) = timeout(PATIENCE, read_head(&mut stream)).await else { return };
    let Some(place) = place(&head) else {
        return say(&mut stream, "405 Method Not Allowed").await;
    };
    if vault.names.is_vault(&place) {
        if stream.write_all(ESTABLISHED).await.is_ok() {
            vault.serve(stream, member).await;
        }
        return;
    }
    let connected = match &upstream {
        None => timeout(PATIENCE, TcpStream::connect(&place)).await.ok().and_then(Result::ok),
        Some(upstream) => timeout(PATIENCE, through(upstream, &place)).await.ok().flatten(),
    };
    let Some(mut there) = connected else {
        return say(&mut stream, "502 Bad Gateway").await;
    };
    if stream.write_all(ESTABLISHED).await.is_ok() {
        let _either_hung_up = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
    }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

async fn say(stream: &mut TcpStream, status: &str) {
    let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _hung_up = stream.write_all(reply.as_bytes()).await;
    let _hung_up = stream.shutdown().await;
}

/// Up to the empty line, and no byte further: what follows belongs to the other end.
async fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    let mut piece = [0; 1024];
    loop {
        // Looked at before it is taken, so that nothing behind the head is.
        let seen = stream.peek(&mut piece).await.ok().filter(|seen| *seen > 0)?;
        let known = head.len();
        head.extend_from_slice(&piece[..seen]);
        let start = known.saturating_sub(3);
        let end = head[start..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| start + at + 4);
        let take = end.map_or(seen, |end| end - known);
        stream.read_exact(&mut piece[..take]).await.ok()?;
        if let Some(end) = end {
            head.truncate(end);
            return Some(head);
        }
        if head.len() > MAX_HEAD {
            return None;
        }
    }
}

/// Where a `CONNECT` wants to go: `HOST:PORT`.
fn place(head: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    let (method, place, version) = (words.next()?, words.next()?, words.next()?);
    let (host, port) = place.rsplit_once(':')?;
    let good = method == "CONNECT" && version.starts_with("HTTP/1.") && words.next().is_none();
    let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b));
    (good && named && port.parse::<u16>().is_ok()).then(|| place.to_owned())
}

/// A connection through another proxy.
async fn through(upstream: &Upstream, place: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(&upstream.authority).await.ok()?;
    let credentials = upstream.credentials.as_ref().map_or("", |c| c.as_str());
    let request = Zeroizing::new(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{credentials}\r\n"));
    stream.write_all(request.as_bytes()).await.ok()?;
    let head = read_head(&mut stream).await?;
    let status = std::str::from_utf8(&head).ok()?.split(' ').nth(1)?;
    status.starts_with('2').then_some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connect_to_a_host_and_port_goes_anywhere() {
        for good in ["a.vault.localhost:8443", "10.1.2.3:443", "[::1]:443"] {
            assert_eq!(place(format!("CONNECT {good} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).as_deref(), Some(good));
        }
        for bad in [
            "GET http://example.org/ HTTP/1.1",
            "CONNECT example.org HTTP/1.1",
            "CONNECT :443 HTTP/1.1",
            "CONNECT example.org:99999 HTTP/1.1",
            "CONNECT a b:443 HTTP/1.1",
            "CONNECT /etc/passwd:443 HTTP/1.1",
            "CONNECT example.org:443",
            "",
        ] {
            assert_eq!(place(format!("{bad}\r\n\r\n").as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn another_proxy_is_chained_to_if_it_speaks_plain_http() {
        let upstream = Upstream::parse("http://ada:p%40ss@proxy.example.org:3128/").unwrap();
        assert_eq!(upstream.authority, "proxy.example.org:3128");
        assert_eq!(upstream.credentials.as_ref().unwrap().as_str(), "Proxy-Authorization: Basic YWRhOnBAc3M=\r\n");
        assert_eq!(format!("{upstream:?}"), "Upstream(proxy.example.org:3128)");
        assert_eq!(Upstream::parse("proxy.example.org").unwrap().authority, "proxy.example.org:80");
        for other in ["https://proxy.example.org", "socks5://x:1", "http://", "http://x y", "http://a/b"] {
            assert_eq!(Upstream::parse(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn what_follows_a_head_is_left_for_the_other_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"CONNECT a:1 HTTP/1.1\r\n").await.unwrap();
        let reading = read_head(&mut server);
        let (head, ()) = tokio::join!(reading, async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.write_all(b"\r\nhello").await.unwrap();
        });
        assert_eq!(head.unwrap(), b"CONNECT a:1 HTTP/1.1\r\n\r\n");
        let mut rest = [0; 5];
        server.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"hello");
        client.write_all(&vec![b'x'; 40_000]).await.unwrap();
        assert!(read_head(&mut server).await.is_none(), "too long");
    }
}
