//! cofferctl: parse the command line, run one command, turn its outcome into an exit code.
//!
//! Exit codes: 0 done, 1 it failed (or a check found a problem), 2 the request itself is wrong (usage, a taken port, no such
//! cluster, a migration that cannot be), 3 a migration is done but its source went on.

mod bench;
mod certs;
mod cli;
mod cluster;
mod completion;
mod doctor;
mod http;
mod interrupt;
mod migrate;
mod screen;
mod secret;
mod sql;
mod tour;

use clap::Parser;
use coffer_stdx::{Error, ErrorKind, Result};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = cli::Cli::parse().command;
    if let cli::Command::Run { program } = command {
        return report(cluster::detach::become_program(&program).map(|()| ExitCode::SUCCESS));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(Error::from(error))),
    };
    let outcome = runtime.block_on(run(command));
    runtime.shutdown_background();
    report(outcome)
}

async fn run(command: cli::Command) -> Result<ExitCode> {
    match command {
        cli::Command::Cluster(command) => cluster::run(command).await?,
        cli::Command::Bench(args) => bench::run(&args).await?,
        cli::Command::Tour(args) => tour::run(&args).await?,
        cli::Command::Doctor(args) => return doctor::run(&args).await,
        cli::Command::Migrate(args) => return migrate::run(&args).await,
        cli::Command::Completion(args) => completion::print(args.shell),
        cli::Command::Secret(command) => secret::run(&command)?,
        cli::Command::Certs(args) => certs::run(&args)?,
        cli::Command::Run { program } => cluster::detach::become_program(&program)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn report(outcome: Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    screen::complain(&format!("cofferctl: {error}"));
    match error.kind() {
        ErrorKind::Invalid | ErrorKind::NotSupported => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}
