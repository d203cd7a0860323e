//! One module per noun. Each command asks, calls, prints.

mod admin;
mod agent;
mod audit;
mod azure;
mod compute;
mod exec;
mod local;
mod login;
mod pages;
mod run;
mod secret;
mod submit;
mod up;
mod wait;
mod workspace;

use clap::CommandFactory;

use crate::args::{Arguments, Command, Environment};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Does what was asked; the exit code of success.
pub(crate) fn run(arguments: Arguments, environment: Environment, out: &Output) -> Outcome<u8> {
    let Arguments { global, command } = arguments;
    let context = Context { global: &global, environment: &environment, out };
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "kluis", &mut script);
            out.bytes(&script)?;
            Ok(0)
        }
        Command::Man { folder } => man(&context, &folder),
        Command::Launch { stage } => Ok(agent::launch(&context, stage.is_some())),
        Command::Up(up) => up::up(&context, up),
        Command::Agent(agent) => agent::agent(&context, agent),
        command => block_on(quick(&context, command)),
    }
}

/// Commands that ask the server a few questions: one thread is enough.
async fn quick(context: &Context<'_>, command: Command) -> Outcome<u8> {
    match command {
        Command::Login(login) => login::login(context, login).await,
        Command::Logout => login::logout(context).await,
        Command::Token(command) => login::token(context, command).await,
        Command::Whoami => login::whoami(context).await,
        Command::Init => login::init(context).await,
        Command::Workspace(command) => workspace::run(context, command).await,
        Command::Secret(command) => secret::run(context, command).await,
        Command::Run(command) => run::run(context, command).await,
        Command::Exec(exec) => exec::exec(context, exec).await,
        Command::Compute(command) => compute::run(context, command).await,
        Command::Azure(command) => azure::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::Admin(command) => admin::run(context, command).await,
        Command::Up(_)
        | Command::Agent(_)
        | Command::Launch { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => Err(Failure::failed("this command is not one that asks a server")),
    }
}

fn block_on(work: impl Future<Output = Outcome<u8>>) -> Outcome<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("a runtime: {e}")))?;
    runtime.block_on(work)
}

fn man(context: &Context<'_>, folder: &std::path::Path) -> Outcome<u8> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .map_err(|e| Failure::failed(format!("{}: {e}", folder.display())))?;
    let fields = serde_json::json!({ "folder": folder });
    context.out.done("written", fields, format_args!("wrote the man pages to {}", folder.display()));
    Ok(0)
}
