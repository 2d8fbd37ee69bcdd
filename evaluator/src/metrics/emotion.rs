//! Emo-A and Emo-S: Yang et al., *EmoEdit: Evoking Emotions through Image Manipulation* (CVPR 2025), section 5.1.

use super::{About, Better, Family, Metric, Pair};

/// Emo-A, 8-way: whether the edit's most probable class is the target.
#[derive(Debug)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn about(&self) -> About {
        About {
            key: "emo_a",
            title: "Emo-A",
            definition: "Share of edits whose most probable class of eight is the target (EmoEdit, section 5.1). \
                         Chance is 12.5 %.",
            better: Better::Higher,
            unit: "%",
            decimals: 1,
            percent: true,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let predicted = pair.edit.predicted();
        pair.targets.iter().zip(predicted).map(|(target, found)| f64::from(*target == found)).collect()
    }
}

/// Emo-A, two-way: whether the edit's most probable class has the target's sign.
#[derive(Debug)]
pub struct Polarity;

impl Metric for Polarity {
    fn about(&self) -> About {
        About {
            key: "emo_a_polarity",
            title: "Emo-A ±",
            definition:
                "Share of edits whose most probable class is positive where the target is positive and negative \
                         where it is negative (Mikels' halves). Chance is 50 %.",
            better: Better::Higher,
            unit: "%",
            decimals: 1,
            percent: true,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let predicted = pair.edit.predicted();
        let agrees = |(target, found): (&dataloader::Emotion, dataloader::Emotion)| {
            f64::from(target.is_positive() == found.is_positive())
        };
        pair.targets.iter().zip(predicted).map(agrees).collect()
    }
}

/// Emo-S: how much more probable the target is in the edit than in the source.
#[derive(Debug)]
pub struct Shift;

impl Metric for Shift {
    fn about(&self) -> About {
        About {
            key: "emo_s",
            title: "Emo-S",
            definition: "Mean of p(target | edit) − p(target | source), softmax (EmoEdit, section 5.1).",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let (after, before) = (pair.edit.probability_of(pair.targets), pair.source.probability_of(pair.targets));
        after.iter().zip(before).map(|(after, before)| after - before).collect()
    }
}
