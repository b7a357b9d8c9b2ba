//! `cofferctl migrate`: a database moves to another cluster through a repository.
//!
//! The decisions are pure and apart: `plan` (can it be, what will happen), `progress` (what comes next after an
//! interruption), `compare` and `report`. Here are the statements, in order, each noted in DIR/state.json before it is
//! sent. A run that dies anywhere is continued by the same command; nothing of a cluster is changed but by BACKUP, CREATE
//! DATABASE and RESTORE.

mod check;
mod compare;
mod plan;
mod progress;
mod report;
mod side;
mod url;

use crate::cli::{MigrateArgs, Output};
use crate::screen;
use crate::sql::{Login, Row};
use crate::tour::{job, seconds_now};
use coffer_stdx::error::Context;
use coffer_stdx::{Error, Result, fsx};
use plan::Request;
use progress::{Moved, Next, State, Step};
use report::Report;
use side::Cluster;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The exit code of a migration that is done, while its source went on.
const SOURCE_WENT_ON: u8 = 3;

/// Run it, or go on with it.
pub(crate) async fn run(args: &MigrateArgs) -> Result<ExitCode> {
    let (mut from, mut to) = (url::parse(&args.from, &args.from_password)?, url::parse(&args.to, &args.to_password)?);
    (from.ca, to.ca) = (args.from_ca.clone(), args.to_ca.clone());
    let request = request(args, &from, &to)?;
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(format!("coffer-migrate-{}", args.database)));
    let dir = std::path::absolute(&dir).context(|| format!("directory {}", dir.display()))?;
    let path = dir.join("state.json");
    let mut run = Run { source: Cluster::new("source", from), target: Cluster::new("target", to), path };
    let state = State::load(&run.path)?;
    if let Some(state) = &state {
        state.must_be(&request, args.label.as_deref(), &run.path)?;
        screen::complain(&format!("going on with {} in {}", state.label, dir.display()));
    }
    let mut state = match state {
        Some(state) => state,
        None => {
            let label = args.label.clone().unwrap_or_else(|| format!("migrate_{}_{}", args.database, seconds_now()));
            let Some(plan) = run.plan(&request, &label).await? else { return Ok(ExitCode::from(2)) };
            if args.dry_run {
                return Ok(ExitCode::SUCCESS);
            }
            fsx::create_dir(&dir)?;
            let state = State::new(request, label, &plan);
            state.save(&run.path)?;
            state
        }
    };
    if args.dry_run {
        return Err(Error::invalid(format!("{} is on its way already; --dry-run is for before", state.label)));
    }
    run.advance(&mut state).await?;
    let compared = check::all(&mut run.source, &mut run.target, &state).await?;
    let none = Moved::default();
    let report = Report::new(&state, &none, &compared);
    let json = serde_json::to_string_pretty(&report).map_err(|error| Error::bug(format!("report: {error}")))?;
    let text = report.text();
    fsx::write_durably(&dir.join("report.json"), json.as_bytes())?;
    fsx::write_durably(&dir.join("report.txt"), format!("{text}\n").as_bytes())?;
    screen::line(match args.output {
        Output::Text => &text,
        Output::Json => &json,
    });
    Ok(match report.result {
        "equal" => ExitCode::SUCCESS,
        "different" => ExitCode::FAILURE,
        _ => ExitCode::from(SOURCE_WENT_ON),
    })
}

fn request(args: &MigrateArgs, from: &Login, to: &Login) -> Result<Request> {
    let at = |login: &Login| format!("{}@{}", login.user, login.address);
    let mut names = vec![&args.repository, &args.database];
    names.extend(args.to_repository.iter().chain(&args.tables).chain(&args.label));
    if let Some(name) = names.into_iter().find(|name| name.is_empty() || name.contains(['`', '"', '\\'])) {
        return Err(Error::invalid(format!("{name:?} is no name")));
    }
    Ok(Request {
        from: at(from),
        to: at(to),
        repository: args.repository.clone(),
        to_repository: args.to_repository.clone().unwrap_or_else(|| args.repository.clone()),
        database: args.database.clone(),
        tables: args.tables.clone(),
        restore_properties: args.restore_properties.clone(),
    })
}

struct Run {
    source: Cluster,
    target: Cluster,
    path: PathBuf,
}

impl Run {
    /// Look at both sides and say what will happen; `None` when it cannot be.
    async fn plan(&mut self, request: &Request, label: &str) -> Result<Option<plan::Plan>> {
        let database = &request.database;
        let mut from = self.source.look(database, &request.repository).await?;
        let to = self.target.look(database, &request.to_repository).await?;
        let first = plan::plan(request, &from, &to);
        from.unreadable = self.source.unreadable(database, &first.tables).await;
        if from.place.as_ref().is_some_and(|place| matches!(place.error.as_str(), "" | "NULL")) {
            from.label_taken = self.source.snapshot(&request.repository, label).await?.is_some();
        }
        let plan = plan::plan(request, &from, &to);
        screen::complain(&report::plan(&plan, request, label));
        Ok(plan.objections.is_empty().then_some(plan))
    }

    fn note(&self, state: &mut State, step: Step) -> Result<()> {
        state.step = step;
        state.save(&self.path).context(|| "note how far the migration got".to_owned())
    }

    /// From where the state is to the end of the restore.
    async fn advance(&mut self, state: &mut State) -> Result<()> {
        if state.step == Step::BackingUp {
            self.back_up(state).await?;
            self.note(state, Step::BackedUp)?;
        }
        if state.step == Step::BackedUp {
            // From here on tables at the target can be ours; before it they cannot.
            self.nothing_in_the_way(state).await?;
            self.note(state, Step::Restoring)?;
        }
        if state.step == Step::Restoring {
            self.restore(state).await?;
            self.note(state, Step::Restored)?;
        }
        Ok(())
    }

    async fn back_up(&mut self, state: &mut State) -> Result<()> {
        let (database, label) = (state.request.database.clone(), state.label.clone());
        let repository = state.request.repository.clone();
        let show = format!("SHOW BACKUP FROM `{database}` WHERE SnapshotName = \"{label}\"");
        let seen = self.source.seen(&show).await?;
        let snapshot = self.source.snapshot(&repository, &label).await?;
        let next = progress::next_of_backup(seen, snapshot.is_some());
        if next == Next::Send {
            let tables: Vec<String> = state.tables.iter().map(|table| format!("`{table}`")).collect();
            let on = tables.join(", ");
            self.source.query(&format!("BACKUP SNAPSHOT `{database}`.{label} TO `{repository}` ON ({on})")).await?;
        }
        if next != Next::GoOn || seen == progress::Seen::Finished {
            let ended = job::follow_aloud(&mut self.source.session, &show, "backup").await?;
            state.backup = Some(moved(&ended.row, ended.took));
        }
        let timestamp = self.source.snapshot(&repository, &label).await?;
        state.timestamp =
            Some(timestamp.ok_or_else(|| Error::not_found(format!("no snapshot {label} after its backup")))?);
        Ok(())
    }

    /// Tables that came to the target since the plan was made.
    async fn nothing_in_the_way(&mut self, state: &State) -> Result<()> {
        let there = self.there(state).await?;
        if there.is_empty() {
            return Ok(());
        }
        let names = there.join(", ");
        Err(Error::conflict(format!(
            "tables of these names came to the target meanwhile: {names}; drop or rename them, then run this again"
        )))
    }

    /// Those of our tables that are at the target.
    async fn there(&mut self, state: &State) -> Result<Vec<String>> {
        let database = &state.request.database;
        self.target.query(&format!("CREATE DATABASE IF NOT EXISTS `{database}`")).await?;
        let tables = self.target.query(&format!("SHOW TABLES FROM `{database}`")).await?;
        let names = tables.iter().filter_map(|row| row.cells().first().and_then(|(_, name)| name.clone()));
        Ok(names.filter(|name| state.tables.contains(name)).collect())
    }

    async fn restore(&mut self, state: &mut State) -> Result<()> {
        let (database, label) = (state.request.database.clone(), state.label.clone());
        let there = self.there(state).await?;
        let show = format!("SHOW RESTORE FROM `{database}` WHERE LABEL = \"{label}\"");
        match progress::next_of_restore(self.target.seen(&show).await?, !there.is_empty()) {
            Next::Send => self.send_restore(state).await?,
            Next::Follow | Next::GoOn => {}
            Next::Refuse => {
                return Err(Error::conflict(format!(
                    "the target has tables {} and knows no restore {label}: drop them, then run this again",
                    there.join(", ")
                )));
            }
        }
        let ended = job::follow_aloud(&mut self.target.session, &show, "restore").await?;
        state.restore = Some(moved(&ended.row, ended.took));
        for table in &state.tables {
            let partitions = self.target.partitions(&database, table).await?;
            let versions = partitions.into_iter().map(|(name, partition)| (name, partition.version)).collect();
            state.versions.insert(table.clone(), versions);
        }
        Ok(())
    }

    async fn send_restore(&mut self, state: &State) -> Result<()> {
        let request = &state.request;
        let timestamp = state.timestamp.as_deref().unwrap_or_default();
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let given = request.restore_properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let properties: Vec<String> = std::iter::once(("backup_timestamp", timestamp))
            .chain(given)
            .map(|(key, value)| format!("\"{}\" = \"{}\"", escaped(key), escaped(value)))
            .collect();
        let statement = format!(
            "RESTORE SNAPSHOT `{}`.{} FROM `{}` PROPERTIES ({})",
            request.database,
            state.label,
            request.to_repository,
            properties.join(", ")
        );
        self.target.query(&statement).await.map(drop)
    }
}

fn moved(row: &Row, took: Duration) -> Moved {
    let number = |column: &str| row.get(column).parse::<u64>().unwrap_or(0);
    Moved { bytes: number("BytesTotal"), rows: number("Rows"), seconds: took.as_secs_f64() }
}
