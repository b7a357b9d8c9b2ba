//! One of the two clusters: its session, and what it says when it is asked.

use super::compare::Fingerprint;
use super::plan::{Partition, Partitions, Place, Side, bytes_of};
use super::progress::Seen;
use crate::sql::{Login, Row, Session};
use coffer_stdx::{Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// A cluster we talk to.
#[derive(Debug)]
pub(super) struct Cluster {
    /// `source` or `target`.
    pub(super) role: &'static str,
    /// The session.
    pub(super) session: Session,
}

impl Cluster {
    /// Connects with the first statement.
    pub(super) fn new(role: &'static str, login: Login) -> Cluster {
        Cluster { role, session: Session::new(login) }
    }

    /// Run a statement; an error says at which cluster.
    pub(super) async fn query(&mut self, statement: &str) -> Result<Vec<Row>> {
        let role = self.role;
        self.session.query(statement).await.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::Denied => "; a migration needs ADMIN and SELECT on the tables",
                _ => "",
            };
            Error::new(error.kind(), format!("{role}: {}{hint}", error.message()))
        })
    }

    /// Everything that a plan needs to know.
    pub(super) async fn look(&mut self, database: &str, repository: &str) -> Result<Side> {
        let frontends = self.query("SHOW FRONTENDS").await?;
        let first = |column: &str| frontends.first().map(|row| row.get(column).to_owned()).unwrap_or_default();
        let backends = self.query("SHOW BACKENDS").await?;
        let alive = || backends.iter().filter(|row| row.get("Alive") == "true");
        let repositories = self.query("SHOW REPOSITORIES").await?;
        let place = repositories.iter().find(|row| row.get("RepoName") == repository).map(|row| Place {
            location: row.get("Location").to_owned(),
            remote_name: row.get("RemoteName").to_owned(),
            read_only: row.get("IsReadOnly") == "true",
            error: row.get("ErrMsg").to_owned(),
        });
        let databases = self.query("SHOW DATABASES").await?;
        let (mut tables, mut busy) = (None, None);
        if databases.iter().any(|row| row.get("Database") == database) {
            tables = Some(self.tables(database).await?);
            busy = self.busy(database).await?;
        }
        Ok(Side {
            version: first("Version"),
            cluster_id: first("ClusterId"),
            place,
            tables,
            busy,
            backends: alive().count() as u64,
            free_bytes: alive().map(|row| bytes_of(row.get("AvailCapacity"))).sum(),
            ..Side::default()
        })
    }

    async fn tables(&mut self, database: &str) -> Result<BTreeMap<String, Partitions>> {
        let mut found = BTreeMap::new();
        for row in self.query(&format!("SHOW TABLES FROM `{database}`")).await? {
            let name = row.cells().first().and_then(|(_, name)| name.clone()).unwrap_or_default();
            let partitions = self.partitions(database, &name).await?;
            found.insert(name, partitions);
        }
        Ok(found)
    }

    /// The partitions of a table.
    pub(super) async fn partitions(&mut self, database: &str, table: &str) -> Result<Partitions> {
        let rows = self.query(&format!("SHOW PARTITIONS FROM `{database}`.`{table}`")).await?;
        let number = |row: &Row, column: &str| row.get(column).parse::<u64>().unwrap_or(0);
        let one = |row: &Row| Partition {
            version: number(row, "VisibleVersion"),
            rows: number(row, "RowCount"),
            bytes: bytes_of(row.get("DataSize")),
            replicas: number(row, "ReplicationNum"),
        };
        Ok(rows.iter().map(|row| (row.get("PartitionName").to_owned(), one(row))).collect())
    }

    /// A backup or restore that runs.
    async fn busy(&mut self, database: &str) -> Result<Option<String>> {
        for (kind, name) in [("BACKUP", "SnapshotName"), ("RESTORE", "Label")] {
            let rows = self.query(&format!("SHOW {kind} FROM `{database}`")).await?;
            let running = rows.iter().find(|row| !matches!(row.get("State"), "FINISHED" | "CANCELLED"));
            if let Some(row) = running {
                return Ok(Some(format!("{kind} {} ({})", row.get(name), row.get("State"))));
            }
        }
        Ok(None)
    }

    /// Errors of reading nothing from each table.
    pub(super) async fn unreadable(&mut self, database: &str, tables: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for table in tables {
            if let Err(error) = self.query(&format!("SELECT 1 FROM `{database}`.`{table}` LIMIT 0")).await {
                found.push(error.message().to_owned());
            }
        }
        found
    }

    /// The timestamp of the complete snapshot under a label, when there is one.
    pub(super) async fn snapshot(&mut self, repository: &str, label: &str) -> Result<Option<String>> {
        let show = format!("SHOW SNAPSHOT ON `{repository}` WHERE SNAPSHOT = \"{label}\"");
        let rows = self.query(&show).await?;
        let whole = rows.iter().find(|row| row.get("Status") == "OK");
        Ok(whole.and_then(|row| row.get("Timestamp").lines().last().map(str::to_owned)))
    }

    /// How the last job that a SHOW lists stands.
    pub(super) async fn seen(&mut self, show: &str) -> Result<Seen> {
        let state = self.query(show).await?.last().map(|row| row.get("State").to_owned());
        Ok(match state.as_deref() {
            None => Seen::Nothing,
            Some("FINISHED") => Seen::Finished,
            Some("CANCELLED") => Seen::Cancelled,
            Some(_) => Seen::Running,
        })
    }

    /// Names of a table's columns.
    pub(super) async fn columns(&mut self, database: &str, table: &str) -> Result<Vec<String>> {
        let rows = self.query(&format!("SHOW COLUMNS FROM `{database}`.`{table}`")).await?;
        Ok(rows.iter().map(|row| row.get("Field").to_owned()).collect())
    }

    /// Rows and checksums of a table, or of one partition.
    pub(super) async fn fingerprint(&mut self, of: &str, columns: &[String]) -> Result<Fingerprint> {
        let sums: String = columns.iter().map(|column| format!(", checksum(`{column}`)")).collect();
        let rows = self.query(&format!("SELECT count(*){sums} FROM {of}")).await?;
        let row = rows.first().ok_or_else(|| Error::bug("a count without a row"))?;
        let values = row.cells().iter().map(|(_, value)| value.clone().unwrap_or_else(|| "NULL".to_owned()));
        let names = std::iter::once("rows".to_owned()).chain(columns.iter().cloned());
        Ok(names.zip(values).collect())
    }
}
