//! From cases to rows: a method at one strength, with means and intervals.

use emotions::Emotion;
use serde::Serialize;

use crate::config::FailureLimits;
use crate::evaluation::evaluation_plan::EvaluatedMethod;
use crate::methods::About;
use crate::metrics::statistics::bootstrap::{mean, Bootstrap};
use crate::metrics::statistics::confusion::Confusion;
use crate::scores::by_metric::ByMetric;
use crate::scores::failures::{Failures, Symptoms};
use crate::scores::sets::Sets;
use crate::scores::{Case, ScoreTable, Series};

/// A mean and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// The mean; infinite if a value is; none if nothing was measured.
    pub value: Option<f64>,
    /// The bootstrap interval; none if the mean has none.
    pub interval: Option<[f64; 2]>,
}

/// A method at one strength, over one emotion or several.
#[derive(Clone, Debug)]
pub struct Row {
    /// The method.
    pub about: About,
    /// The strength; none for methods without one.
    pub strength: Option<f64>,
    /// Number of edits counted.
    pub n: usize,
    /// Every metric's; headline rows alone have values of those of whole sets.
    pub measures: ByMetric<Measure>,
    /// Asked against found.
    pub confusion: Confusion,
    /// Over all eight classes; only if several emotions were asked for.
    pub macro_f1: Option<f64>,
    /// Edits that failed; they count as misses.
    pub failed: usize,
    /// Each judge's share of each class over all edits, failed ones included; zeros without edits.
    pub shares: Vec<[f64; 8]>,
    /// Edits that were compared with true pictures.
    pub truth: TruthCounts,
}

impl Row {
    /// A judge's share of edits that did not fail and that it finds in none of the eight.
    pub fn share_of_none(&self, judge: usize) -> f64 {
        let failed = self.failed as f64 / self.n.max(1) as f64;
        (1.0 - failed - self.shares[judge].iter().sum::<f64>()).max(0.0)
    }
}

/// How many edits were compared with true pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TruthCounts {
    /// Edits whose subject the data set shows in the target's state.
    pub pairs: usize,
    /// Edits among them without a truth gain, which are left out: source and true picture are equal, or there is no
    /// edit.
    pub undefined: usize,
    /// The mean number of true pictures in a pair.
    pub drawings: f64,
}

impl TruthCounts {
    fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let pairs: Vec<&Case> = cases.filter(|case| case.drawings > 0).collect();
        let undefined = |case: &&&Case| case.values.get("truth_gain").is_some_and(|gain| gain.is_nan());
        Self {
            pairs: pairs.len(),
            undefined: pairs.iter().filter(undefined).count(),
            drawings: pairs.iter().map(|case| case.drawings as f64).sum::<f64>() / pairs.len().max(1) as f64,
        }
    }
}

/// Each judge's share of each class over `cases`.
fn shares(cases: &[&Case], judges: usize) -> Vec<[f64; 8]> {
    let share = |judge: usize, class: Emotion| {
        cases.iter().filter(|case| case.predicted[judge] == Some(class)).count() as f64 / cases.len().max(1) as f64
    };
    (0..judges).map(|judge| Emotion::ALL.map(|class| share(judge, class))).collect()
}

/// Makes rows.
pub(crate) struct Summariser<'a> {
    pub(crate) scores: &'a ScoreTable,
    pub(crate) sets: &'a Sets,
    pub(crate) sources: usize,
    pub(crate) emotions: Vec<Emotion>,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) exclude_target: bool,
    pub(crate) limits: FailureLimits,
}

impl Summariser<'_> {
    /// How a method's edits at a strength fail.
    pub(crate) fn failures(&self, key: &str, strength: Option<f64>) -> Failures {
        let series = self.emotions.iter().filter_map(|&e| self.scores.find(key, e, strength));
        let cases = series.flat_map(|s| &s.cases).filter(|case| self.counts(case));
        Failures::count(&self.limits, &cases.map(Symptoms::of).collect::<Vec<_>>())
    }

    /// A method at every strength.
    pub(crate) fn curve(&self, evaluated_method: &EvaluatedMethod) -> Vec<Row> {
        let at = |&strength: &f64| self.row(evaluated_method.about, Some(strength), &|case| self.counts(case));
        evaluated_method.strengths.iter().map(at).collect()
    }

    /// Whether the headline counts a case.
    pub(crate) fn counts(&self, case: &Case) -> bool {
        !(self.exclude_target && case.shows_target)
    }

    /// A method at one strength, over the cases that `include` accepts.
    pub(crate) fn row(&self, about: About, strength: Option<f64>, include: &dyn Fn(&Case) -> bool) -> Row {
        let series: Vec<&Series> =
            self.emotions.iter().filter_map(|&e| self.scores.find(about.key, e, strength)).collect();
        let cases = || series.iter().flat_map(|s| &s.cases).filter(|case| include(case));
        let measure =
            |metric: &str| self.measure(&series.iter().map(|s| self.values(s, metric, include)).collect::<Vec<_>>());
        let confusion = Confusion::of_edits(cases().map(|case| (case.target, case.found())));
        let of_images = self.scores.metrics.iter().map(|about| (about.key, measure(about.key)));
        let of_sets = self.sets.abouts().map(|about| (about.key, Measure { value: None, interval: None }));
        Row {
            about,
            strength,
            n: cases().count(),
            measures: of_images.chain(of_sets).collect(),
            macro_f1: (self.emotions.len() > 1).then(|| confusion.macro_f1()),
            confusion,
            failed: cases().filter(|case| case.failed).count(),
            shares: shares(&cases().collect::<Vec<_>>(), self.scores.judges),
            truth: TruthCounts::of(cases()),
        }
    }

    /// The metrics of whole sets, by key: the means over the emotions; sums have no interval.
    pub(crate) fn measures_of_sets(&self, method: &str) -> Vec<(&'static str, Measure)> {
        let by_emotion: Vec<_> = self.emotions.iter().map(|&emotion| self.sets.values(method, emotion)).collect();
        let measure = |key: &str| {
            let strata: Vec<Vec<f64>> = by_emotion.iter().map(|values| values[key].into_iter().collect()).collect();
            Measure { value: mean(&strata), interval: None }
        };
        self.sets.abouts().map(|about| (about.key, measure(about.key))).collect()
    }

    /// One value for each source, NaN for none.
    fn values(&self, series: &Series, metric: &str, include: &dyn Fn(&Case) -> bool) -> Vec<f64> {
        let mut values = vec![f64::NAN; self.sources];
        for case in series.cases.iter().filter(|case| include(case)) {
            values[case.source] = case.values[metric];
        }
        values
    }

    /// The mean and its interval over `strata`: one row for each emotion, one column for each source, NaN for no
    /// value.
    pub(crate) fn measure(&self, strata: &[Vec<f64>]) -> Measure {
        Measure { value: mean(strata), interval: self.bootstrap.interval(strata) }
    }
}
