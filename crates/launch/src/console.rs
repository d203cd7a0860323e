//! A run that somebody waits for (`kluis exec`): what they type goes to the program, and what the program writes goes to
//! them, masked. The launcher holds one end of a connection and the command line the other; both speak [`Frame`]s.
//!
//! On a terminal the program gets a terminal of its own, made here; otherwise its standard input is a pipe. Input is sent
//! piece by piece, each when the program has taken the one before ([`Frame::More`]), so that a signal never waits behind
//! input that nobody reads.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use kluis_core::api::agents::{Console, TerminalSize};
use kluis_core::api::runs::Stream;
use kluis_core::run::Blame;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

use crate::confine::Input;
use crate::heartbeat::Stopper;

/// The most bytes that a frame carries.
pub const MAX_FRAME: usize = 64 * 1024;

/// What the two ends say to each other: a byte for the kind, the length (four bytes, big-endian), the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// To the program: bytes for its standard input.
    Input(Zeroizing<Vec<u8>>),
    /// To the program: its input is over.
    End,
    /// To the launcher: the terminal has another size.
    Resize(TerminalSize),
    /// To the program: a signal, by its number.
    Signal(i32),
    /// From the program, masked.
    Stdout(Vec<u8>),
    /// From the program, masked.
    Stderr(Vec<u8>),
    /// From the launcher: the program has begun, or has taken the input; the next piece may come.
    More,
}

impl Frame {
    /// As it goes over the connection.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let pair = |a: u16, b: u16| [a.to_be_bytes(), b.to_be_bytes()].concat();
        let (kind, content) = match self {
            Self::Input(data) => (b'i', data.clone()),
            Self::End => (b'e', Zeroizing::default()),
            Self::Resize(size) => (b'w', pair(size.rows, size.columns).into()),
            Self::Signal(number) => (b's', number.to_be_bytes().to_vec().into()),
            Self::Stdout(data) => (b'o', data.clone().into()),
            Self::Stderr(data) => (b'r', data.clone().into()),
            Self::More => (b'm', Zeroizing::default()),
        };
        let length = u32::try_from(content.len()).expect("frames are short");
        let mut bytes = Zeroizing::new(Vec::with_capacity(content.len() + 5));
        bytes.push(kind);
        bytes.extend(length.to_be_bytes());
        bytes.extend_from_slice(&content);
        bytes
    }

    /// The next one; nothing when the other end is gone.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<Self>> {
        let mut kind = [0];
        if from.read(&mut kind).await? == 0 {
            return Ok(None);
        }
        let length = from.read_u32().await? as usize;
        let wrong = || std::io::Error::new(std::io::ErrorKind::InvalidData, "not a frame of a console");
        if length > MAX_FRAME {
            return Err(wrong());
        }
        let mut content = Zeroizing::new(vec![0; length]);
        from.read_exact(&mut content).await?;
        Ok(Some(match (kind[0], &content[..]) {
            (b'i', _) => Self::Input(content),
            (b'e', []) => Self::End,
            (b'w', [a, b, c, d]) => {
                Self::Resize(TerminalSize { rows: u16::from_be_bytes([*a, *b]), columns: u16::from_be_bytes([*c, *d]) })
            }
            (b's', [a, b, c, d]) => Self::Signal(i32::from_be_bytes([*a, *b, *c, *d])),
            (b'o', _) => Self::Stdout(std::mem::take(&mut *content)),
            (b'r', _) => Self::Stderr(std::mem::take(&mut *content)),
            (b'm', []) => Self::More,
            _ => return Err(wrong()),
        }))
    }
}

/// The launcher's end, before the program starts.
#[derive(Debug)]
pub(crate) struct Front {
    connection: UnixStream,
    terminal: Option<TerminalSize>,
}

/// What the program is connected with, and the launcher's ends of it.
#[derive(Debug)]
pub(crate) struct Line {
    /// The program's end: of its own terminal, or of a pipe.
    theirs: OwnedFd,
    is_terminal: bool,
    keys: Keys,
    screen: OwnedWriteHalf,
    /// What the program writes to its terminal.
    written: Option<pipe::Receiver>,
}

/// What is typed, on its way to the program.
#[derive(Debug)]
pub(crate) struct Keys {
    typed: OwnedReadHalf,
    program: pipe::Sender,
    terminal: Option<OwnedFd>,
}

/// Where what the program writes is seen.
#[derive(Debug)]
pub(crate) struct Screen(Mutex<Option<OwnedWriteHalf>>);

impl Front {
    pub(crate) fn new(connection: OwnedFd, console: Console) -> std::io::Result<Self> {
        let connection = std::os::unix::net::UnixStream::from(connection);
        connection.set_nonblocking(true)?;
        Ok(Self { connection: UnixStream::from_std(connection)?, terminal: console.terminal })
    }

    /// Whether the program gets a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Makes the terminal or the pipe.
    pub(crate) fn open(self) -> std::io::Result<Line> {
        let (typed, screen) = self.connection.into_split();
        let Some(size) = self.terminal else {
            let (theirs, ours) = std::io::pipe()?;
            let keys = Keys { typed, program: pipe::Sender::from_owned_fd(ours.into())?, terminal: None };
            return Ok(Line { theirs: theirs.into(), is_terminal: false, keys, screen, written: None });
        };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&ours)?;
        rustix::pty::unlockpt(&ours)?;
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
        resize(&ours, size);
        rustix::io::ioctl_fionbio(&ours, true)?;
        // One end of a terminal is read and written like two ends of pipes.
        let written = pipe::Receiver::from_owned_fd_unchecked(ours.try_clone()?)?;
        let program = pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?)?;
        let keys = Keys { typed, program, terminal: Some(ours) };
        Ok(Line { theirs, is_terminal: true, keys, screen, written: Some(written) })
    }
}

fn resize(terminal: &OwnedFd, size: TerminalSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // The program then believes the old size.
    let _best_effort = rustix::termios::tcsetwinsize(terminal, size);
}

impl Line {
    /// What the program is started with.
    pub(crate) fn input(&self) -> Input<'_> {
        if self.is_terminal { Input::Terminal(self.theirs.as_fd()) } else { Input::Pipe(self.theirs.as_fd()) }
    }

    /// The launcher's ends. The program's is let go of, so that its end is seen.
    pub(crate) fn split(self) -> (Keys, Arc<Screen>, Option<pipe::Receiver>) {
        (self.keys, Arc::new(Screen(Mutex::new(Some(self.screen)))), self.written)
    }
}

impl Screen {
    /// Shows it. When nobody is there any more the run is about to be ended; until then this shows nothing.
    pub(crate) async fn show(&self, stream: Stream, data: &[u8]) {
        let frame = |piece: &[u8]| match stream {
            Stream::Stderr => Frame::Stderr(piece.to_vec()),
            _ => Frame::Stdout(piece.to_vec()),
        };
        for piece in data.chunks(MAX_FRAME) {
            self.send(&frame(piece)).await;
        }
    }

    async fn send(&self, frame: &Frame) {
        let mut connection = self.0.lock().await;
        if let Some(open) = &mut *connection
            && open.write_all(&frame.to_bytes()).await.is_err()
        {
            *connection = None;
        }
    }
}

impl Keys {
    /// Passes on what is typed, until nobody is there to type: then the program is hung up on, and the run ends.
    pub(crate) async fn pass_on(self, group: i32, screen: Arc<Screen>, stopper: Stopper) {
        let Self { mut typed, program, terminal } = self;
        // The other end sends one piece at a time, so this never fills.
        let (input, taken) = mpsc::channel(4);
        let feeding = feed(program, taken, screen);
        let reading = async {
            while let Ok(Some(frame)) = Frame::read(&mut typed).await {
                match frame {
                    Frame::Input(data) => drop(input.send(Some(data)).await),
                    Frame::End => drop(input.send(None).await),
                    Frame::Resize(size) => {
                        if let Some(terminal) = &terminal {
                            resize(terminal, size);
                        }
                    }
                    Frame::Signal(number) => signal(group, number),
                    Frame::Stdout(_) | Frame::Stderr(_) | Frame::More => {}
                }
            }
            signal(group, Signal::HUP.as_raw());
            stopper.stop(Blame::User, "whoever waited for the command is gone");
        };
        tokio::join!(feeding, reading);
    }
}

/// Gives the program its input, as fast as it takes it.
async fn feed(program: pipe::Sender, mut taken: mpsc::Receiver<Option<Zeroizing<Vec<u8>>>>, screen: Arc<Screen>) {
    let mut program = Some(program);
    // The first one says that the program has begun.
    screen.send(&Frame::More).await;
    while let Some(data) = taken.recv().await {
        match (data, &mut program) {
            (Some(data), Some(open)) => {
                // A program that reads no more has its reasons.
                if open.write_all(&data).await.is_err() {
                    program = None;
                }
            }
            (None, _) => program = None,
            (Some(_), None) => {}
        }
        screen.send(&Frame::More).await;
    }
}

fn signal(group: i32, number: i32) {
    if let (Some(group), Some(signal)) = (Pid::from_raw(group), Signal::from_named_raw(number)) {
        // Gone already is as good.
        let _gone = kill_process_group(group, signal);
    }
}

/// How long output may be held back for what comes next: whoever types waits for the echo.
pub(crate) const QUIET: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_they_were_written_and_nothing_else_is() {
        let frames = [
            Frame::Input(b"typed".to_vec().into()),
            Frame::End,
            Frame::Resize(TerminalSize { rows: 24, columns: 300 }),
            Frame::Signal(15),
            Frame::Stdout(vec![7; MAX_FRAME]),
            Frame::Stderr(Vec::new()),
            Frame::More,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes().to_vec()).collect();
        let mut from = &bytes[..];
        for frame in frames {
            assert_eq!(Frame::read(&mut from).await.unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).await.unwrap(), None);
        for bad in [&b"x\0\0\0\0"[..], b"i\xff\xff\xff\xff", b"w\0\0\0\x01a", b"i\0\0\0\x05ab", b"i\0"] {
            assert!(Frame::read(&mut &*bad).await.is_err(), "{bad:?}");
        }
    }
}
