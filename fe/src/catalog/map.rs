//! An ordered map whose copies share what they hold.
//!
//! A copy of the whole replicated state costs a handful of reference counts, whatever the number of tablets: that is how a
//! snapshot is taken between two entries of the log, and how a query pins what it reads. The first change after a copy
//! copies one level of the path to what changes (the map of pointers, then the value), never the tree.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::{Index, RangeBounds};
use std::sync::Arc;

/// A `BTreeMap` with cheap copies.
pub struct Map<K, V>(Arc<BTreeMap<K, Arc<V>>>);

impl<K: Ord + Clone, V: Clone> Map<K, V> {
    /// An empty map.
    pub fn new() -> Map<K, V> {
        Map::default()
    }

    /// The value of a key, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        // Asked for in vain, nothing is copied.
        if !self.0.contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.0).get_mut(key).map(Arc::make_mut)
    }

    /// Put a value in; the one that was there comes back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        Arc::make_mut(&mut self.0).insert(key, Arc::new(value)).map(Arc::unwrap_or_clone)
    }

    /// Take a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        if !self.0.contains_key(key) {
            return None;
        }
        Arc::make_mut(&mut self.0).remove(key).map(Arc::unwrap_or_clone)
    }

    /// Keep what the predicate wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        if self.0.iter().all(|(key, value)| keep(key, value)) {
            return;
        }
        Arc::make_mut(&mut self.0).retain(|key, value| keep(key, value));
    }

    /// Every value in the order of keys, to change it.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        Arc::make_mut(&mut self.0).values_mut().map(Arc::make_mut)
    }

    /// All values in the order of keys.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        Arc::unwrap_or_clone(self.0).into_values().map(Arc::unwrap_or_clone)
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        *self = Map::default();
    }
}

impl<K: Ord, V> Map<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|value| &**value)
    }

    /// Whether there is a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All keys in order.
    pub fn keys(&self) -> btree_map::Keys<'_, K, Arc<V>> {
        self.0.keys()
    }

    /// All values in the order of keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.values().map(|value| &**value)
    }

    /// All pairs in the order of keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(pair)
    }

    /// The pairs of some keys in order.
    pub fn range(&self, keys: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.range(keys).map(pair)
    }
}

/// Pairs in the order of keys.
pub type Iter<'a, K, V> = std::iter::Map<btree_map::Iter<'a, K, Arc<V>>, fn((&'a K, &'a Arc<V>)) -> (&'a K, &'a V)>;

fn pair<'a, K, V>((key, value): (&'a K, &'a Arc<V>)) -> (&'a K, &'a V) {
    (key, value)
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Map<K, V> {
        Map(Arc::new(BTreeMap::new()))
    }
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Map<K, V> {
        Map(Arc::clone(&self.0))
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Copies that were never changed are found equal without a look inside.
impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Map<K, V>) -> bool {
        if Arc::ptr_eq(&self.0, &other.0) {
            return true;
        }
        let mut pairs = self.0.iter().zip(other.0.iter());
        self.0.len() == other.0.len() && pairs.all(|(a, b)| a.0 == b.0 && (Arc::ptr_eq(a.1, b.1) || a.1 == b.1))
    }
}

impl<K: Eq, V: Eq> Eq for Map<K, V> {}

impl<K: Ord, V> Index<&K> for Map<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.0[key]
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Map<K, V> {
        Map(Arc::new(pairs.into_iter().map(|(key, value)| (key, Arc::new(value))).collect()))
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(pairs: [(K, V); N]) -> Map<K, V> {
        pairs.into_iter().collect()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K: Ord + Clone, V: Clone> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = std::iter::Map<btree_map::IntoIter<K, Arc<V>>, fn((K, Arc<V>)) -> (K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.0).into_iter().map(|(key, value)| (key, Arc::unwrap_or_clone(value)))
    }
}

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, &**value)))
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Map<K, V>, D::Error> {
        Ok(BTreeMap::<K, V>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map<u64, String> {
        [(1, "a".to_owned()), (2, "b".to_owned())].into()
    }

    #[test]
    fn a_copy_shares_until_one_of_the_two_changes() {
        let mut map = map();
        let copy = map.clone();
        assert!(Arc::ptr_eq(&map.0, &copy.0));
        assert_eq!(map.get_mut(&9), None);
        assert_eq!(map.remove(&9), None);
        map.retain(|_, _| true);
        assert!(Arc::ptr_eq(&map.0, &copy.0));
        map.get_mut(&1).unwrap().push('!');
        assert_eq!((map[&1].as_str(), copy[&1].as_str()), ("a!", "a"));
        // What did not change is still one value.
        assert!(Arc::ptr_eq(&map.0[&2], &copy.0[&2]));
        assert_ne!(map, copy);
        assert_eq!(map.insert(1, "a".to_owned()), Some("a!".to_owned()));
        assert_eq!(map, copy);
    }

    #[test]
    fn it_behaves_like_the_map_it_wraps() {
        let mut map = map();
        assert_eq!((map.len(), map.is_empty(), map.contains_key(&2), map.get(&3)), (2, false, true, None));
        assert_eq!(map.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(map.values().next_back().unwrap(), "b");
        assert_eq!(map.range(2..).count(), 1);
        assert_eq!((&map).into_iter().count(), map.iter().count());
        map.values_mut().for_each(|value| value.push('?'));
        assert_eq!(map.remove(&1), Some("a?".to_owned()));
        map.retain(|key, _| *key != 2);
        assert!(map.is_empty());
        map.insert(5, "e".to_owned());
        assert_eq!(map.clone().into_iter().collect::<Vec<_>>(), [(5, "e".to_owned())]);
        map.clear();
        assert_eq!(map, Map::new());
    }

    #[test]
    fn as_json_it_is_an_object() {
        let json = serde_json::to_string(&map()).unwrap();
        assert_eq!(json, r#"{"1":"a","2":"b"}"#);
        assert_eq!(serde_json::from_str::<Map<u64, String>>(&json).unwrap(), map());
        assert_eq!(format!("{:?}", map()), r#"{1: "a", 2: "b"}"#);
    }
}
