//! Who may ask the broker: a process of the launcher's own uid that descends from the launcher.
//!
//! The kernel vouches for the peer with `SO_PEERPIDFD` (Linux 6.5), a handle that cannot come to mean another process;
//! older kernels give the id alone. The ancestry is read twice and must be the same both times with the same start
//! times: a process whose parent dies while we look is moved below somebody else, and a reused id has another start.

use std::os::fd::AsFd;

use tokio::net::UnixStream;

use crate::processes::{self, Process};

/// Why a peer is not answered. What it is told, too: it learns nothing that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// The kernel could not say who it is.
    #[error("the launcher cannot tell which process is asking")]
    Unknown,
    /// Another user.
    #[error("only processes of the run's own user may ask its launcher")]
    OtherUser,
    /// The same user, but not started by the run.
    #[error("only processes that were started by the run may ask its launcher")]
    NotOfThisRun,
}

/// A process of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// As the launcher sees it.
    pub(crate) process: Process,
}

/// Whether the other end of a connection is part of the run that descends from `launcher`.
pub(crate) fn admit(stream: &UnixStream, launcher: i32) -> Result<Member, Stranger> {
    let credentials = stream.peer_cred().map_err(|_| Stranger::Unknown)?;
    if credentials.uid() != rustix::process::geteuid().as_raw() {
        return Err(Stranger::OtherUser);
    }
    let pid = credentials.pid().filter(|pid| *pid > 0).ok_or(Stranger::Unknown)?;
    let handle = handle::of_peer(stream.as_fd()).map_err(|_reaped| Stranger::Unknown)?;
    let first = processes::chain(pid, launcher).ok_or(Stranger::NotOfThisRun)?;
    let second = processes::chain(pid, launcher).ok_or(Stranger::NotOfThisRun)?;
    // An empty chain would be the launcher asking itself.
    let Some(process) = first.first().copied().filter(|_| first == second) else {
        return Err(Stranger::NotOfThisRun);
    };
    // Alive after the walk, so it was this process that was walked.
    if handle.is_some_and(|handle| handle::has_ended(&handle)) {
        return Err(Stranger::NotOfThisRun);
    }
    Ok(Member { process })
}

mod handle {
    use std::io::Error;
    use std::os::fd::{BorrowedFd, OwnedFd};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    /// The peer's pidfd; `None` where the kernel does not know the question. Any other error says that the peer is gone
    /// and its id may be another's by now.
    #[expect(unsafe_code, reason = "SO_PEERPIDFD has no safe wrapper yet")]
    pub(super) fn of_peer(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
        use std::os::fd::{AsRawFd, FromRawFd};
        let mut fd: libc::c_int = -1;
        let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int has four bytes");
        // SAFETY: the kernel writes at most `length` bytes to `fd`, which is that large; both live through the call.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERPIDFD,
                std::ptr::from_mut(&mut fd).cast(),
                &raw mut length,
            )
        };
        if outcome != 0 || fd < 0 {
            return without(Error::last_os_error());
        }
        // SAFETY: on success the kernel has given us a new descriptor (close-on-exec) that nobody else owns.
        Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// What it means that there is no pidfd.
    pub(super) fn without(error: Error) -> Result<Option<OwnedFd>, Error> {
        if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(None) } else { Err(error) }
    }

    /// A pidfd becomes readable when its process ends.
    pub(super) fn has_ended(handle: &OwnedFd) -> bool {
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut fds, Some(&now)), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects from another process, by way of Python's socket module.
    async fn connection_from_a_child(launcher: i32) -> Result<Member, Stranger> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut child = std::process::Command::new("python3")
            .args(["-c", "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"])
            .arg(&path)
            .spawn()
            .expect("python3 is there");
        let (stream, _) = listener.accept().await.unwrap();
        let outcome = admit(&stream, launcher);
        drop(stream);
        child.wait().unwrap();
        if let Ok(member) = outcome {
            assert_eq!(member.process.pid, child.id().cast_signed());
        }
        outcome
    }

    #[tokio::test]
    async fn a_descendant_is_admitted_and_a_process_of_the_same_user_elsewhere_is_not() {
        let me = std::process::id().cast_signed();
        assert!(connection_from_a_child(me).await.is_ok());
        // Seen from an unrelated process, the same child is a stranger.
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let refused = connection_from_a_child(other.id().cast_signed()).await;
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(refused, Err(Stranger::NotOfThisRun));
    }

    #[tokio::test]
    async fn who_has_ended_is_not_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let me = std::process::id().cast_signed();
        let mut child = std::process::Command::new("python3")
            .args(["-c", "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"])
            .arg(&path)
            .spawn()
            .expect("python3 is there");
        child.wait().unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert!(admit(&stream, me).is_err());
    }

    #[test]
    fn only_a_kernel_that_has_no_handles_is_believed_without_one() {
        let without = |errno| handle::without(std::io::Error::from_raw_os_error(errno));
        assert!(without(libc::ENOPROTOOPT).is_ok_and(|handle| handle.is_none()));
        for gone in [libc::ESRCH, libc::EINVAL, libc::ENODATA, libc::EMFILE] {
            assert!(without(gone).is_err(), "{gone}");
        }
    }
}
