//! Plutchik's 24 emotions as FindingEmo labels them, and which of Mikels' eight each counts as.
//!
//! The table is manifests/datasets/findingemo.yaml, with a reason for every line.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use emotions::Emotion;
use serde::Deserialize;

const TABLE: &str = include_str!("../../../manifests/datasets/findingemo.yaml");

/// One of the 24.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plutchik {
    /// Plutchik's base emotion of the same petal.
    pub petal: String,
    /// mild, base or intense.
    pub intensity: String,
    /// Mikels' category, if there is a counterpart.
    pub mikels: Option<Emotion>,
    /// How sure the counterpart is: high, medium or low.
    pub confidence: Option<String>,
    /// Why.
    pub reason: String,
}

#[derive(Deserialize)]
struct Table {
    labels: BTreeMap<String, Plutchik>,
}

/// The label of this name, or None if it is none of the 24.
pub fn label(name: &str) -> Option<&'static Plutchik> {
    labels().get(name)
}

/// All 24, by name.
pub fn labels() -> &'static BTreeMap<String, Plutchik> {
    static LABELS: OnceLock<BTreeMap<String, Plutchik>> = OnceLock::new();
    LABELS.get_or_init(|| serde_yaml::from_str::<Table>(TABLE).expect("a valid table").labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_intensities_of_eight_petals_each_once() {
        let mut places: Vec<_> = labels().values().map(|l| (l.petal.as_str(), l.intensity.as_str())).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!((labels().len(), places.len()), (24, 24));
        let petals: std::collections::BTreeSet<&str> = places.iter().map(|(petal, _)| *petal).collect();
        assert_eq!(petals.len(), 8);
        assert!(places.iter().all(|(_, intensity)| ["mild", "base", "intense"].contains(intensity)));
    }

    #[test]
    fn every_counterpart_states_its_confidence_and_every_line_a_reason() {
        for (name, label) in labels() {
            assert_eq!(label.mikels.is_some(), label.confidence.is_some(), "{name}");
            assert!(!label.reason.is_empty(), "{name}");
        }
        assert_eq!(label("Ecstasy").and_then(|l| l.mikels), Some(Emotion::Excitement));
        assert!(labels().values().all(|l| l.mikels != Some(Emotion::Amusement)), "it has no counterpart");
        assert_eq!(label("ecstasy"), None);
    }
}
