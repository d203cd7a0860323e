//! The launcher as a program of its own: what engines start. `kluis-launch` reads a hand-over from standard input;
//! `kluis-launch confine` is the stage that it starts in between; `kluis-launch sweep` removes what killed launchers of
//! this user left in memory, secrets' files among it. What it has to say goes to standard error.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [] => launch(),
        [confine] if confine == "confine" => ExitCode::from(kluis_launch::confine()),
        [sweep] if sweep == "sweep" => {
            #[expect(clippy::disallowed_methods, reason = "read once, here; the launcher has no configuration")]
            let runtime = std::env::var_os("XDG_RUNTIME_DIR");
            kluis_launch::sweep(runtime.as_deref().map(std::path::Path::new));
            ExitCode::SUCCESS
        }
        _ => {
            use std::io::Write;
            let usage = "kluis-launch is started by an agent, with a hand-over on its standard input\n";
            let _closed = std::io::stderr().write_all(usage.as_bytes());
            ExitCode::from(2)
        }
    }
}

fn launch() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(tracing::Level::INFO).init();
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            tracing::error!(%error, "this program's own path is not known");
            return ExitCode::FAILURE;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "read once, here, and passed on; the launcher has no configuration")]
    let environment = std::env::vars_os().collect();
    let start = kluis_launch::Start { environment, stage: vec![program.into(), "confine".into()] };
    match kluis_launch::launch(std::io::stdin().lock(), start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the launcher leaves");
            ExitCode::FAILURE
        }
    }
}
