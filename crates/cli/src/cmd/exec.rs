//! A command here, as a run: its own identity, a clean environment, masked output. The run has no tree; a shell line takes
//! the command to the folder where it was typed.

use std::collections::BTreeMap;

use kluis_client::SystemRng;
use kluis_core::api::runs::{Program, Resources, SubmitRun};
use kluis_core::clock::{Clock, SystemClock};
use kluis_core::name::{ExperimentName, RunId};

use super::local;
use super::submit::{Declared, follow, local_compute};
use crate::args::Exec;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

pub(super) async fn exec(context: &Context<'_>, exec: Exec) -> Outcome<u8> {
    local::refuse_in_run(context)?;
    local::check()?;
    let here = std::env::current_dir().map_err(|e| Failure::failed(format!("the current folder: {e}")))?;
    let here = here.to_str().ok_or_else(|| Failure::failed("the current folder's path is not text"))?;
    let resolved = context.resolved()?;
    let (client, workspace) = context.in_workspace(None).await?;
    let declared = Declared::new(&exec.secrets)?;
    let experiment = ExperimentName::parse("exec")?;
    let mut argv: Vec<String> = ["sh", "-c", "cd \"$0\" && exec \"$@\"", here].map(str::to_owned).to_vec();
    argv.extend(exec.command);
    let request = SubmitRun {
        run: Some(RunId::generate(&experiment, SystemClock.now(), &SystemRng)),
        experiment,
        snapshot: None,
        program: Program::Command { argv },
        compute: local_compute(),
        secrets: declared.secrets,
        secret_env: declared.env,
        secret_files: declared.files,
        environment: exec.secrets.environment.into_iter().collect(),
        python: None,
        resources: Resources::default(),
        engine_options: BTreeMap::new(),
        tags: BTreeMap::new(),
        max_attempts: None,
    };
    let run = client.run_submit(&workspace, &request).await?;
    if let Err(failure) = local::start(context, &resolved, &workspace, &run.id) {
        client.run_cancel(&workspace, &run.id).await?;
        return Err(failure);
    }
    follow(context, &client, &workspace, run).await
}
