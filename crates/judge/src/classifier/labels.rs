//! What a classifier's outputs stand for: Mikels' eight emotions, and what a picture may show instead.
//!
//! A judge that knows *neutral* and *unreadable* (a face that was wiped or blotched) need not call every picture an
//! emotion. An edit that it reads as either counts as a miss.

use std::path::Path;

use emotions::Emotion;
use tch::Tensor;

use super::unsupported;
use crate::error::Result;

/// The classes beside the emotions that a judge may know.
const OTHERS: [&str; 2] = ["neutral", "unreadable"];

/// The indices of the eight emotions among a network's outputs, and the other classes with theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    emotions: [i64; 8], // in the order of Emotion::ALL
    others: Vec<(i64, String)>,
}

impl Labels {
    /// Checks `names`, the `labels` of the config.json at `path`, in the order of the last layer.
    ///
    /// # Errors
    /// If an emotion is missing or named twice, or a name is neither an emotion, `neutral` nor `unreadable`.
    pub fn new(path: &Path, names: &[String]) -> Result<Self> {
        let place = |name: &str| names.iter().position(|n| n == name);
        for (index, name) in names.iter().enumerate() {
            let known = OTHERS.contains(&name.as_str()) || Emotion::ALL.iter().any(|e| e.name() == name);
            if !known || place(name) != Some(index) {
                let message = format!("{name}; each of the eight emotions once, and at most {}", OTHERS.join(" and "));
                return unsupported(path, "labels", message);
            }
        }
        let Some(emotions) = Emotion::ALL.iter().map(|e| place(e.name()).map(|p| p as i64)).collect::<Option<Vec<_>>>()
        else {
            return unsupported(path, "labels", "must name each of the eight emotions once".into());
        };
        let others = OTHERS.iter().filter_map(|name| Some((place(name)? as i64, (*name).to_string()))).collect();
        Ok(Self { emotions: emotions.try_into().expect("invariant: there are eight emotions"), others })
    }

    /// How many classes the last layer has.
    pub fn count(&self) -> i64 {
        (self.emotions.len() + self.others.len()) as i64
    }

    /// The classes beside the emotions.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.others.iter().map(|(_, name)| name.as_str())
    }

    /// (8 + others): the index of each emotion in [`Emotion::ALL`]'s order, then of the other classes.
    pub fn order(&self) -> Tensor {
        let others = self.others.iter().map(|(place, _)| *place);
        Tensor::from_slice(&self.emotions.iter().copied().chain(others).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Result<Labels> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Labels::new(Path::new("config.json"), &names)
    }

    const EIGHT: [&str; 8] = ["sadness", "anger", "awe", "contentment", "disgust", "excitement", "fear", "amusement"];

    #[test]
    fn emotions_come_first_in_their_own_order_and_other_classes_after_them() {
        let found = labels(&[&["unreadable"], EIGHT.as_slice(), &["neutral"]].concat()).expect("all are known");
        assert_eq!(Vec::<i64>::try_from(found.order()).expect("a vector"), [8, 2, 3, 4, 5, 6, 7, 1, 9, 0]);
        assert_eq!(found.others().collect::<Vec<_>>(), ["neutral", "unreadable"]);
        assert_eq!(found.count(), 10);
    }

    #[test]
    fn a_missing_a_doubled_and_an_unknown_label_are_refused_by_name() {
        for (names, word) in [
            (EIGHT[1..].to_vec(), "each of the eight"),
            ([EIGHT.as_slice(), &["anger"]].concat(), "anger"),
            ([EIGHT.as_slice(), &["boredom"]].concat(), "boredom"),
        ] {
            let error = labels(&names).expect_err("it is refused").to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
