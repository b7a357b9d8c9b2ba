//! Starts the frontend. Exit codes: 0 stopped as asked, 1 failed while starting or running, 2 wrong arguments or
//! configuration.

use clap::Parser;
use coffer_fe::arguments::Arguments;
use coffer_fe::config::Config;
use coffer_fe::tools;
use coffer_stdx::shutdown::Shutdown;
use coffer_stdx::{Error, ErrorKind, Result, telemetry};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tool = arguments.tool.clone();
    match (arguments.config(), tool) {
        (Err(error), _) => failed(&error, 2),
        (Ok(config), Some(tool)) => {
            let done = tools::run(&tool, &config, std::io::stdout());
            done.map_or_else(|error| failed(&error, 1), |()| ExitCode::SUCCESS)
        }
        (Ok(config), None) => {
            serve(config).map_or_else(|error| failed(&error, code_of(&error)), |()| ExitCode::SUCCESS)
        }
    }
}

fn serve(config: Config) -> Result<()> {
    telemetry::start(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(coffer_fe::limits::THREAD_STACK_BYTES)
        .build()?;
    let shutdown = Shutdown::new();
    let ended = runtime.block_on(async {
        shutdown.on_signals()?;
        coffer_fe::node::run(config, shutdown).await
    });
    // File work that still blocks a thread must not keep the process.
    runtime.shutdown_background();
    ended
}

/// 2: the configuration is wrong, starting again changes nothing.
fn code_of(error: &Error) -> u8 {
    if error.kind() == ErrorKind::Invalid { 2 } else { 1 }
}

fn failed(error: &Error, code: u8) -> ExitCode {
    // Nothing is left to do when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "coffer-fe: {error}");
    ExitCode::from(code)
}
