//! The comparison after a migration: versions first, then rows and checksums of what did not go on.

use super::compare::{Compared, Outcome, by_versions, differences};
use super::plan::Partitions;
use super::progress::State;
use super::side::Cluster;
use crate::screen;
use coffer_stdx::{Error, Result};
use std::collections::BTreeMap;

/// Loads that come while a table is read make another look necessary; after so many, partition by partition.
const WHOLE_TABLE_TRIES: usize = 2;

/// Compare every table.
pub(super) async fn all(source: &mut Cluster, target: &mut Cluster, state: &State) -> Result<Vec<Compared>> {
    let mut compared = Vec::new();
    for (table, snapshot) in &state.versions {
        screen::complain(&format!("comparing {}.{table}", state.request.database));
        compared.extend(Both { source, target, database: &state.request.database, table, snapshot }.compare().await?);
    }
    Ok(compared)
}

/// A table at both clusters.
struct Both<'a> {
    source: &'a mut Cluster,
    target: &'a mut Cluster,
    database: &'a str,
    table: &'a str,
    snapshot: &'a BTreeMap<String, u64>,
}

impl Both<'_> {
    async fn compare(&mut self) -> Result<Vec<Compared>> {
        let columns = match self.target.columns(self.database, self.table).await {
            Ok(columns) => columns,
            Err(error) if error.kind().is_transient() => return Err(error),
            Err(_) => return Ok(by_versions(self.table, self.snapshot, &self.of_source().await?, &Partitions::new())),
        };
        for _ in 0..WHOLE_TABLE_TRIES {
            let mut found = self.versions().await?;
            if found.iter().any(|one| one.outcome != Outcome::Equal) {
                break;
            }
            let (outcome, rows) = self.contents(None, &columns).await?;
            // A load that came meanwhile shows in the versions; then nothing is known yet.
            if self.versions().await?.iter().all(|now| now.outcome == Outcome::Equal) {
                self.give(&mut found, &outcome, rows).await?;
                return Ok(found);
            }
        }
        self.by_partition(&columns).await
    }

    /// One partition after the other; those that went on keep what their versions tell.
    async fn by_partition(&mut self, columns: &[String]) -> Result<Vec<Compared>> {
        let mut found = self.versions().await?;
        for one in &mut found {
            if one.outcome == Outcome::Equal {
                let (outcome, rows) = self.contents(Some(&one.partition), columns).await?;
                (one.outcome, one.rows) = (outcome, Some(rows));
            } else if !matches!(one.outcome, Outcome::Missing | Outcome::AddedAfter) {
                one.rows = Some(self.count(&one.partition).await?);
            }
        }
        for now in self.versions().await? {
            let before = found.iter_mut().find(|one| one.partition == now.partition);
            match before {
                Some(one) if now.outcome != Outcome::Equal => {
                    (one.outcome, one.source_version) = (now.outcome, now.source_version);
                }
                Some(_) => {}
                None => found.push(now),
            }
        }
        Ok(found)
    }

    async fn of_source(&mut self) -> Result<Partitions> {
        match self.source.partitions(self.database, self.table).await {
            Ok(partitions) => Ok(partitions),
            Err(error) if error.kind().is_transient() => Err(error),
            // Dropped since.
            Err(_) => Ok(Partitions::new()),
        }
    }

    async fn versions(&mut self) -> Result<Vec<Compared>> {
        let source = self.of_source().await?;
        let target = self.target.partitions(self.database, self.table).await?;
        Ok(by_versions(self.table, self.snapshot, &source, &target))
    }

    fn name(&self, partition: Option<&str>) -> String {
        let table = format!("`{}`.`{}`", self.database, self.table);
        partition.map_or_else(|| table.clone(), |partition| format!("{table} PARTITION (`{partition}`)"))
    }

    /// Read both sides at the same time; the rows are those at the target.
    async fn contents(&mut self, partition: Option<&str>, columns: &[String]) -> Result<(Outcome, u64)> {
        let of = self.name(partition);
        let (source, target) =
            futures::join!(self.source.fingerprint(&of, columns), self.target.fingerprint(&of, columns));
        let (source, target) = (source?, target?);
        let rows = target.first().and_then(|(_, rows)| rows.parse().ok());
        let rows = rows.ok_or_else(|| Error::bug("a count that is no number"))?;
        let what = differences(&source, &target);
        Ok((if what.is_empty() { Outcome::Equal } else { Outcome::Different { what } }, rows))
    }

    async fn count(&mut self, partition: &str) -> Result<u64> {
        let of = self.name(Some(partition));
        let counted = self.target.fingerprint(&of, &[]).await?;
        counted.first().and_then(|(_, rows)| rows.parse().ok()).ok_or_else(|| Error::bug("a count that is no number"))
    }

    /// The outcome of a whole table is that of each of its partitions; rows are counted where there is more than one.
    async fn give(&mut self, found: &mut [Compared], outcome: &Outcome, rows: u64) -> Result<()> {
        let single = found.len() == 1;
        for one in found {
            one.outcome = outcome.clone();
            one.rows = Some(if single { rows } else { self.count(&one.partition).await? });
        }
        Ok(())
    }
}
