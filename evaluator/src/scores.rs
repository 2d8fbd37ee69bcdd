//! What was measured: one case an edit, gathered into series by method, emotion and strength.

use dataloader::Emotion;

use crate::metrics::{About, Metric, Pair};

/// One edit of one source.
#[derive(Clone, Debug)]
pub struct Case {
    /// The source's index.
    pub source: usize,
    /// Whether the source is labelled already with the emotion that the edit was made for.
    pub shows_target: bool,
    /// The emotion asked for.
    pub target: Emotion,
    /// The classifier's most probable class.
    pub predicted: Emotion,
    /// p(target | edit).
    pub probability: f64,
    /// One value a metric, in the board's order.
    pub values: Vec<f64>,
}

/// The edits of one method towards one emotion at one strength.
#[derive(Clone, Debug)]
pub struct Series {
    /// The method's key.
    pub method: &'static str,
    /// The emotion whose edits these are.
    pub emotion: Emotion,
    /// The strength; none for methods without one.
    pub strength: Option<f64>,
    /// The cases, in the order of the sources.
    pub cases: Vec<Case>,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Board {
    /// The metrics, in the order of every case's values.
    pub metrics: Vec<About>,
    /// The series, in the order they were first seen.
    pub series: Vec<Series>,
}

impl Board {
    /// An empty board for these metrics.
    pub fn new(metrics: &[Box<dyn Metric>]) -> Self {
        Self { metrics: metrics.iter().map(|m| m.about()).collect(), series: Vec::new() }
    }

    /// Adds cases to a series, opening it if need be.
    pub fn add(&mut self, method: &'static str, emotion: Emotion, strength: Option<f64>, cases: Vec<Case>) {
        let same = |s: &&mut Series| s.method == method && s.emotion == emotion && s.strength == strength;
        match self.series.iter_mut().find(same) {
            Some(series) => series.cases.extend(cases),
            None => self.series.push(Series { method, emotion, strength, cases }),
        }
    }

    /// The series of a method, an emotion and a strength.
    pub fn find(&self, method: &str, emotion: Emotion, strength: Option<f64>) -> Option<&Series> {
        self.series.iter().find(|s| s.method == method && s.emotion == emotion && s.strength == strength)
    }

    /// The place of the metric `key` among a case's values.
    pub fn place(&self, key: &str) -> usize {
        self.metrics.iter().position(|m| m.key == key).expect("the report's metrics are on the board")
    }
}

/// Measures one batch; `first` is the index of its first source, `shows` whether a source shows what the edits were
/// made for already.
pub fn measure(metrics: &[Box<dyn Metric>], pair: &Pair<'_>, first: usize, shows: impl Fn(usize) -> bool) -> Vec<Case> {
    let columns: Vec<Vec<f64>> = metrics.iter().map(|m| m.values(pair)).collect();
    let (predicted, probabilities) = (pair.edit.predicted(), pair.edit.probability_of(pair.targets));
    let case = |row: usize| Case {
        source: first + row,
        shows_target: shows(first + row),
        target: pair.targets[row],
        predicted: predicted[row],
        probability: probabilities[row],
        values: columns.iter().map(|column| column[row]).collect(),
    };
    (0..pair.targets.len()).map(case).collect()
}
