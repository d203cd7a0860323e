//! Which Python runs a script, and what a script finds to import. The interpreter may be the run's own wish, so asking it
//! for its version is running it: that happens behind the same walls as the script.

use std::path::Path;

use serde::Deserialize;
use tokio::io::AsyncReadExt;

use crate::confine::{Input, Program, StartError, Starter, Step};
use crate::environment::Environment;
use crate::reaper::Reaper;

/// The small client for interpreters that have none.
const CLIENT: &str = include_str!("fallback/kluis/__init__.py");
/// Says who it is; without an installed `kluis` it compiles ours on the way, so that the script need not.
const PROBE: &str = r"
import json, sys
from importlib.util import find_spec
sdk = sys.argv[1]
sys.path = [p for p in sys.path if p != sdk]
installed = find_spec('kluis') is not None
if not installed:
    sys.path.append(sdk)
    import kluis
print(json.dumps({'executable': sys.executable, 'version': '.'.join(map(str, sys.version_info[:3])), 'installed': installed}))
";
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);
const MAX_ANSWER: u64 = 64 * 1024;

/// What an interpreter says of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Interpreter {
    /// Its path.
    pub(crate) executable: String,
    /// Such as `3.11.7`.
    pub(crate) version: String,
    /// Whether `kluis` is installed there.
    pub(crate) installed: bool,
}

/// Lays the small client out where the run can import it.
pub(crate) fn write_client(sdk: &Path) -> std::io::Result<()> {
    let package = sdk.join("kluis");
    std::fs::create_dir_all(&package)?;
    std::fs::write(package.join("__init__.py"), CLIENT)
}

/// Asks an interpreter who it is.
pub(crate) async fn probe(
    python: &str,
    sdk: &Path,
    folder: &Path,
    environment: &Environment,
    starter: &Starter,
    reaper: &Reaper,
) -> Result<Interpreter, StartError> {
    let program = Program {
        argv: vec![python.into(), "-c".into(), PROBE.into(), sdk.into()],
        environment: environment.to_vec(),
        folder: folder.to_owned(),
    };
    let mut started = starter.start(&program, Input::Empty, reaper).await?;
    let mut answer = Vec::new();
    let listen = async {
        let _ended = (&mut started.stdout).take(MAX_ANSWER).read_to_end(&mut answer).await;
        reaper.wait(started.pid).await
    };
    let unusable = |why: String| StartError { step: Step::Execute, reason: format!("the interpreter {python} {why}") };
    let Ok(status) = tokio::time::timeout(PATIENCE, listen).await else {
        crate::child::kill(started.pid);
        return Err(unusable("does not answer".to_owned()));
    };
    if !status.is_success() {
        return Err(unusable(format!("does not work here (it ended with {})", status.shell_code())));
    }
    serde_json::from_slice(&answer)
        .map_err(|_| unusable("did not say what it is; is it Python 3.9 or newer?".to_owned()))
}
