//! Whether a migration can be, and what it will do, from what both clusters say. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of the free space at the target a migration may fill this share, percent.
const SPACE_SHARE: u64 = 90;

/// What was asked for. Kept in the state, so it has no passwords.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// `user@host:port` of the source.
    pub(super) from: String,
    /// `user@host:port` of the target.
    pub(super) to: String,
    /// Repository at the source.
    pub(super) repository: String,
    /// Repository at the target.
    pub(super) to_repository: String,
    /// The database.
    pub(super) database: String,
    /// Tables as asked for; empty for all.
    pub(super) tables: Vec<String>,
    /// Properties of RESTORE.
    pub(super) restore_properties: Vec<(String, String)>,
}

/// A partition, as SHOW PARTITIONS prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Partition {
    /// Visible version.
    pub(super) version: u64,
    /// Rows of one replica, as last reported.
    pub(super) rows: u64,
    /// Bytes of one replica, as last reported.
    pub(super) bytes: u64,
    /// Replicas.
    pub(super) replicas: u64,
}

/// Partitions by name.
pub(super) type Partitions = BTreeMap<String, Partition>;

/// A repository, as SHOW REPOSITORIES prints it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its location.
    pub(super) location: String,
    /// Its name there.
    pub(super) remote_name: String,
    /// Whether it is read only.
    pub(super) read_only: bool,
    /// What is wrong with it.
    pub(super) error: String,
}

/// What one cluster says.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// Version of its frontends.
    pub(super) version: String,
    /// The cluster's id.
    pub(super) cluster_id: String,
    /// The repository, when the cluster knows it.
    pub(super) place: Option<Place>,
    /// Tables of the database; `None` when there is no such database.
    pub(super) tables: Option<BTreeMap<String, Partitions>>,
    /// A backup or restore that runs in the database.
    pub(super) busy: Option<String>,
    /// Backends that live.
    pub(super) backends: u64,
    /// Bytes that are free on them.
    pub(super) free_bytes: u64,
    /// Tables that the account may not read, with the error.
    pub(super) unreadable: Vec<String>,
    /// Whether the label is taken in the repository; asked at the source only.
    pub(super) label_taken: bool,
}

/// What will happen, or why not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    /// Tables that move.
    pub(super) tables: Vec<String>,
    /// Their partitions.
    pub(super) partitions: u64,
    /// Rows, as last reported.
    pub(super) rows: u64,
    /// Bytes of one replica.
    pub(super) bytes: u64,
    /// Bytes of all replicas at the target.
    pub(super) target_bytes: u64,
    /// What forbids it; nothing is done when there is any.
    pub(super) objections: Vec<String>,
    /// What is to be known.
    pub(super) notes: Vec<String>,
}

/// Compare both sides with the request.
pub(super) fn plan(request: &Request, from: &Side, to: &Side) -> Plan {
    let mut plan = Plan::default();
    let database = &request.database;
    match &from.tables {
        None => plan.objections.push(format!("the source has no database {database}")),
        Some(there) => choose(&mut plan, request, there),
    }
    let wanted = replicas_wanted(request);
    if let Some(there) = &from.tables {
        for partition in plan.tables.iter().filter_map(|name| there.get(name)).flat_map(BTreeMap::values) {
            plan.partitions += 1;
            plan.rows += partition.rows;
            plan.bytes += partition.bytes;
            plan.target_bytes += partition.bytes * wanted.unwrap_or(partition.replicas).min(to.backends.max(1));
        }
    }
    objections(&mut plan, request, from, to);
    notes(&mut plan, from, to, wanted);
    plan
}

fn choose(plan: &mut Plan, request: &Request, there: &BTreeMap<String, Partitions>) {
    for table in &request.tables {
        if !there.contains_key(table) {
            plan.objections.push(format!("the source has no table {}.{table}", request.database));
        }
    }
    let wanted = |name: &&String| request.tables.is_empty() || request.tables.contains(name);
    plan.tables = there.keys().filter(wanted).cloned().collect();
    if there.is_empty() {
        plan.objections.push(format!("database {} has no tables at the source", request.database));
    }
}

fn replicas_wanted(request: &Request) -> Option<u64> {
    let (_, value) = request.restore_properties.iter().find(|(key, _)| key == "replication_num")?;
    value.parse().ok()
}

fn objections(plan: &mut Plan, request: &Request, from: &Side, to: &Side) {
    let mut object = |text: String| plan.objections.push(text);
    if !from.cluster_id.is_empty() && from.cluster_id == to.cluster_id {
        object("source and target are the same cluster".to_owned());
    }
    for (side, name, place) in
        [("source", &request.repository, &from.place), ("target", &request.to_repository, &to.place)]
    {
        match place {
            None => object(format!(
                "the {side} knows no repository {name}: CREATE{} REPOSITORY `{name}` ... at the same location",
                if side == "target" { " READ ONLY" } else { "" }
            )),
            Some(place) if !matches!(place.error.as_str(), "" | "NULL") => {
                object(format!("repository {name} at the {side} does not answer: {}", place.error));
            }
            Some(_) => {}
        }
    }
    if let (Some(source), Some(target)) = (&from.place, &to.place) {
        if source.read_only {
            object(format!("repository {} is read only at the source", request.repository));
        }
        let at = |place: &Place| (place.location.trim_end_matches('/').to_owned(), place.remote_name.clone());
        if at(source) != at(target) {
            object(format!(
                "the repositories are not the same: {} ({}) at the source, {} ({}) at the target",
                source.location, source.remote_name, target.location, target.remote_name
            ));
        }
    }
    if from.label_taken {
        object("the repository holds a snapshot with this label already: choose another with --label".to_owned());
    }
    for (side, busy) in [("source", &from.busy), ("target", &to.busy)] {
        if let Some(job) = busy {
            object(format!("a job runs in database {} at the {side}: {job}", request.database));
        }
    }
    for error in &from.unreadable {
        object(format!("the account at the source cannot read, so nothing could be compared: {error}"));
    }
    if to.backends == 0 {
        object("no backend of the target is alive".to_owned());
    }
    let in_the_way = |name: &&String| to.tables.as_ref().is_some_and(|tables| tables.contains_key(*name));
    let taken: Vec<String> = plan.tables.iter().filter(in_the_way).cloned().collect();
    if !taken.is_empty() {
        plan.objections.push(format!(
            "tables of these names are in the way at the target: {}; drop or rename them, or leave them out with --tables",
            taken.join(", ")
        ));
    }
    if plan.target_bytes > to.free_bytes / 100 * SPACE_SHARE {
        let text = format!("{} are needed at the target, {} are free", size(plan.target_bytes), size(to.free_bytes));
        plan.objections.push(text);
    }
}

fn notes(plan: &mut Plan, from: &Side, to: &Side, wanted: Option<u64>) {
    if from.version != to.version {
        plan.notes.push(format!("source and target have different versions: {} and {}", from.version, to.version));
    }
    if to.tables.is_none() {
        plan.notes.push("the database will be created at the target".to_owned());
    }
    let tables = from.tables.iter().flat_map(|tables| plan.tables.iter().filter_map(|name| tables.get(name)));
    let most = tables.flat_map(BTreeMap::values).map(|partition| wanted.unwrap_or(partition.replicas)).max();
    if let Some(most) = most.filter(|most| *most > to.backends) {
        plan.notes.push(format!(
            "{most} replicas are wanted, but the target has {} backends: so many they will be",
            to.backends
        ));
    }
}

/// Bytes of `1.234 GB`, as SHOW prints them.
pub(super) fn bytes_of(shown: &str) -> u64 {
    let (number, unit) = shown.trim().split_once(' ').unwrap_or((shown.trim(), ""));
    let power = ["B", "KB", "MB", "GB", "TB", "PB"].iter().position(|known| *known == unit).unwrap_or(0);
    let number = number.parse::<f64>().unwrap_or(0.0);
    (number * 1024_f64.powi(i32::try_from(power).unwrap_or(0))) as u64
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn request() -> Request {
        Request {
            from: "root@a:1".to_owned(),
            to: "root@b:1".to_owned(),
            repository: "r".to_owned(),
            to_repository: "r".to_owned(),
            database: "d".to_owned(),
            tables: Vec::new(),
            restore_properties: Vec::new(),
        }
    }

    pub(in super::super) fn partitions(versions: &[(&str, u64)]) -> Partitions {
        let one = |version| Partition { version, rows: 10, bytes: 1_000, replicas: 2 };
        versions.iter().map(|(name, version)| ((*name).to_owned(), one(*version))).collect()
    }

    fn sides() -> (Side, Side) {
        let place = Place { location: "s3://x/".to_owned(), remote_name: "r".to_owned(), ..Place::default() };
        let tables = [("t", partitions(&[("p", 2), ("q", 3)])), ("u", partitions(&[("u", 1)]))];
        let from = Side {
            version: "1".to_owned(),
            cluster_id: "a".to_owned(),
            place: Some(place.clone()),
            tables: Some(tables.into_iter().map(|(name, parts)| (name.to_owned(), parts)).collect()),
            backends: 3,
            free_bytes: 1 << 30,
            ..Side::default()
        };
        let place = Place { location: "s3://x".to_owned(), read_only: true, ..place };
        let to = Side { cluster_id: "b".to_owned(), place: Some(place), tables: Some(BTreeMap::new()), ..from.clone() };
        (from, to)
    }

    #[test]
    fn a_plan_adds_up() {
        let (from, to) = sides();
        let found = plan(&request(), &from, &to);
        assert_eq!((found.objections.clone(), found.notes.clone()), (vec![], vec![]));
        assert_eq!((found.partitions, found.rows, found.bytes, found.target_bytes), (3, 30, 3_000, 6_000));
        assert_eq!(found.tables, ["t", "u"]);
        let some = Request {
            tables: vec!["u".to_owned()],
            restore_properties: vec![("replication_num".to_owned(), "3".to_owned())],
            ..request()
        };
        let to = Side { tables: None, backends: 2, version: "2".to_owned(), ..to };
        let found = plan(&some, &from, &to);
        assert_eq!((found.tables, found.target_bytes), (vec!["u".to_owned()], 2_000));
        assert_eq!(found.objections, Vec::<String>::new());
        for (note, word) in found.notes.iter().zip(["different versions", "will be created", "3 replicas are wanted"]) {
            assert!(note.contains(word), "{note}");
        }
    }

    #[test]
    fn everything_that_cannot_be_is_said_at_once() {
        type Spoil = fn(&mut Request, &mut Side, &mut Side);
        let cases: [(&str, Spoil); 14] = [
            ("source has no database d", |_, from, _| from.tables = None),
            ("no table d.x", |request, _, _| request.tables = vec!["x".to_owned()]),
            ("has no tables", |_, from, _| from.tables = Some(BTreeMap::new())),
            ("the same cluster", |_, _, to| to.cluster_id = "a".to_owned()),
            ("the source knows no repository r: CREATE REPOSITORY", |_, from, _| from.place = None),
            ("target knows no repository r: CREATE READ ONLY REPOSITORY", |_, _, to| to.place = None),
            ("does not answer: gone", |_, _, to| {
                to.place = Some(Place { error: "gone".to_owned(), ..to.place.clone().unwrap() });
            }),
            ("not the same: s3://x/ (r) at the source, s3://y (r)", |_, _, to| {
                to.place = Some(Place { location: "s3://y".to_owned(), ..to.place.clone().unwrap() });
            }),
            ("read only at the source", |_, from, _| from.place.as_mut().unwrap().read_only = true),
            ("with this label already", |_, from, _| from.label_taken = true),
            ("a job runs in database d at the target: BACKUP x", |_, _, to| to.busy = Some("BACKUP x".to_owned())),
            ("cannot read", |_, from, _| from.unreadable = vec!["1142".to_owned()]),
            ("no backend of the target", |_, _, to| to.backends = 0),
            ("in the way at the target: t;", |_, from, to| {
                to.tables.clone_from(&from.tables.clone().map(|mut tables| {
                    tables.remove("u");
                    tables
                }))
            }),
        ];
        for (text, spoil) in cases {
            let (mut request, (mut from, mut to)) = (request(), sides());
            spoil(&mut request, &mut from, &mut to);
            let objections = plan(&request, &from, &to).objections;
            assert!(objections.len() == 1 && objections[0].contains(text), "{text}: {objections:?}");
        }
        let (from, mut to) = sides();
        to.free_bytes = 6_000;
        assert!(plan(&request(), &from, &to).objections[0].contains("are needed at the target"));
    }

    #[test]
    fn shown_sizes_are_read() {
        for (shown, bytes) in [("0.000 ", 0), ("17.000 B", 17), ("1.500 KB", 1_536), ("5.000 GB", 5 << 30), ("x", 0)] {
            assert_eq!(bytes_of(shown), bytes, "{shown}");
        }
    }
}
