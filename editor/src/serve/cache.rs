//! The most recently used values within a budget of bytes.

/// Values by key. What was used longest ago goes first; the newest stays even if it is larger than the budget.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: Vec<Entry<K, V>>, // the most recently used last
    budget: u64,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    bytes: u64,
}

impl<K: PartialEq, V> Cache<K, V> {
    /// An empty one.
    pub fn new(budget: u64) -> Self {
        Self { entries: Vec::new(), budget }
    }

    /// The value of `key`, which counts as used now.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let at = self.entries.iter().position(|entry| entry.key == *key)?;
        self.entries[at..].rotate_left(1);
        self.entries.last().map(|entry| &entry.value)
    }

    /// Keeps `value`, which takes `bytes`, and drops what the budget has no room for any more.
    pub fn put(&mut self, key: K, value: V, bytes: u64) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key, value, bytes });
        let mut held: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        while held > self.budget && self.entries.len() > 1 {
            held -= self.entries.remove(0).bytes;
        }
    }

    /// Drops every value whose key is not kept.
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.entries.retain(|entry| keep(&entry.key));
    }

    /// How many values there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut cache = Cache::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.put("c", 3, 4);
        assert_eq!(cache.get(&"b"), None);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.put("large", 4, 100);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.get(&"large"), Some(&4));
        cache.put("large", 5, 1);
        cache.put("d", 6, 1);
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.get(&"large"), Some(&5));
        cache.retain(|key| *key == "d");
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.get(&"d"), Some(&6));
    }
}
