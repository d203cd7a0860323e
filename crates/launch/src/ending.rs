//! How a run ended: what happened to its process, who is to blame, and why in words.

use kluis_core::run::{Blame, ExitStatus};

use crate::confine::{StartError, Step};
use crate::heartbeat::Stop;

/// The end, before it is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Absent when the process never started.
    pub(crate) exit: Option<ExitStatus>,
    /// Absent for a success.
    pub(crate) blame: Option<Blame>,
    /// In words; never from the user's output.
    pub(crate) reason: Option<String>,
}

impl Ending {
    /// It never started.
    pub(crate) fn not_started(blame: Blame, reason: impl Into<String>) -> Self {
        Self { exit: None, blame: Some(blame), reason: Some(reason.into()) }
    }

    /// The process ended, perhaps because somebody had asked for it.
    pub(crate) fn of_process(exit: ExitStatus, asked: Option<Stop>) -> Self {
        let (blame, reason) = match (asked, exit) {
            (Some(stop), _) => (stop.blame, stop.reason),
            (None, ExitStatus::Code(0)) => return Self { exit: Some(exit), blame: None, reason: None },
            (None, ExitStatus::Code(code)) => (Blame::Script, format!("the program ended with exit code {code}")),
            (None, ExitStatus::Signal(9)) => {
                (Blame::Script, "signal 9 (SIGKILL) ended the program: most often the machine ran out of memory".into())
            }
            (None, ExitStatus::Signal(signal)) => (Blame::Script, format!("signal {signal} ended the program")),
        };
        Self { exit: Some(exit), blame: Some(blame), reason: Some(reason) }
    }
}

impl From<Stop> for Ending {
    fn from(stop: Stop) -> Self {
        Self::not_started(stop.blame, stop.reason)
    }
}

impl From<StartError> for Ending {
    fn from(error: StartError) -> Self {
        let blame = match error.step {
            Step::Confine => Blame::Kluis,
            Step::Execute => Blame::Script,
        };
        Self::not_started(blame, error.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_blames_nobody_and_who_asked_for_an_end_is_named() {
        assert_eq!(Ending::of_process(ExitStatus::Code(0), None).blame, None);
        assert_eq!(Ending::of_process(ExitStatus::Code(3), None).blame, Some(Blame::Script));
        let stop = Stop { blame: Blame::User, reason: "canceled by ada".to_owned() };
        let ending = Ending::of_process(ExitStatus::Signal(15), Some(stop));
        assert_eq!((ending.blame, ending.reason.as_deref()), (Some(Blame::User), Some("canceled by ada")));
    }
}
