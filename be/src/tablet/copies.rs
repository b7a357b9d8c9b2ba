//! Copies of one tablet in several data directories, as they are found when one of them comes back after an absence.
//!
//! A copy may only go to the trash when the one that stays has every row it has. Copies that went different ways are
//! never chosen between: the tablet is bad, all of them stay, and the leader takes another replica.

use crate::tablet::disk::Disk;
use crate::tablet::meta::TabletMeta;
use std::sync::Arc;

/// A copy that reads well.
#[derive(Debug, Clone)]
pub(crate) struct Copy {
    pub(crate) disk: Arc<Disk>,
    pub(crate) meta: TabletMeta,
}

/// What to do with the copies of a tablet.
#[derive(Debug)]
pub(crate) enum Choice {
    /// Serve the first; the others have nothing that it does not have.
    Serve(Copy, Vec<Copy>),
    /// Their rows differ: serve none.
    Differ(Copy, String),
}

/// Choose between copies of one tablet; `None` when there are none.
pub(crate) fn choose(mut copies: Vec<Copy>) -> Option<Choice> {
    // The newest last; of equal ones any.
    copies.sort_by_key(|copy| copy.meta.version);
    let newest = copies.pop()?;
    match copies.iter().find(|older| !contains(&newest.meta, &older.meta)) {
        None => Some(Choice::Serve(newest, copies)),
        Some(other) => {
            let place = |copy: &Copy| {
                let dir = copy.disk.layout().tablet(copy.meta.tablet_id);
                format!("{} (version {}, {} rows)", dir.display(), copy.meta.version, copy.meta.rows())
            };
            let reason = format!("{} and {} are copies of it with different rows", place(&newest), place(other));
            Some(Choice::Differ(newest, reason))
        }
    }
}

/// Whether `newest` was exactly `older` when it was at that version.
fn contains(newest: &TabletMeta, older: &TabletMeta) -> bool {
    newest.at(older.version).is_ok_and(|then| {
        (then.table_id, then.partition_id, &then.rowsets) == (older.table_id, older.partition_id, &older.rowsets)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tablet::DataFile;
    use crate::tablet::testing::schema;

    fn file(name: &str) -> Vec<DataFile> {
        vec![DataFile { name: name.to_owned(), bytes: 10, rows: 1, blake3: "00".repeat(32) }]
    }

    #[test]
    fn a_copy_is_given_up_only_when_its_rows_are_in_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::open(dir.path()).unwrap());
        let choice = |metas: &[&TabletMeta]| {
            let copy = |meta: &&TabletMeta| Copy { disk: disk.clone(), meta: (*meta).clone() };
            match choose(metas.iter().map(copy).collect()) {
                None => "none".to_owned(),
                Some(Choice::Serve(copy, older)) => format!("serve {}, {} older", copy.meta.version, older.len()),
                Some(Choice::Differ(..)) => "differ".to_owned(),
            }
        };
        let two = TabletMeta::empty(7, 1, 2, schema()).next(file("a"));
        let three = two.next(file("b"));
        assert_eq!(choice(&[]), "none");
        assert_eq!(choice(&[&three, &two, &two]), "serve 3, 2 older");
        // Made again without its rows, at the same version and further on.
        let empty = TabletMeta::empty(7, 1, 2, schema()).next(vec![]);
        assert_eq!(choice(&[&empty, &two]), "differ");
        assert_eq!(choice(&[&two, &empty.next(vec![]).next(file("c"))]), "differ");
        assert_eq!(choice(&[&empty, &empty.next(vec![])]), "serve 3, 1 older");
        let other = TabletMeta { table_id: 9, ..two.clone() };
        assert_eq!(choice(&[&two, &other]), "differ");
    }
}
