//! Decoded row groups within a memory budget, the least recently used leaving first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;
use crate::row::Row;

/// Shard and row group.
type Key = (u32, u32);

/// A cache of row groups.
#[derive(Debug)]
pub struct GroupCache {
    budget_bytes: usize,
    used_bytes: usize,
    clock: u64,
    groups: HashMap<Key, Held>,
}

#[derive(Debug)]
struct Held {
    rows: Arc<[Arc<Row>]>,
    bytes: usize,
    used_at: u64,
}

impl GroupCache {
    /// An empty cache of `budget_bytes`.
    pub fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, used_bytes: 0, clock: 0, groups: HashMap::new() }
    }

    /// The group under `key`, read if it is not held. The newest group is held even where it alone exceeds the budget.
    pub fn get_or_read(&mut self, key: Key, read: impl FnOnce() -> Result<Vec<Row>>) -> Result<Arc<[Arc<Row>]>> {
        self.clock += 1;
        if let Some(held) = self.groups.get_mut(&key) {
            held.used_at = self.clock;
            return Ok(held.rows.clone());
        }
        let rows: Arc<[Arc<Row>]> = read()?.into_iter().map(Arc::new).collect();
        let bytes = rows.iter().map(|r| r.memory_bytes()).sum();
        self.make_room(bytes);
        self.used_bytes += bytes;
        self.groups.insert(key, Held { rows: rows.clone(), bytes, used_at: self.clock });
        Ok(rows)
    }

    fn make_room(&mut self, bytes: usize) {
        while self.used_bytes + bytes > self.budget_bytes {
            let Some(oldest) = self.groups.iter().min_by_key(|(_, held)| held.used_at).map(|(key, _)| *key) else {
                return;
            };
            self.used_bytes -= self.groups.remove(&oldest).map_or(0, |held| held.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    #[test]
    fn the_least_recently_used_group_leaves_first() {
        let size = row("a").memory_bytes();
        let mut cache = GroupCache::new(2 * size);
        let mut reads = Vec::new();
        for key in [0, 1, 0, 2, 0, 1] {
            let mut read = false;
            cache
                .get_or_read((0, key), || {
                    read = true;
                    Ok(vec![row("a")])
                })
                .expect("read");
            reads.push(read);
            assert!(cache.used_bytes <= 2 * size);
        }
        assert_eq!(reads, [true, true, false, true, false, true]);
    }

    #[test]
    fn one_group_larger_than_the_budget_is_still_served() {
        let mut cache = GroupCache::new(0);
        assert_eq!(cache.get_or_read((0, 0), || Ok(vec![row("a")])).expect("read").len(), 1);
        assert_eq!(cache.get_or_read((0, 1), || Ok(vec![row("b")])).expect("read").len(), 1);
        assert_eq!(cache.groups.len(), 1);
    }
}
