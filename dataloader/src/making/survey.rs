//! `dataloader shard --dry-run`: a count of what a source lists, before anything is decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use emotions::Emotion;

use crate::error::Result;
use crate::making::config::ShardConfig;
use crate::reading::filter::agrees;
use crate::sources::{Item, Listing};

/// Above this, annotators were not sure what they saw.
const MAX_AMBIGUITY: f32 = 3.0;

/// Counts of one label, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    listed: usize,
    there: usize,
    strict: usize,
}

impl Count {
    fn add(&mut self, item: &Item, there: bool) {
        self.listed += 1;
        self.there += usize::from(there);
        self.strict += usize::from(is_strict(item));
    }
}

/// Whether an item passes the strict filter: one of the eight emotions, a valence whose sign agrees, little
/// ambiguity. A missing value passes.
fn is_strict(item: &Item) -> bool {
    agrees(item.emotion, item.valence) && item.ambiguity.is_none_or(|a| a <= MAX_AMBIGUITY)
}

/// Counts by label, emotion and split of the recipe's source.
pub fn survey(config: &ShardConfig) -> Result<String> {
    config.check()?;
    Ok(describe(&config.source.list()?, config.source.name()))
}

fn describe(listing: &Listing, name: &str) -> String {
    let mut all = Count::default();
    let mut labels: BTreeMap<(&str, &str), Count> = BTreeMap::new();
    let mut emotions: BTreeMap<&str, Count> = BTreeMap::new();
    let mut splits: BTreeMap<&str, Count> = BTreeMap::new();
    let (mut states, mut subjects) = (BTreeMap::<&str, Count>::new(), BTreeSet::new());
    let items = listing.items.iter().map(|item| (item, true));
    for (item, there) in items.chain(listing.missing.iter().map(|item| (item, false))) {
        let emotion = item.emotion.map_or("none", Emotion::name);
        all.add(item, there);
        labels.entry((item.label.as_deref().unwrap_or("none"), emotion)).or_default().add(item, there);
        emotions.entry(emotion).or_default().add(item, there);
        splits.entry(item.split.as_deref().unwrap_or("by hash")).or_default().add(item, there);
        if let Some(subject) = &item.subject {
            subjects.insert(subject);
            states.entry(item.state.as_deref().unwrap_or("none")).or_default().add(item, there);
        }
    }
    let mut text = format!(
        "{name}: {} images listed, {} there, {} missing, {} unusable as listed\n",
        all.listed,
        all.there,
        listing.missing.len(),
        listing.quarantined.len()
    );
    for count in listing.account.describe() {
        let _ = writeln!(text, "  {count}");
    }
    let mut table = |heading: &str, rows: Vec<(String, Count)>| {
        let _ = writeln!(text, "\n{heading:<34}{:>9}{:>9}{:>9}", "listed", "there", "strict");
        for (row, count) in rows {
            let _ = writeln!(text, "{row:<34}{:>9}{:>9}{:>9}", count.listed, count.there, count.strict);
        }
    };
    let named = |counts: &BTreeMap<&str, Count>| counts.iter().map(|(k, v)| (k.to_string(), *v)).collect::<Vec<_>>();
    table("label → emotion", labels.iter().map(|((l, e), count)| (format!("{l} → {e}"), *count)).collect());
    table("emotion", named(&emotions));
    table("split", named(&splits));
    if !subjects.is_empty() {
        table(&format!("state of {} subjects", subjects.len()), named(&states));
    }
    table("sum", vec![("all".into(), all)]);
    text += "\nstrict: one of the eight emotions, valence of the same sign, ambiguity at most 3 (filter: {valence_agrees: true, \
             max_ambiguity: 3})\n";
    for quarantined in listing.quarantined.iter().take(5) {
        let _ = writeln!(text, "unusable: {}: {}", quarantined.path, quarantined.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Content;

    fn item(emotion: Option<Emotion>, valence: Option<f32>, ambiguity: Option<f32>) -> Item {
        Item {
            path: "a".into(),
            content: Content::Bytes(bytes::Bytes::new()),
            split: None,
            emotion,
            namespace: None,
            label: Some("Joy".into()),
            subject: None,
            state: None,
            valence,
            arousal: None,
            ambiguity,
            attributes: serde_json::json!({}),
        }
    }

    #[test]
    fn the_strict_filter_wants_emotion_sign_and_certainty() {
        assert!(is_strict(&item(Some(Emotion::Awe), Some(1.0), Some(3.0))));
        assert!(is_strict(&item(Some(Emotion::Awe), None, None)));
        assert!(!is_strict(&item(None, Some(1.0), Some(0.0))));
        assert!(!is_strict(&item(Some(Emotion::Awe), Some(-1.0), Some(0.0))));
        assert!(!is_strict(&item(Some(Emotion::Fear), Some(0.0), Some(0.0))));
        assert!(!is_strict(&item(Some(Emotion::Fear), Some(-1.0), Some(4.0))));
    }

    #[test]
    fn missing_images_are_counted_with_their_labels() {
        let listing = Listing {
            items: vec![item(Some(Emotion::Awe), Some(1.0), Some(0.0))],
            missing: vec![item(None, None, None)],
            ..Listing::default()
        };
        let text = describe(&listing, "findingemo");
        assert!(text.starts_with("findingemo: 2 images listed, 1 there, 1 missing"), "{text}");
        let row =
            |start: &str| text.lines().find(|l| l.starts_with(start)).map(|l| l.split_whitespace().collect::<Vec<_>>());
        assert_eq!(row("Joy → none"), Some(vec!["Joy", "→", "none", "1", "0", "0"]));
        assert_eq!(row("all"), Some(vec!["all", "2", "1", "1"]));
    }
}
