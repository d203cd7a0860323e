//! The run's own hosts file. It stands over the machine's in the run's mount namespace and says where the vault is: at an
//! address of loopback that is this run's alone, chosen by chance, so that the vault's port can be the server's there. Where
//! that can not work (no such namespace, a port below 1024, an answer that other services give first) the vault's name is
//! resolved by a proxy instead, see [`super::proxy`].

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use kluis_core::rng::Rng;
use tokio::net::TcpListener;

const HOSTS: &str = "/etc/hosts";
/// Sockets of services that answer in place of the file.
const CACHES: [&str; 2] = ["/run/nscd/socket", "/var/run/nscd/socket"];
/// A listener on the whole port would refuse every address; one is taken by another run once in millions.
const TRIES: u32 = 3;

/// The machine's hosts file, as the file that is really there; `None` where it would not be asked first.
pub(super) fn machines() -> Option<PathBuf> {
    if CACHES.iter().any(|path| Path::new(path).exists()) {
        return None;
    }
    // Without the file the C library's own order holds, in which files come early enough.
    let order = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let path = Path::new(HOSTS).canonicalize().ok().filter(|path| path.is_file())?;
    files_first(&order).then_some(path)
}

/// Whether the hosts file is asked before anything else.
fn files_first(order: &str) -> bool {
    let line = order.lines().find_map(|line| line.trim().strip_prefix("hosts:"));
    line.is_none_or(|line| line.split_ascii_whitespace().next() == Some("files"))
}

/// A listener on a loopback address of its own, at this port.
pub(super) async fn listen(port: u16) -> Option<TcpListener> {
    for _ in 0..TRIES {
        let mut chance = [0; 3];
        kluis_client::SystemRng.fill(&mut chance);
        // Not in 127.0.0.0/16, where machines have listeners of their own.
        let address = Ipv4Addr::new(127, 16 + chance[0] % 224, chance[1], 1 + chance[2] % 254);
        match TcpListener::bind(SocketAddrV4::new(address, port)).await {
            Ok(listener) => return Some(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(_) => return None,
        }
    }
    None
}

/// The run's file: ours first, then the machine's.
pub(super) fn content(address: Ipv4Addr, names: &[&str], machine: &Path) -> std::io::Result<String> {
    let machine = std::fs::read_to_string(machine)?;
    Ok(format!("{address} {}\n{machine}", names.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_counts_only_where_it_is_asked_first() {
        for first in ["hosts: files dns", "passwd: files\nhosts:\tfiles myhostname resolve [!UNAVAIL=return] dns", ""] {
            assert!(files_first(first), "{first}");
        }
        for later in ["hosts: mymachines resolve [!UNAVAIL=return] files dns", "hosts: dns files", "hosts:"] {
            assert!(!files_first(later), "{later}");
        }
    }

    #[tokio::test]
    async fn two_runs_have_the_same_port_at_two_addresses() {
        let first = listen(0).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let second = listen(port).await.unwrap();
        assert_ne!(first.local_addr().unwrap().ip(), second.local_addr().unwrap().ip());
        assert!(second.local_addr().unwrap().ip().is_loopback());
        let whole = TcpListener::bind("0.0.0.0:0").await.unwrap();
        assert!(listen(whole.local_addr().unwrap().port()).await.is_none(), "a listener on every address has the port");
    }
}
