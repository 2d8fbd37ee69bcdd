//! Emo-A and Emo-S: Yang et al., *EmoEdit: Evoking Emotions through Image Manipulation* (CVPR 2025), section 5.1.

use emotions::Emotion;

use super::{About, Better, Family, Metric, Observed, Pair};

/// The most judges that a report can have.
pub const MOST_JUDGES: usize = 4;

/// Keys and titles of a figure under each judge, in the judges' order.
type Named = [(&'static str, &'static str); MOST_JUDGES];

const ACCURACY: Named = [
    ("emo_a", "Emo-A"),
    ("emo_a_judge_2", "Emo-A, judge 2"),
    ("emo_a_judge_3", "Emo-A, judge 3"),
    ("emo_a_judge_4", "Emo-A, judge 4"),
];

const SHIFT: Named = [
    ("emo_s", "Emo-S"),
    ("emo_s_judge_2", "Emo-S, judge 2"),
    ("emo_s_judge_3", "Emo-S, judge 3"),
    ("emo_s_judge_4", "Emo-S, judge 4"),
];

/// Emo-A, 8-way: whether the edit's most probable class is the target.
#[derive(Debug)]
pub struct Accuracy {
    /// The judge, counted from 0.
    pub judge: usize,
}

impl Metric for Accuracy {
    fn about(&self) -> About {
        let (key, title) = ACCURACY[self.judge];
        About {
            key,
            title,
            definition:
                "Share of edits whose most probable class of eight is the target (EmoEdit, section 5.1), under \
                         the judge that the heading names, or the first. Edits that failed, and those in which it finds none of the eight, are misses. Chance is \
                         12.5 %.",
            better: Better::Higher,
            unit: "%",
            decimals: 1,
            percent: true,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let predicted = pair.edit.predicted_by(self.judge);
        pair.targets.iter().zip(predicted).map(|(target, found)| f64::from(Some(*target) == found)).collect()
    }

    fn of_failed(&self, _: &Pair<'_>, _: usize) -> f64 {
        0.0
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
        let agrees = |(target, found): (&Emotion, Option<Emotion>)| {
            f64::from(found.is_some_and(|found| target.is_positive() == found.is_positive()))
        };
        pair.targets.iter().zip(predicted).map(agrees).collect()
    }

    fn of_failed(&self, _: &Pair<'_>, _: usize) -> f64 {
        0.0
    }
}

/// Emo-S: how much more probable the target is in the edit than in the source.
#[derive(Debug)]
pub struct Shift {
    /// The judge, counted from 0.
    pub judge: usize,
}

impl Metric for Shift {
    fn about(&self) -> About {
        let (key, title) = SHIFT[self.judge];
        About {
            key,
            title,
            definition:
                "Mean of p(target | edit) − p(target | source), softmax (EmoEdit, section 5.1), under the judge \
                         that the heading names, or the first. An edit that failed has p(target | edit) = 0.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let p = |seen: &Observed| seen.probability_by(self.judge, pair.targets);
        p(pair.edit).iter().zip(p(pair.source)).map(|(after, before)| after - before).collect()
    }

    fn of_failed(&self, pair: &Pair<'_>, row: usize) -> f64 {
        -pair.source.probability_by(self.judge, pair.targets)[row]
    }
}
