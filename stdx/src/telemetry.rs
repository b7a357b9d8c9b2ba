//! Logs: one line per event on standard error, filtered by `COFFER_LOG` or the configured level. Control characters, which
//! come with the bytes of users in messages, are escaped.

use crate::options::Text;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;

/// Puts another filter in force; known once logging started.
static REFILTER: OnceLock<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>> = OnceLock::new();

/// Where and how to log. All fields have defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,coffer_be=debug`.
    pub level: Text,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { level: Text::new("info"), format: LogFormat::Text }
    }
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogConfig {
    /// Refuse a level that is none.
    pub fn check(&self) -> Result<()> {
        filter(&self.level.get()).map(|_| ())
    }

    /// Log at the level that the configuration says now, whatever `COFFER_LOG` said at the start.
    pub fn apply(&self) -> Result<()> {
        let filter = filter(&self.level.get())?;
        match REFILTER.get() {
            Some(refilter) if !refilter(filter) => Err(Error::bug("nobody writes logs any more")),
            _ => Ok(()),
        }
    }
}

fn filter(level: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(level).map_err(|error| Error::invalid(format!("option 'log.level' = '{level}': {error}")))
}

/// Start logging. The environment variable `COFFER_LOG` overrides the configured level.
pub fn start(config: &LogConfig) {
    let level = std::env::var("COFFER_LOG").unwrap_or_else(|_| config.level.get());
    let filter = filter(&level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Lines(io::stderr())).with_ansi(false);
    // A second start in one process (tests) keeps the first.
    match config.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _ = REFILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
            }
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _ = REFILTER.set(Box::new(move |filter| handle.reload(filter).is_ok()));
            }
        }
    }
}

/// Writes events, each of which comes in one piece, as one line each.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(&one_line(event)).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The event with its control characters, except for tabs and the newline at its end, escaped.
fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let (text, end) = event.strip_suffix(b"\n").map_or((event, &b""[..]), |text| (text, b"\n"));
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if !text.iter().any(control) {
        return Cow::Borrowed(event);
    }
    let mut line = Vec::with_capacity(event.len() + 16);
    for byte in text {
        if control(byte) { line.extend(byte.escape_ascii()) } else { line.push(*byte) }
    }
    line.extend(end);
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused() {
        let at = |level: &str| LogConfig { level: Text::new(level), ..LogConfig::default() };
        assert_eq!(at("info,coffer_be=debug").check(), Ok(()));
        assert!(at("coffer_be=loud").check().unwrap_err().message().contains("'log.level' = 'coffer_be=loud'"));
        // Nothing logs here yet; afterwards it does.
        assert_eq!(at("debug").apply(), Ok(()));
        assert!(at("coffer_be=loud").apply().is_err());
        start(&at("warn"));
        assert_eq!(at("debug").apply(), Ok(()));
        assert!(tracing::enabled!(tracing::Level::DEBUG) && !tracing::enabled!(tracing::Level::TRACE));
    }

    #[test]
    fn bytes_of_users_stay_within_their_line() {
        let mut out = Lines(Vec::new());
        for event in ["plain \u{fc}\ttext\n", "'\0\u{1b}[1m' is\nnot a value\r\n"] {
            out.write_all(event.as_bytes()).unwrap();
        }
        let wanted = "plain \u{fc}\ttext\n'\\x00\\x1b[1m' is\\nnot a value\\r\n";
        assert_eq!(String::from_utf8(out.0).unwrap(), wanted);
    }
}
