//! Which checkpoints are kept: the newest, and the best by a validation metric.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Smaller is better.
    #[default]
    Lower,
    /// Larger is better.
    Higher,
}

/// Keep the best checkpoints by a validation metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepBest {
    /// A tag of validation.jsonl: validation/lpips, validation/clip_direction.
    pub metric: String,
    /// How many.
    #[serde(default = "one")]
    pub count: usize,
    /// lower or higher.
    #[serde(default)]
    pub better: Better,
}

fn one() -> usize {
    1
}

/// What a writer keeps, and how much of the disk it leaves free.
#[derive(Clone, Debug)]
pub struct Retention {
    /// How many of the newest; always at least one.
    pub limit: usize,
    /// The rule for the best, and the score of each validated step.
    pub best: Option<(KeepBest, BTreeMap<u64, f64>)>,
    /// Bytes that stay free.
    pub min_free_bytes: u64,
}

impl Retention {
    /// Which of `steps`, newest first, are kept. A step without a validation, or with a NaN score, cannot be the
    /// best; among equals the newer one is better.
    pub fn kept(&self, steps: &[u64]) -> BTreeSet<u64> {
        let mut kept: BTreeSet<u64> = steps.iter().take(self.limit.max(1)).copied().collect();
        if let Some((rule, scores)) = &self.best {
            let sign = if rule.better == Better::Lower { 1.0 } else { -1.0 };
            let score = |step: &u64| scores.get(step).map(|score| sign * score).filter(|score| !score.is_nan());
            let mut ranked: Vec<(f64, u64)> = steps.iter().filter_map(|step| Some((score(step)?, *step))).collect();
            ranked.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            kept.extend(ranked.into_iter().take(rule.count).map(|(_, step)| step));
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_the_best_are_kept() {
        let scores = BTreeMap::from([(10, 0.3), (20, 0.1), (30, f64::NAN), (40, 0.1), (50, 0.2)]);
        let rule = |better| KeepBest { metric: "validation/lpips".into(), count: 2, better };
        let kept = |better| {
            let best = Some((rule(better), scores.clone()));
            let retention = Retention { limit: 1, best, min_free_bytes: 0 };
            retention.kept(&[60, 50, 40, 30, 20, 10]).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(kept(Better::Lower), [20, 40, 60]);
        assert_eq!(kept(Better::Higher), [10, 50, 60]);
        let plain = Retention { limit: 0, best: None, min_free_bytes: 0 };
        assert_eq!(plain.kept(&[3, 2]).into_iter().collect::<Vec<_>>(), [3]);
    }
}
