//! DECOMMISSION BACKEND: refused at once when the others cannot take what is there. Pure.

use crate::error::{Error, Result};
use crate::meta::command::Command;
use crate::meta::drain::{DrainChange, Lot};
use crate::meta::state::State;
use coffer_proto::ids::BackendId;

/// Mark these backends, if the living others are enough for what is on them.
pub(super) fn decommission(state: &State, named: Vec<BackendId>, alive: impl Fn(BackendId) -> bool) -> Result<Command> {
    match in_the_way(state, &named, alive) {
        Some(reason) => Err(Error::invalid(format!("the backends cannot be decommissioned: {reason}"))),
        None => Ok(Command::Drain(DrainChange::Decommission { backends: named, on: true })),
    }
}

/// Why the living backends that stay cannot take what is on these.
pub(in crate::exec) fn in_the_way(
    state: &State,
    named: &[BackendId],
    alive: impl Fn(BackendId) -> bool,
) -> Option<String> {
    let staying = state.backends.values().filter(|backend| !backend.decommissioned && !named.contains(&backend.id));
    let living = staying.filter(|backend| alive(backend.id)).count();
    if living == 0 {
        return Some("no living backend would be left; add another one first".to_owned());
    }
    let wanted = |lot: &Lot<'_>| {
        let here = lot.partition.tablets.iter().filter(|tablet| tablet.replicas.iter().any(|id| named.contains(id)));
        here.map(|tablet| tablet.replicas.len()).max().unwrap_or_default()
    };
    let lot = state.lots().find(|lot| wanted(lot) > living)?;
    Some(format!(
        "{} has {} replicas per tablet, and {living} other living backends would be left; add one first, or drop the table",
        name_of(state, &lot),
        wanted(&lot)
    ))
}

fn name_of(state: &State, lot: &Lot<'_>) -> String {
    let table = lot.db.and_then(|db| state.table_by_id(db, lot.table));
    match table {
        Some((database, table)) => format!("table '{}.{}'", database.name, table.name),
        None => format!("partition '{}' in the recycle bin", lot.partition.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::sample;
    use crate::meta::apply::apply;

    #[test]
    fn what_the_others_cannot_take_is_named() {
        let mut state = sample::state();
        let [first, second] = [BackendId(10_001), BackendId(10_002)];
        let text = |state: &State, named: &[BackendId], alive: fn(BackendId) -> bool| {
            decommission(state, named.to_vec(), alive).err().map(|error| error.message().to_owned()).unwrap_or_default()
        };
        let found = text(&state, &[first], |_| true);
        assert!(found.contains("table 'db.t' has 2 replicas per tablet, and 1 other living backends"), "{found}");
        assert!(text(&state, &[first, second], |_| true).contains("no living backend would be left"));
        assert!(text(&state, &[first], |id| id == BackendId(10_001)).contains("no living backend would be left"));
        let addresses = vec![("b3".to_owned(), 9050)];
        apply(&mut state, &Command::AddBackends { addresses, now_ms: 1 });
        let command = decommission(&state, vec![first], |_| true).unwrap();
        assert!(
            matches!(&command, Command::Drain(DrainChange::Decommission { backends, on: true }) if *backends == [first])
        );
        apply(&mut state, &command);
        let found = text(&state, &[second], |_| true);
        assert!(found.contains("and 1 other living backends"), "one that leaves does not count: {found}");
    }

    #[test]
    fn what_is_in_the_recycle_bin_counts() {
        let mut state = sample::state();
        let db = state.find_database("db").unwrap().id;
        let recycle = crate::meta::definition::Definition::RecycleDatabase { db, now_ms: 1 };
        apply(&mut state, &Command::Define(recycle));
        let error = decommission(&state, vec![BackendId(10_002)], |_| true).unwrap_err();
        assert!(error.message().contains("partition 'p1' in the recycle bin has 2 replicas"), "{error}");
    }
}
