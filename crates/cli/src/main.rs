//! The binary `kluis`: reads arguments and environment once, calls the server through the typed client, prints data on
//! standard output and notes on standard error. Rules live in the server; here are only questions and answers.

mod args;
mod cmd;
mod context;
mod covered;
mod dotenv;
mod failure;
mod input;
mod output;
mod reference;
mod usage;
mod values;
mod vault_names;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (arguments, environment) = match args::read() {
        Ok(read) => read,
        Err(code) => return code,
    };
    let json = arguments.global.json || environment.format.as_deref() == Some("json");
    let out = output::Output::new(json);
    let done = cmd::run(arguments, environment, &out).and_then(|code| out.finish().map(|()| code));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}
