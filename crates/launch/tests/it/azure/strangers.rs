//! Who is not of the run gets nothing, and nothing is left when the run is over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::run_of;
use crate::harness::{Ended, Run, Running, bwrap_works, skip};

const WAIT: &str = "
print(json.dumps({'plain': os.environ['MSI_ENDPOINT'], 'secret': os.environ['MSI_SECRET'], 'url': URL,
    'vault': socket.gethostbyname(URL.split('//')[1].split(':')[0]) if 'https_proxy' not in os.environ else None,
    'proxy': os.environ.get('https_proxy')}))
sys.stdout.flush()
while not os.path.exists('stop'): time.sleep(0.02)
";

async fn waiting(run: Run) -> (Running, Value) {
    let running = run.start().await;
    running.fake.until("the addresses", |told| told.logs.iter().any(|r| r.data.starts_with(b"{\"plain"))).await;
    let out = running.fake.log(kluis_core::api::runs::Stream::Stdout);
    (running, serde_json::from_str(out.lines().next().unwrap()).unwrap())
}

async fn stop(running: Running) -> Ended {
    std::fs::write(running.folder.path().join("runs/test_1-1/tree/stop"), "").unwrap();
    running.finish().await
}

fn plain(said: &Value) -> SocketAddr {
    said["plain"].as_str().unwrap().trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

/// What a stranger hears: nothing, and then the end.
fn heard(address: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _closed = stream.write_all(request.as_bytes());
    let mut heard = Vec::new();
    let _reset = stream.read_to_end(&mut heard);
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_of_the_same_user_who_knows_every_secret_hears_nothing() {
    for confine in ["bwrap", "landlock"] {
        if confine == "bwrap" && !bwrap_works() {
            continue;
        }
        let run = run_of(WAIT).await.secret("mine", "only for the run").hand_over("confine", json!(confine));
        let (running, said) = waiting(run).await;
        let resource = format!("https://{}", said["url"].as_str().unwrap().split_once('.').unwrap().1);
        let secret = said["secret"].as_str().unwrap();
        let request = format!("GET /msi/token?resource={resource} HTTP/1.1\r\nHost: x\r\nsecret: {secret}\r\n\r\n");
        assert_eq!(heard(plain(&said), &request), b"");
        if let Some(vault) = said["vault"].as_str() {
            let port: u16 = said["url"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
            assert_eq!(heard((vault.parse::<std::net::IpAddr>().unwrap(), port).into(), "GET / HTTP/1.1\r\n\r\n"), b"");
        }
        if let Some(proxy) = said["proxy"].as_str() {
            let address = proxy.trim_start_matches("http://").parse().unwrap();
            assert_eq!(heard(address, "CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n"), b"", "no way through for strangers");
        }
        let ended = stop(running).await;
        ended.succeeded();
        assert!(ended.system().contains("only processes that were started by the run"), "{}", ended.system());
        assert!(ended.fake.told().reads_of_secrets.is_empty());
        // Nothing is left.
        assert!(TcpStream::connect(plain(&said)).is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_hears_nothing() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        skip("only root can start a process of another user");
        return;
    }
    let (running, said) = waiting(run_of(WAIT).await).await;
    let script = "import socket,sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 20)\n\
                  s.sendall(b'GET /msi/token HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\nprint(s.recv(10))";
    let other = std::process::Command::new("/usr/bin/python3")
        .args(["-c", script, &plain(&said).port().to_string()])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let heard = String::from_utf8_lossy(&other.stdout).into_owned();
    let complained = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(heard == "b''\n" || complained.contains("ConnectionResetError"), "{heard}{complained}");
    let ended = stop(running).await;
    assert!(ended.system().contains("only processes of the run's own user"), "{}", ended.system());
}

#[tokio::test]
async fn heads_and_bodies_are_bounded() {
    let script = "
host, port = os.environ['AZUREML_SERVICE_ENDPOINT'].split('//')[1].split(':')
def raw(data):
    with socket.create_connection((host, int(port)), 20) as s:
        try:
            s.sendall(data)
        except ConnectionError:
            pass
        try:
            return s.recv(100).decode().split('\\r')[0]
        except ConnectionError:
            return ''
long = raw(b'GET /discovery HTTP/1.1\\r\\nHost: x\\r\\nX: ' + b'x' * 100_000 + b'\\r\\n\\r\\n')
many = raw(b'GET /discovery HTTP/1.1\\r\\nHost: x\\r\\n' + b''.join(b'X%d: 1\\r\\n' % n for n in range(500)) + b'\\r\\n')
base = os.environ['AZUREML_SERVICE_ENDPOINT'] + '/credential/v2.0/subscriptions/' + os.environ['AZUREML_ARM_SUBSCRIPTION'] + \\
    '/resourceGroups/kluis/providers/Microsoft.MachineLearningServices/workspaces/default/secrets:getbatch'
token = {'Authorization': 'Bearer ' + os.environ['AZUREML_RUN_TOKEN']}
try:
    large = ask(base, 'POST', token, b'[' + b' ' * 9_000_000 + b']')[0]
except (urllib.error.URLError, ConnectionError):
    large = 400  # hung up on while it was still sending
unread = ask(base, 'POST', {}, b'{}')[0]
print(json.dumps([long, many, large, unread]))
";
    let said = super::said(&run_of(script).await.finish().await);
    assert!(said[0].as_str().is_some_and(|line| line.is_empty() || line.contains("431")), "{said}");
    assert!(said[1].as_str().is_some_and(|line| line.is_empty() || line.contains("431")), "{said}");
    assert_eq!((&said[2], &said[3]), (&json!(400), &json!(401)));
}
