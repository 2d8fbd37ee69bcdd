//! The measurements: one case for each edit, grouped into series by method, emotion and strength.

pub mod by_metric;
pub mod comparisons;
pub mod costs;
pub mod equal_lpips;
pub mod failures;
pub mod judgements;
pub mod rows;
pub mod sets;
pub mod summary;

use std::borrow::Cow;

use emotions::Emotion;
use serde::{Deserialize, Serialize};

use crate::metrics::{About, Metric, Observed, Pair};
use crate::scores::by_metric::{any_number, ByMetric};
use crate::scores::costs::EditTime;

/// One edit of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The source's index.
    pub source: usize,
    /// Whether the source is already labelled with the emotion that the edit was made for.
    pub shows_target: bool,
    /// The emotion asked for.
    pub target: Emotion,
    /// Each judge's most probable class; none if the edit failed, or if it is none of the eight emotions.
    pub predicted: Vec<Option<Emotion>>,
    /// The first judge's p(target | edit).
    #[serde(with = "any_number")]
    pub probability: f64,
    /// Whether another source is nearer to the edit than its own, by LPIPS.
    pub nearer_to_another: bool,
    /// Whether there is no edit: the method gave up, or a pixel is NaN or infinite.
    pub failed: bool,
    /// How many true pictures the edit was compared with.
    pub drawings: usize,
    /// The value of each metric.
    pub values: ByMetric<f64>,
}

impl Case {
    /// The first judge's most probable class; none if the edit failed, or if it is none of the eight emotions.
    pub fn found(&self) -> Option<Emotion> {
        self.predicted.first().copied().flatten()
    }

    /// Whether the first judge finds the target.
    pub fn is_hit(&self) -> bool {
        self.found() == Some(self.target)
    }
}

/// The edits of one method towards one emotion at one strength.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The method's key.
    pub method: Cow<'static, str>,
    /// The emotion whose edits these are.
    pub emotion: Emotion,
    /// The strength; none for methods without one.
    pub strength: Option<f64>,
    /// The cases, in the order of the sources.
    pub cases: Vec<Case>,
    /// How long the edits took.
    pub time: EditTime,
}

/// All measurements.
#[derive(Clone, Debug)]
pub struct ScoreTable {
    /// The metrics that every case has a value of.
    pub metrics: Vec<About>,
    /// The number of judges.
    pub judges: usize,
    /// The series, in the report's order.
    pub series: Vec<Series>,
}

impl ScoreTable {
    /// A table for these metrics and so many judges, without a series.
    pub fn new(metrics: &[Box<dyn Metric>], judges: usize) -> Self {
        Self { metrics: metrics.iter().map(|m| m.about()).collect(), judges, series: Vec::new() }
    }

    /// Opens a series without cases.
    pub fn open(&mut self, method: &'static str, emotion: Emotion, strength: Option<f64>) {
        let time = EditTime::default();
        self.series.push(Series { method: method.into(), emotion, strength, cases: Vec::new(), time });
    }

    /// Adds cases to a series that is open.
    pub fn add(&mut self, method: &str, emotion: Emotion, strength: Option<f64>, cases: Vec<Case>) {
        self.open_series(method, emotion, strength).expect("the series of every method are open").cases.extend(cases);
    }

    /// Counts the time of `edits` edits of a series that is open.
    pub fn took(&mut self, method: &str, emotion: Emotion, strength: Option<f64>, seconds_an_edit: f64, edits: usize) {
        let series = self.open_series(method, emotion, strength).expect("the series of every method are open");
        series.time += EditTime { seconds: seconds_an_edit * edits as f64, edits };
    }

    /// Adds what another table found for the same methods and metrics; says what this one does not know, or misses.
    pub fn add_series(&mut self, found: Vec<Series>) -> Result<(), String> {
        let (metrics, judges) = (self.metrics.clone(), self.judges);
        for Series { method, emotion, strength, cases, time } in found {
            let unknown = || format!("its series {method}, {emotion}, strength {strength:?} is not asked for");
            let ours = self.open_series(&method, emotion, strength).ok_or_else(unknown)?;
            for case in cases {
                let values = case.values.ordered_as(&metrics).map_err(|key| format!("a case has no {key}"))?;
                if case.predicted.len() != judges {
                    return Err(format!("a case has {} judges instead of {judges}", case.predicted.len()));
                }
                ours.cases.push(Case { values, ..case });
            }
            ours.time += time;
        }
        Ok(())
    }

    fn open_series(&mut self, method: &str, emotion: Emotion, strength: Option<f64>) -> Option<&mut Series> {
        self.series.iter_mut().find(|s| s.is(method, emotion, strength))
    }

    /// The series of a method, an emotion and a strength.
    pub fn find(&self, method: &str, emotion: Emotion, strength: Option<f64>) -> Option<&Series> {
        self.series.iter().find(|s| s.is(method, emotion, strength))
    }
}

impl Series {
    fn is(&self, method: &str, emotion: Emotion, strength: Option<f64>) -> bool {
        self.method == method && self.emotion == emotion && self.strength == strength
    }
}

/// Measures one batch. `first` is the index of its first source; `failed` says which edits do not exist; `shows` says
/// whether a source already shows the emotion of its edit. Each of `others` has another source for each source of the
/// batch.
pub fn measure(
    metrics: &[Box<dyn Metric>], pair: &Pair<'_>, others: &[Observed], first: usize, failed: &[bool],
    shows: impl Fn(usize) -> bool,
) -> Vec<Case> {
    let columns: Vec<Vec<f64>> = metrics.iter().map(|m| m.values(pair)).collect();
    let lpips = metrics.iter().position(|m| m.about().key == "lpips").expect("one of the metrics");
    let to_others: Vec<Vec<f64>> =
        others.iter().map(|source| metrics[lpips].values(&Pair { source, ..*pair })).collect();
    let predicted: Vec<Vec<Option<Emotion>>> =
        (0..pair.edit.num_judges()).map(|judge| pair.edit.predicted_by(judge)).collect();
    let probabilities = pair.edit.probability_of(pair.targets);
    let value = |metric: &dyn Metric, column: &[f64], row: usize| match failed[row] {
        true => metric.of_failed(pair, row),
        false => column[row],
    };
    let values = |row: usize| {
        let measured = metrics.iter().zip(&columns);
        measured.map(|(metric, column)| (metric.about().key, value(metric.as_ref(), column, row))).collect()
    };
    let case = |row: usize| Case {
        source: first + row,
        shows_target: shows(first + row),
        target: pair.targets[row],
        predicted: predicted.iter().map(|judge| judge[row].filter(|_| !failed[row])).collect(),
        probability: if failed[row] { 0.0 } else { probabilities[row] },
        nearer_to_another: !failed[row] && to_others.iter().any(|other| other[row] < columns[lpips][row]),
        failed: failed[row],
        drawings: pair.truth.map_or(0, |truth| truth.drawings[row]),
        values: values(row),
    };
    (0..pair.targets.len()).map(case).collect()
}
