//! The tour: two tables with real data, backed up, dropped, restored, and compared row by row and column by column.
//!
//! Nothing here is special: every step is a statement or an HTTP request that a user could send, and is printed. The
//! tour can be repeated; each run takes a new label and starts from new tables.

pub(crate) mod job;
pub(crate) mod load;
pub(crate) mod progress;
pub(crate) mod tables;

use crate::cli::TourArgs;
use crate::cluster::state::{Home, Role};
use crate::screen;
use crate::sql::{Login, Session};
use coffer_stdx::{Error, Result};
use job::Ended;
use load::{Loader, Part};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tables::Table;

/// Where the tour takes place.
#[derive(Debug)]
pub(crate) struct Place {
    /// As whom, at which frontend.
    pub(crate) login: Login,
    /// HTTP of the frontend.
    pub(crate) http: String,
    /// Broker group.
    pub(crate) broker: String,
    /// Database, made when missing.
    pub(crate) database: String,
    /// Repository location.
    pub(crate) location: String,
    /// Repository properties.
    pub(crate) properties: Vec<(String, String)>,
}

impl Place {
    /// From the options, filled up from the cluster's directory.
    pub(crate) fn new(args: &TourArgs) -> Result<Place> {
        let home = args.dir.as_deref().map(Home::new).transpose()?;
        let state = home.as_ref().map(Home::load).transpose()?;
        let frontend = state.as_ref().and_then(|state| state.of_role(Role::Frontend).next());
        let need = |what: &str| Error::invalid(format!("say where the cluster is: --dir, or {what}"));
        let mysql = args.mysql.clone().or_else(|| frontend?.addresses.mysql.clone()).ok_or_else(|| need("--mysql"))?;
        let http =
            args.http.clone().or_else(|| Some(frontend?.addresses.http.clone())).ok_or_else(|| need("--http"))?;
        let local = home.as_ref().map(|home| format!("file://{}", home.repos().join("tour").display()));
        let location = args.location.clone().or(local).ok_or_else(|| need("--location"))?;
        Ok(Place {
            login: Login { address: mysql, user: args.user.clone(), password: args.password.clone(), ca: None },
            http,
            broker: args.broker.clone(),
            database: args.database.clone(),
            location,
            properties: args.properties.clone(),
        })
    }

    /// A loader into the database.
    pub(crate) fn loader(&self) -> Result<Loader> {
        Loader::new(&self.http, &self.login.user, &self.login.password, &self.database)
    }
}

/// Run the tour.
pub(crate) async fn run(args: &TourArgs) -> Result<()> {
    if !(args.scale > 0.0 && args.scale <= 1000.0) {
        return Err(Error::invalid(format!("scale factor {}: must be above 0 and at most 1000", args.scale)));
    }
    let begun = Instant::now();
    let place = Place::new(args)?;
    let mut session = Session::new(place.login.clone());
    let label = format!("tour_{}", seconds_now());

    progress::chapter("tables");
    let alive = session.query("SHOW BACKENDS").await?.iter().filter(|row| row.get("Alive") == "true").count();
    if alive == 0 {
        return Err(Error::unavailable("no backend is alive (SHOW BACKENDS): add or start one first"));
    }
    create_tables(&mut session, &place, args.buckets, alive.min(2)).await?;

    progress::chapter(&format!("load TPC-H scale factor {}", args.scale));
    let rows = load_tables(&place, args.scale, &label).await?;
    let before = fingerprints(&mut session, &place.database).await?;

    progress::chapter("backup");
    let timestamp = backup(&mut session, &place, &label).await?;

    progress::chapter("lose the tables");
    for table in Table::ALL {
        say_and_run(&mut session, &format!("DROP TABLE {}.{}", place.database, table.name())).await?;
    }

    progress::chapter("restore");
    restore(&mut session, &place, &label, &timestamp).await?;

    progress::chapter("compare");
    let after = fingerprints(&mut session, &place.database).await?;
    conclude(&before, &after, rows, begun)
}

/// Make both tables anew.
pub(crate) async fn create_tables(session: &mut Session, place: &Place, buckets: u32, replicas: usize) -> Result<()> {
    let database = &place.database;
    say_and_run(session, &format!("CREATE DATABASE IF NOT EXISTS {database}")).await?;
    for table in Table::ALL {
        say_and_run(session, &format!("DROP TABLE IF EXISTS {database}.{}", table.name())).await?;
        session.query(&table.create(database, buckets, replicas)).await?;
        let parts = session.query(&format!("SHOW PARTITIONS FROM {database}.{}", table.name())).await?.len();
        screen::line(&format!(
            "created {database}.{}: {parts} partitions by month, {buckets} buckets each, {replicas} replicas",
            table.name()
        ));
    }
    Ok(())
}

/// Load both tables; returns the number of rows.
pub(crate) async fn load_tables(place: &Place, scale: f64, label: &str) -> Result<u64> {
    let loader = place.loader()?;
    let mut all = 0;
    for table in Table::ALL {
        let begun = Instant::now();
        let parts = table.parts(scale);
        let bar = progress::of_bytes(table.name(), table.text_bytes(scale));
        let mut rows = 0;
        for number in 1..=parts {
            let label = format!("{label}_{}_{number}", table.name());
            rows += loader.load(Part { table, scale, part: number, parts, label: &label }, &bar).await?;
        }
        let bytes = bar.position();
        bar.finish_and_clear();
        screen::line(&format!(
            "loaded {}: {rows} rows, {:.1} MB of text in {parts} stream loads, {:.0} MB/s",
            table.name(),
            bytes as f64 / 1e6,
            progress::rate(bytes, begun)
        ));
        all += rows;
    }
    Ok(all)
}

/// Back both tables up; returns the snapshot's timestamp.
async fn backup(session: &mut Session, place: &Place, label: &str) -> Result<String> {
    let repository = ensure_repository(session, place, "tour_repo").await?;
    let database = &place.database;
    let names: Vec<&str> = Table::ALL.iter().map(|table| table.name()).collect();
    say_and_run(session, &format!("BACKUP SNAPSHOT {database}.{label} TO {repository} ON ({})", names.join(", ")))
        .await?;
    let show = format!("SHOW BACKUP FROM {database} WHERE SnapshotName = \"{label}\"");
    show_job(&show, &job::follow(session, &show, "backup").await?);
    let show = format!("SHOW SNAPSHOT ON {repository} WHERE SNAPSHOT = \"{label}\"");
    let rows = session.query(&show).await?;
    let row = rows.first().ok_or_else(|| Error::not_found(format!("{show}: no snapshot")))?;
    screen::line(&format!("{show}\n{}", row.vertical(1)));
    Ok(row.get("Timestamp").to_owned())
}

/// Make the repository, or take it as it is when it lies at the same location; returns its name.
pub(crate) async fn ensure_repository<'a>(session: &mut Session, place: &Place, name: &'a str) -> Result<&'a str> {
    let known = session.query("SHOW REPOSITORIES").await?;
    if let Some(row) = known.iter().find(|row| row.get("RepoName") == name) {
        if row.get("Location") == place.location {
            screen::line(&format!("repository {name} is there already, at {}", place.location));
            return Ok(name);
        }
        say_and_run(session, &format!("DROP REPOSITORY {name}")).await?;
    }
    let Place { broker, location, properties, .. } = place;
    let create = format!("CREATE REPOSITORY {name} WITH BROKER {broker} ON LOCATION \"{location}\"");
    screen::line(&create);
    let pairs: Vec<String> =
        properties.iter().map(|(key, value)| format!("\"{}\" = \"{}\"", quoted(key), quoted(value))).collect();
    let tail = if pairs.is_empty() { String::new() } else { format!(" PROPERTIES ({})", pairs.join(", ")) };
    session.query(&format!("{create}{tail}")).await?;
    Ok(name)
}

/// For a string between double quotes.
pub(crate) fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

async fn restore(session: &mut Session, place: &Place, label: &str, timestamp: &str) -> Result<()> {
    let database = &place.database;
    let statement = format!(
        "RESTORE SNAPSHOT {database}.{label} FROM tour_repo PROPERTIES (\"backup_timestamp\" = \"{timestamp}\")"
    );
    say_and_run(session, &statement).await?;
    let show = format!("SHOW RESTORE FROM {database} WHERE LABEL = \"{label}\"");
    show_job(&show, &job::follow(session, &show, "restore").await?);
    Ok(())
}

fn show_job(show: &str, ended: &Ended) {
    screen::line(&format!("{show}\n{}", ended.row.vertical(1)));
    screen::line(&format!("took {:.2} s, seen: {}", ended.took.as_secs_f64(), ended.states.join(" -> ")));
}

/// Per table: count and checksums, with the names of the columns.
type Fingerprint = Vec<(String, String)>;

async fn fingerprints(session: &mut Session, database: &str) -> Result<Vec<Fingerprint>> {
    let mut all = Vec::new();
    for table in Table::ALL {
        let rows = session.query(&table.fingerprint(database)).await?;
        let row = rows.first().ok_or_else(|| Error::bug("a count without a row"))?;
        let names = std::iter::once("rows").chain(table.columns().iter().map(|(name, _)| *name));
        let values = row.cells().iter().map(|(_, value)| value.clone().unwrap_or_else(|| "NULL".to_owned()));
        let fingerprint: Fingerprint = names.map(|name| format!("{}.{name}", table.name())).zip(values).collect();
        if fingerprint.len() != table.columns().len() + 1 {
            return Err(Error::bug(format!("{}: {} checksums", table.name(), fingerprint.len())));
        }
        all.push(fingerprint);
    }
    Ok(all)
}

fn conclude(before: &[Fingerprint], after: &[Fingerprint], loaded: u64, begun: Instant) -> Result<()> {
    let mut different = Vec::new();
    let mut compared = 0;
    let rows_of = |fingerprint: &Fingerprint| fingerprint.first().and_then(|(_, rows)| rows.parse::<u64>().ok());
    let pairs = before.iter().flatten().zip(after.iter().flatten());
    let mut lines = Vec::new();
    for ((name, was), (_, is)) in pairs {
        compared += 1;
        let verdict = if was == is { "equal" } else { "DIFFERENT" };
        lines.push(vec![name.clone(), was.clone(), is.clone(), verdict.to_owned()]);
        if was != is {
            different.push(name.clone());
        }
    }
    screen::line(&screen::table(&["what", "before", "after", ""], &lines));
    let counted: u64 = before.iter().filter_map(rows_of).sum();
    if counted != loaded {
        return Err(Error::corrupt(format!("{loaded} rows were loaded, {counted} were counted before the backup")));
    }
    if !different.is_empty() {
        return Err(Error::corrupt(format!("NOT EQUAL after the restore: {}", different.join(", "))));
    }
    screen::line(&format!(
        "\nALL EQUAL: {counted} rows of {} tables are back, {compared} counts and checksums are the same ({:.1} s)",
        before.len(),
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Print a statement and run it. Only for statements without secrets.
pub(crate) async fn say_and_run(session: &mut Session, statement: &str) -> Result<()> {
    screen::line(&format!("{statement};"));
    session.query(statement).await.map(|_| ())
}

pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(rows: &str, sum: &str) -> Vec<Fingerprint> {
        vec![vec![("t.rows".to_owned(), rows.to_owned()), ("t.c".to_owned(), sum.to_owned())]]
    }

    #[test]
    fn only_equal_is_equal() {
        let now = Instant::now();
        conclude(&fingerprint("2", "9"), &fingerprint("2", "9"), 2, now).unwrap();
        assert!(
            conclude(&fingerprint("2", "9"), &fingerprint("2", "8"), 2, now).unwrap_err().message().contains("t.c")
        );
        assert!(conclude(&fingerprint("2", "9"), &fingerprint("2", "9"), 3, now).is_err());
    }

    #[test]
    fn properties_are_quoted() {
        assert_eq!(quoted("a\"b\\c"), "a\\\"b\\\\c");
    }
}
