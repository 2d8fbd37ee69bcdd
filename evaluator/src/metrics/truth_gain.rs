//! Truth gain (ours): how much nearer an edit is to the true picture of the same subject in the target's state.

use super::{About, Better, Family, Metric, Pair};

/// 1 − LPIPS(edit, truth) / LPIPS(source, truth).
#[derive(Debug)]
pub struct TruthGain;

impl Metric for TruthGain {
    fn about(&self) -> About {
        About {
            key: "truth_gain",
            title: "Truth gain",
            definition:
                "1 − LPIPS(edit, truth) / LPIPS(source, truth), of the true picture of the same subject that is \
                         nearest to the edit (AlexNet): 1 is the true picture, 0 no edit, negative is harm. Read it \
                         against the oracle's. Left out where there is no true picture, or where it is the source.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let Some(truth) = pair.truth else { return vec![f64::NAN; pair.targets.len()] };
        truth.from_edit.iter().zip(&truth.from_source).map(|(&edit, &source)| gain(edit, source)).collect()
    }
}

/// The gain of an edit and a source at these distances from the truth; NaN where source and truth are equal.
pub fn gain(edit: f64, source: f64) -> f64 {
    match source > 0.0 {
        true => 1.0 - edit / source,
        false => f64::NAN,
    }
}
