//! Starting a program that outlives us.
//!
//! cofferctl starts itself as `cofferctl __run -- program args`; that copy opens a new session (so that neither Ctrl-C
//! nor a closing terminal reaches it) and then becomes the program, keeping its process id.

use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Open a new session and become the program; returns only when that failed.
pub(crate) fn become_program(program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().ok_or_else(|| Error::invalid("no program named"))?;
    rustix::process::setsid().map_err(std::io::Error::from).context(|| "open a new session")?;
    let failure = Command::new(name).args(arguments).exec();
    Err(Error::from(failure)).context(|| format!("run {name}"))
}

/// Start `program --config config` in the background, its output appended to `log`. Returns its process id.
pub(crate) fn spawn(program: &Path, config: &Path, log: &Path) -> Result<u32> {
    let own = std::env::current_exe().context(|| "find the path of cofferctl itself")?;
    let out = OpenOptions::new().create(true).append(true).open(log).context(|| format!("open {}", log.display()))?;
    let err = out.try_clone().context(|| format!("open {}", log.display()))?;
    let child = Command::new(own)
        .arg("__run")
        .arg("--")
        .arg(program)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .context(|| format!("start {}", program.display()))?;
    Ok(child.id())
}
