//! Who did what: one JSON object per line and statement, in files of their own.
//!
//! `audit.log` is the current file; at its size limit it becomes `audit.log.1`, that one `.2`, and so on to the last, which
//! goes. Lines are written by a thread of their own, so that a slow disk does not slow statements; when more wait than the
//! queue holds, further ones are dropped and counted (`coffer_fe_audit_dropped_total`). Lines are handed to the operating
//! system at once and not synced: a crash of the machine may lose the last ones, a crash of this process those in the queue.
//! Statements are masked before they come here.

use crate::error::{Context, Error, Result};
use crate::metrics::Metrics;
use crate::sql::mask::masked_head;
use coffer_stdx::time::now_ms;
use coffer_table::calendar;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Bytes of one file.
const FILE_BYTES: u64 = 64 << 20;
/// Files before the current one.
const OLD_FILES: usize = 9;
/// Lines that wait for the disk.
const QUEUE_LINES: usize = 4_096;
/// Bytes of a statement that are kept.
const STATEMENT_BYTES: usize = 4_096;
/// How often a failing disk is complained of.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// One thing that somebody did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// `statement`, `login` or `load`.
    pub kind: &'a str,
    /// The user.
    pub user: &'a str,
    /// The address of the client.
    pub host: &'a str,
    /// The number of the connection; 0 for HTTP.
    pub connection: u32,
    /// The current database.
    pub database: Option<&'a str>,
    /// The statement as it came; masked here.
    pub statement: &'a str,
    /// From its arrival to its end.
    pub took: Duration,
    /// Why it failed.
    pub error: Option<&'a Error>,
    /// Rows sent or written.
    pub rows: u64,
}

/// Where records go; cloned freely.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: Option<SyncSender<String>>,
    metrics: Option<Metrics>,
}

impl Audit {
    /// Nowhere.
    pub fn off() -> Audit {
        Audit { lines: None, metrics: None }
    }

    /// Into files of a directory. The writer ends when the last clone is dropped.
    pub fn start(dir: &Path, metrics: Metrics) -> Result<Audit> {
        let files = Files::open(dir, FILE_BYTES)?;
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_all(files, &receiver))
            .context(|| "start the writer of the audit log")?;
        Ok(Audit { lines: Some(sender), metrics: Some(metrics) })
    }

    /// Note something.
    pub fn write(&self, record: &Record<'_>) {
        let Some(lines) = &self.lines else { return };
        if lines.try_send(line(record, now_ms())).is_err()
            && let Some(metrics) = &self.metrics
        {
            metrics.audit_dropped.inc();
        }
    }
}

fn line(record: &Record<'_>, now_ms: u64) -> String {
    let micros = i64::try_from(now_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let outcome = record.error.map_or("ok", |error| error.kind().name());
    let mut fields = json!({
        "time": calendar::format_datetime(micros, 3),
        "kind": record.kind,
        "user": record.user,
        "host": record.host,
        "outcome": outcome,
    });
    if let Some(error) = record.error {
        fields["error"] = masked_head(error.message(), STATEMENT_BYTES).into();
        fields["code"] = error.number().into();
    }
    if record.kind != "login" {
        fields["connection"] = record.connection.into();
        fields["database"] = record.database.into();
        fields["statement"] = masked_head(record.statement, STATEMENT_BYTES).into();
        fields["ms"] = (record.took.as_micros() as f64 / 1_000.0).into();
        fields["rows"] = record.rows.into();
    }
    fields.to_string()
}

/// The current file and those before it.
struct Files {
    dir: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    limit: u64,
}

impl Files {
    fn open(dir: &Path, limit: u64) -> Result<Files> {
        std::fs::create_dir_all(dir).context(|| format!("make the directory of the audit log {}", dir.display()))?;
        let path = dir.join("audit.log");
        let open = OpenOptions::new().create(true).append(true).open(&path);
        let file = open.context(|| format!("open the audit log {}", path.display()))?;
        let bytes = file.metadata().context(|| format!("look at {}", path.display()))?.len();
        Ok(Files { dir: dir.to_owned(), file: BufWriter::new(file), bytes, limit })
    }

    fn put(&mut self, line: &str) -> Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 >= self.limit {
            self.rotate()?;
        }
        self.bytes += line.len() as u64 + 1;
        writeln!(self.file, "{line}").context(|| "write the audit log")
    }

    fn rotate(&mut self) -> Result<()> {
        self.flush()?;
        let path = |n: usize| match n {
            0 => self.dir.join("audit.log"),
            n => self.dir.join(format!("audit.log.{n}")),
        };
        for n in (0..OLD_FILES).rev() {
            match std::fs::rename(path(n), path(n + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).context(|| format!("rename {}", path(n).display()));
                }
                _ => {}
            }
        }
        *self = Files::open(&self.dir.clone(), self.limit)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush().context(|| "write the audit log")
    }
}

fn write_all(mut files: Files, lines: &Receiver<String>) {
    let mut complained: Option<Instant> = None;
    let mut note = |result: Result<()>| {
        if let Err(error) = result
            && complained.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY)
        {
            tracing::warn!(%error, "the audit log is not written");
            complained = Some(Instant::now());
        }
    };
    loop {
        let line = match lines.try_recv() {
            Ok(line) => Ok(line),
            Err(TryRecvError::Empty) => {
                note(files.flush());
                lines.recv()
            }
            Err(TryRecvError::Disconnected) => return note(files.flush()),
        };
        let Ok(line) = line else { return note(files.flush()) };
        note(files.put(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_what_and_how_it_ended() {
        let error = crate::error::unknown_table("t");
        let record = Record {
            kind: "statement",
            user: "eve",
            host: "10.0.0.1",
            connection: 7,
            database: Some("d"),
            statement: "SET PASSWORD = 'hunter2'",
            took: Duration::from_micros(1_500),
            error: Some(&error),
            rows: 3,
        };
        let text = line(&record, 1_709_168_523_999);
        let fields: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(fields["time"], "2024-02-29 01:02:03.999");
        assert_eq!((&fields["user"], &fields["outcome"]), (&json!("eve"), &json!("NOT_FOUND")));
        assert_eq!((&fields["code"], &fields["ms"], &fields["rows"]), (&json!(1051), &json!(1.5), &json!(3)));
        assert_eq!(fields["statement"], "SET PASSWORD = '*XXX'");
        let login = line(&Record { kind: "login", user: "eve", ..Record::default() }, 1);
        assert!(login.contains("\"outcome\":\"ok\"") && !login.contains("statement"), "{login}");
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), 100).unwrap();
        for n in 0..60 {
            files.put(&format!("{n:040}")).unwrap();
        }
        files.flush().unwrap();
        let count = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(count, OLD_FILES + 1);
        let last = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
        assert!(last.ends_with(&format!("{:040}\n", 59)), "{last}");
        let again = Files::open(dir.path(), 100).unwrap();
        assert_eq!(again.bytes, last.len() as u64);
    }

    #[test]
    fn what_is_written_is_in_the_file_when_the_writer_ends() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), 1 << 20).unwrap();
        let (sender, receiver) = sync_channel(8);
        sender.send("one".to_owned()).unwrap();
        sender.send("two".to_owned()).unwrap();
        drop(sender);
        write_all(files, &receiver);
        assert_eq!(std::fs::read_to_string(dir.path().join("audit.log")).unwrap(), "one\ntwo\n");
        Audit::off().write(&Record::default());
    }
}
