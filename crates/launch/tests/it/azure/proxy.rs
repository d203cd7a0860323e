//! The proxy of runs that have no hosts file of their own: to the vault here, to other places there.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{run_of, said};

/// Answers each connection with `hello`, after a head if it is asked as a proxy. What it was asked is remembered.
async fn greeter(as_proxy: bool) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let remembered = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if as_proxy {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                remembered.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).into_owned());
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            }
            stream.write_all(b"hello").await.unwrap();
        }
    });
    (port, asked)
}

const CONNECT: &str = "
def connect(place):
    host, port = os.environ['https_proxy'].split('//')[1].split(':')
    with socket.create_connection((host, int(port)), 20) as s:
        s.sendall(('CONNECT %s HTTP/1.0\\r\\n\\r\\n' % place).encode())
        heard = b''
        while True:
            piece = s.recv(100)
            heard += piece
            if not piece or heard.endswith(b'hello'):
                return heard.decode().replace('\\r\\n', '|')
def other(line):
    host, port = os.environ['https_proxy'].split('//')[1].split(':')
    with socket.create_connection((host, int(port)), 20) as s:
        s.sendall(line.encode() + b'\\r\\n\\r\\n')
        return s.recv(100).decode().split('\\r')[0]
";

#[tokio::test]
async fn other_places_are_reached_directly_and_what_is_no_connect_is_refused() {
    let (port, _) = greeter(false).await;
    let script = format!(
        "{CONNECT}
print(json.dumps([connect('127.0.0.1:{port}'), connect('localhost:{port}'), connect('127.0.0.1:1'),
    other('GET http://127.0.0.1/ HTTP/1.1'), other('nonsense'), os.environ['no_proxy'], os.environ['NO_PROXY']]))"
    );
    let said = said(&run_of(&script).await.hand_over("confine", json!("landlock")).finish().await);
    let hello = "HTTP/1.1 200 Connection established||hello";
    let refused = "HTTP/1.1 405 Method Not Allowed";
    let direct = "127.0.0.1";
    assert_eq!(said[2].as_str().unwrap().split('|').next(), Some("HTTP/1.1 502 Bad Gateway"));
    assert_eq!((&said[0], &said[1]), (&json!(hello), &json!(hello)));
    assert_eq!(
        (&said[3], &said[4], &said[5], &said[6]),
        (&json!(refused), &json!(refused), &json!(direct), &json!(direct))
    );
}

#[tokio::test]
async fn the_runs_own_proxy_is_chained_to_for_everything_but_the_vault() {
    let (port, asked) = greeter(true).await;
    let script = format!(
        "{CONNECT}
through = connect('example.invalid:443')
status, _, body = vault('/secrets/db/?api-version=7.6')
print(json.dumps([through, status, os.environ['HTTPS_PROXY'] == os.environ['https_proxy'], '{port}' in os.environ['https_proxy']]))"
    );
    let theirs = format!("http://ada:pass@127.0.0.1:{port}");
    let run = run_of(&script).await.hand_over("confine", json!("landlock")).secret("db", "correct horse");
    let ended = run.context("environment", json!({"HTTPS_PROXY": theirs})).finish().await;
    assert_eq!(said(&ended), json!(["HTTP/1.1 200 Connection established||hello", 200, true, false]));
    let asked = asked.lock().unwrap();
    let expected = "CONNECT example.invalid:443 HTTP/1.1\r\nHost: example.invalid:443\r\n\
                    Proxy-Authorization: Basic YWRhOnBhc3M=\r\n\r\n";
    assert_eq!(*asked, [expected]);
}
