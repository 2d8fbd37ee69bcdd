//! The line of a key: the document is parsed once more, and the parser fails on purpose at the key.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::merge::MERGE;
use super::message::unknown_key;

/// The line that a message of serde_yaml is about. The message begins with a key's path (`train.seed: …`), unless it
/// is about the whole document, and then names the unknown key or choice.
pub fn line_at_fault(text: &str, message: &str) -> Option<usize> {
    let path = message.split_once(": ").map_or("", |(path, _)| path);
    let path = if path.contains([' ', '`']) { Vec::new() } else { steps(path) };
    let Some(word) = unknown_key(message) else { return line_of(text, &path) };
    let key: Vec<String> = path.iter().cloned().chain([word.to_string()]).collect();
    line_of(text, &key).or_else(|| line_of_word(text, word, line_of(text, &path).unwrap_or(1)))
}

/// `methods[0].name` as methods, 0, name.
fn steps(path: &str) -> Vec<String> {
    let parts = path.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    parts.filter(|part| !part.is_empty()).map(str::to_string).collect()
}

/// The first line from `from` on that has the word as a key or a value.
fn line_of_word(text: &str, word: &str, from: usize) -> Option<usize> {
    let has = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].trim_start_matches(['"', '\'']).trim_start();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '-')
                && (after.starts_with(':') || after.is_empty() || after.starts_with([',', '}', '#']))
        })
    };
    let skipped = from.saturating_sub(1);
    text.lines().skip(skipped).position(has).map(|n| skipped + n + 1)
}

/// The line of the key at `path`, in its own mapping or in one that is merged into it.
pub fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let find = |through_merges| {
        let seeker = Seeker { path, through_merges, is_merged: false };
        seeker.deserialize(serde_yaml::Deserializer::from_str(text)).err()?.location()
    };
    find(false).or_else(|| find(true)).map(|place| place.line())
}

/// Goes down a path and fails at its last key.
#[derive(Clone, Copy)]
struct Seeker<'a> {
    path: &'a [String],
    through_merges: bool,
    /// Whether this is the value of a merge key, whose items belong to the mapping around it.
    is_merged: bool,
}

impl<'de> DeserializeSeed<'de> for Seeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => IgnoredAny::deserialize(deserializer).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let index: Option<usize> = self.path[0].parse().ok();
        for n in 0.. {
            let path = match self.is_merged {
                true => self.path,
                false if index == Some(n) => &self.path[1..],
                false => &[],
            };
            if items.next_element_seed(Seeker { path, ..self })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let last = self.path.len() == 1;
        while let Some(key) = entries.next_key_seed(Key { wanted: &self.path[0], last })? {
            let seeker = match key {
                Found::Wanted => Seeker { path: &self.path[1..], is_merged: false, ..self },
                Found::Merge if self.through_merges => Seeker { is_merged: true, ..self },
                Found::Merge | Found::Another => Seeker { path: &[], ..self },
            };
            entries.next_value_seed(seeker)?;
        }
        Ok(())
    }
}

/// What a key is.
enum Found {
    Wanted,
    Merge,
    Another,
}

/// A key; fails if it is the one looked for and the last of the path.
struct Key<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Found, E> {
        match key {
            key if key == self.wanted && self.last => Err(E::custom("here")),
            key if key == self.wanted => Ok(Found::Wanted),
            MERGE => Ok(Found::Merge),
            _ => Ok(Found::Another),
        }
    }
}
