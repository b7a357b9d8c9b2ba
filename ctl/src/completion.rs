//! Completions of shells, made from the command line itself.

use crate::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print them on standard output.
pub(crate) fn print(shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "cofferctl", &mut text);
    crate::screen::line(String::from_utf8_lossy(&text).trim_end());
}
