//! Which replicas are being copied, and which are being dropped: never both.
//!
//! In memory of the leader. What an earlier leader began to drop, a backend ends before it begins a copy.

use coffer_proto::ids::{BackendId, TabletId};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A replica: which tablet, where.
pub(super) type Place = (TabletId, BackendId);

/// Which replicas are being copied, and which are being dropped.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    places: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    kept: HashMap<Place, u32>,
    dropping: HashSet<Place>,
}

/// A copy that is not dropped as long as this lives.
#[derive(Debug)]
pub struct Kept {
    keeping: Arc<Keeping>,
    place: Place,
}

impl Keeping {
    fn marks(&self) -> MutexGuard<'_, Marks> {
        // Nothing panics while it holds the lock.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` while the replica is being dropped.
    pub(super) fn keep(self: &Arc<Keeping>, place: Place) -> Option<Kept> {
        let mut marks = self.marks();
        if marks.dropping.contains(&place) {
            return None;
        }
        *marks.kept.entry(place).or_default() += 1;
        Some(Kept { keeping: Arc::clone(self), place })
    }

    /// Whether it may be dropped; then nobody copies onto it before [`Keeping::dropped`].
    pub(super) fn drop_begins(&self, place: Place) -> bool {
        let mut marks = self.marks();
        !marks.kept.contains_key(&place) && marks.dropping.insert(place)
    }

    /// It was dropped, or was not.
    pub(super) fn dropped(&self, place: Place) {
        self.marks().dropping.remove(&place);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut marks = self.keeping.marks();
        let left = marks.kept.get(&self.place).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            marks.kept.remove(&self.place);
        } else {
            marks.kept.insert(self.place, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (TabletId(10), BackendId(3));

    #[test]
    fn what_is_being_copied_is_not_dropped_and_the_other_way_round() {
        let keeping = Arc::new(Keeping::default());
        let (first, second) = (keeping.keep(PLACE).unwrap(), keeping.keep(PLACE).unwrap());
        drop(first);
        assert!(!keeping.drop_begins(PLACE));
        drop(second);
        assert!(keeping.drop_begins(PLACE) && !keeping.drop_begins(PLACE));
        assert!(keeping.keep(PLACE).is_none());
        keeping.dropped(PLACE);
        assert!(keeping.keep(PLACE).is_some());
    }
}
