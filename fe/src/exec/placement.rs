//! Which backends get the replicas of new tablets. Pure.
//!
//! Each tablet goes to the distinct backends that have the fewest tablets at that moment, counting those just placed; among
//! equals the one that was chosen longest ago. So a table spreads evenly over equal backends, and a new backend fills up.

use crate::error::{Error, Result};
use crate::meta::command::Placement;
use coffer_proto::ids::BackendId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Backends that may take tablets.
#[derive(Debug)]
pub struct Places {
    /// Fewest tablets first, then longest unused.
    heap: BinaryHeap<Reverse<(u64, u64, BackendId)>>,
    turn: u64,
}

impl Places {
    /// The backends that may be used, each with the replicas it has now.
    pub fn new(backends: impl IntoIterator<Item = (BackendId, u64)>) -> Places {
        let heap = backends.into_iter().map(|(backend, tablets)| Reverse((tablets, 0, backend))).collect();
        Places { heap, turn: 0 }
    }

    /// How many backends there are.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Places for the buckets of one partition.
    pub fn place(&mut self, buckets: u32, replicas: u32) -> Result<Placement> {
        if self.len() < replicas as usize {
            return Err(too_few(replicas, self.len()));
        }
        let mut placement = Placement::with_capacity(buckets as usize);
        for _ in 0..buckets {
            let mut chosen = Vec::with_capacity(replicas as usize);
            while chosen.len() < replicas as usize {
                // The check above leaves enough of them.
                let Some(Reverse(next)) = self.heap.pop() else { return Err(too_few(replicas, self.len())) };
                chosen.push(next);
            }
            placement.push(chosen.iter().map(|(_, _, backend)| *backend).collect());
            for (tablets, _, backend) in chosen {
                self.turn += 1;
                self.heap.push(Reverse((tablets + 1, self.turn, backend)));
            }
        }
        Ok(placement)
    }
}

/// What to say when there are fewer living backends than replicas.
pub fn too_few(replicas: u32, alive: usize) -> Error {
    Error::unavailable(format!(
        "replication num should be less than the number of available backends. replication num is {replicas}, available \
         backend num is {alive}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn counts(placement: &Placement) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for backend in placement.iter().flatten() {
            *counts.entry(backend.0).or_default() += 1;
        }
        counts
    }

    #[test]
    fn replicas_are_distinct_and_spread_evenly() {
        let mut places = Places::new([(BackendId(1), 0), (BackendId(2), 0), (BackendId(3), 0)]);
        let placement = places.place(9, 2).unwrap();
        assert!(placement.iter().all(|replicas| replicas.len() == 2 && replicas[0] != replicas[1]));
        assert_eq!(counts(&placement), BTreeMap::from([(1, 6), (2, 6), (3, 6)]));
        // The next partition goes on where this one ended.
        let next = places.place(1, 2).unwrap();
        let after = places.place(2, 2).unwrap();
        assert_eq!(counts(&next).len() + counts(&after).len(), 2 + 3);
    }

    #[test]
    fn an_empty_backend_fills_up_first() {
        let mut places = Places::new([(BackendId(1), 5), (BackendId(2), 5), (BackendId(3), 0)]);
        assert_eq!(counts(&places.place(5, 1).unwrap()), BTreeMap::from([(3, 5)]));
        assert_eq!(counts(&places.place(3, 1).unwrap()), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    }

    #[test]
    fn too_few_backends_are_named() {
        let mut places = Places::new([(BackendId(1), 0)]);
        assert_eq!(places.len(), 1);
        let error = places.place(1, 2).unwrap_err();
        assert!(error.message().ends_with("replication num is 2, available backend num is 1"), "{error}");
        assert!(Places::new([]).is_empty());
    }
}
