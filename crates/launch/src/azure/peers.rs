//! Who asks over loopback TCP. The kernel says whose socket the other end is (socket diagnostics, sock_diag(7)): its user,
//! and its number, by which the process of the run that holds it is found. So a connection is admitted as on the UNIX
//! socket: the same user *and* a descendant of the launcher. Another user's process and another run's are strangers.

use std::net::SocketAddrV4;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use zeroize::Zeroizing;

use crate::membership::{Member, Stranger};
use crate::processes;

/// Variables that say a process's rank, first the most particular.
const RANKS: [&str; 5] = ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "KLUIS_RANK"];

/// What the kernel knows of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    uid: u32,
    inode: u32,
}

/// Whether the socket at `peer`, connected to ours at `local`, belongs to the run that descends from `launcher`. Reads the
/// machine's process table: not for the thread that everybody waits for.
pub(super) fn admit(peer: SocketAddrV4, local: SocketAddrV4, launcher: i32) -> Result<Member, Stranger> {
    let socket = diagnose(peer, local).map_err(|_| Stranger::Unknown)?.ok_or(Stranger::Unknown)?;
    if socket.uid != rustix::process::geteuid().as_raw() {
        return Err(Stranger::OtherUser);
    }
    let link = format!("socket:[{}]", socket.inode);
    let below = processes::below(launcher);
    let holder = below.iter().find(|process| holds(process.pid, &link) == Some(true));
    // Without walls a run of root has powers that the launcher has laid down, and then its descriptors are not shown.
    // Whoever else is root here needs no launcher to read a value; the user alone has to do.
    let closed = || below.iter().find(|process| socket.uid == 0 && holds(process.pid, &link).is_none());
    let process = holder.or_else(closed).copied().ok_or(Stranger::NotOfThisRun)?;
    // Looked at again: the id may have come to mean another process meanwhile.
    let chain = processes::chain(process.pid, launcher).ok_or(Stranger::NotOfThisRun)?;
    let same = chain.first().is_some_and(|first| first.start == process.start);
    if same { Ok(Member { process }) } else { Err(Stranger::NotOfThisRun) }
}

/// Whether a process has this socket open; `None` when that is not shown.
fn holds(pid: i32, link: &str) -> Option<bool> {
    let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    let descriptors = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(descriptors) => descriptors,
        Err(error) => return if closed(&error) { None } else { Some(false) },
    };
    for entry in descriptors.flatten() {
        match std::fs::read_link(entry.path()) {
            Ok(target) if target.as_os_str() == link => return Some(true),
            Err(error) if closed(&error) => return None,
            _ => {}
        }
    }
    Some(false)
}

/// The rank of a process of the run, from the environment that it was started with, else `node`.
pub(super) fn rank(member: Member, node: u32) -> u32 {
    // Other variables in there may hold a secret.
    let environment =
        Zeroizing::new(std::fs::read(format!("/proc/{}/environ", member.process.pid)).unwrap_or_default());
    let value = |name: &str| {
        let entry = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes()));
        std::str::from_utf8(entry?.strip_prefix(b"=")?).ok()?.parse().ok()
    };
    RANKS.iter().find_map(|name| value(name)).unwrap_or(node)
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
/// Header, then the question: see `inet_diag_req_v2` in linux/inet_diag.h.
const QUESTION: usize = 16 + 56;
/// Header, then as much of the answer as is read here: see `inet_diag_msg` there.
const ANSWER: usize = 16 + 72;

/// The socket at `peer` that is connected to `local`; `None` when there is none (any more).
fn diagnose(peer: SocketAddrV4, local: SocketAddrV4) -> rustix::io::Result<Option<Socket>> {
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let ports = [peer.port().to_be_bytes(), local.port().to_be_bytes()].concat();
    let mut question = Vec::with_capacity(QUESTION);
    question.extend((QUESTION as u32).to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(NLM_F_REQUEST.to_ne_bytes());
    question.extend([0; 8]); // sequence and sender
    question.extend([libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0]);
    question.extend(u32::MAX.to_ne_bytes()); // in whichever state
    question.extend(&ports);
    for address in [peer.ip(), local.ip()] {
        question.extend(address.octets());
        question.extend([0; 12]);
    }
    question.extend(0_u32.to_ne_bytes()); // through whichever interface
    question.extend([0xff; 8]); // whichever cookie
    rustix::net::send(&kernel, &question, SendFlags::empty())?;
    let mut answer = [0; 4096];
    // The kernel answers within the sending.
    let (length, _) = rustix::net::recv(&kernel, &mut answer[..], RecvFlags::DONTWAIT)?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    if length < ANSWER || kind != SOCK_DIAG_BY_FAMILY || answer[20..24] != ports {
        return Ok(None);
    }
    let word = |at: usize| u32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    Ok(Some(Socket { uid: word(80), inode: word(84) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::process::{Child, Command, Stdio};

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => panic!("bound to an IPv4 address"),
        }
    }

    /// A connection from another process, and that process.
    fn connected(listener: &TcpListener) -> (std::net::TcpStream, SocketAddrV4, Child) {
        let connect = "import socket,sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\ns.recv(1)";
        let child = Command::new("python3")
            .args(["-c", connect, &listener.local_addr().unwrap().port().to_string()])
            .env("RANK", "5")
            .stdin(Stdio::null())
            .spawn()
            .expect("python3 is there");
        let (stream, peer) = listener.accept().unwrap();
        (stream, v4(peer), child)
    }

    #[test]
    fn a_descendant_is_found_by_its_socket_and_a_stranger_of_the_same_user_is_not_admitted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let local = v4(listener.local_addr().unwrap());
        let (stream, peer, mut child) = connected(&listener);
        let me = std::process::id().cast_signed();
        let member = admit(peer, local, me).unwrap();
        assert_eq!(member.process.pid, child.id().cast_signed());
        assert_eq!(rank(member, 7), 5);
        // Seen from the launcher of another run, the same process is a stranger.
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(admit(peer, local, other.id().cast_signed()), Err(Stranger::NotOfThisRun));
        other.kill().unwrap();
        other.wait().unwrap();
        drop(stream);
        child.wait().unwrap();
        assert!(admit(peer, local, me).is_err(), "who has ended is not admitted");
    }

    #[test]
    fn the_launcher_itself_is_not_of_its_run() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let local = v4(listener.local_addr().unwrap());
        let stream = std::net::TcpStream::connect(local).unwrap();
        let peer = v4(stream.local_addr().unwrap());
        assert_eq!(diagnose(peer, local).unwrap().unwrap().uid, rustix::process::geteuid().as_raw());
        assert_eq!(admit(peer, local, std::process::id().cast_signed()), Err(Stranger::NotOfThisRun));
    }
}
