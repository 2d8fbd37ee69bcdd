//! The measurements: one case for each edit, grouped into series by method, emotion and strength.

pub mod comparisons;
pub mod costs;
pub mod equal_lpips;
pub mod failures;
pub mod judgements;
pub mod rows;
pub mod sets;
pub mod summary;

use emotions::Emotion;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::metrics::{About, Metric, Observed, Pair};

/// Columns of a row before the found classes and the values: the series and [`Case`]'s own fields.
const CASE_COLUMNS: usize = 8;
/// The code for no class in a row.
const NO_CLASS: f64 = -1.0;

/// One edit of one source.
#[derive(Clone, Debug)]
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
    pub probability: f64,
    /// Whether another source is nearer to the edit than its own, by LPIPS.
    pub nearer_to_another: bool,
    /// Whether there is no edit: the method gave up, or a pixel is NaN or infinite.
    pub failed: bool,
    /// How many true pictures the edit was compared with.
    pub drawings: usize,
    /// One value a metric, in the table's order.
    pub values: Vec<f64>,
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

    fn row(&self) -> impl Iterator<Item = f64> + '_ {
        let fields = [
            self.source as f64,
            f64::from(u8::from(self.shows_target)),
            self.target.index() as f64,
            self.probability,
            f64::from(u8::from(self.nearer_to_another)),
            f64::from(u8::from(self.failed)),
            self.drawings as f64,
        ];
        let found = self.predicted.iter().map(|found| found.map_or(NO_CLASS, |e| e.index() as f64));
        fields.into_iter().chain(found).chain(self.values.iter().copied())
    }

    /// The inverse of [`row`](Self::row), for this many judges.
    fn from_row(row: &[f64], judges: usize) -> Self {
        let (found, values) = row[CASE_COLUMNS - 1..].split_at(judges);
        let [source, shows_target, target, probability, nearer_to_another, failed, drawings] =
            row[..CASE_COLUMNS - 1].try_into().expect("invariant: as many fields as columns");
        Self {
            source: source as usize,
            shows_target: shows_target != 0.0,
            target: Emotion::ALL[target as usize],
            predicted: found.iter().map(|&class| (class >= 0.0).then(|| Emotion::ALL[class as usize])).collect(),
            probability,
            nearer_to_another: nearer_to_another != 0.0,
            failed: failed != 0.0,
            drawings: drawings as usize,
            values: values.to_vec(),
        }
    }
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

/// All measurements.
#[derive(Clone, Debug)]
pub struct ScoreTable {
    /// The metrics, in the order of every case's values.
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
        self.series.push(Series { method, emotion, strength, cases: Vec::new() });
    }

    /// Adds cases to a series that is open.
    pub fn add(&mut self, method: &str, emotion: Emotion, strength: Option<f64>, cases: Vec<Case>) {
        let same = |s: &&mut Series| s.method == method && s.emotion == emotion && s.strength == strength;
        let series = self.series.iter_mut().find(same).expect("the series of every method are open");
        series.cases.extend(cases);
    }

    /// Adds cases that [`rows`](Self::rows) gave, of a table with the same series and metrics.
    pub fn add_rows(&mut self, rows: &Tensor) -> Result<()> {
        let numbers: Vec<f64> = Vec::try_from(rows.flatten(0, -1))?;
        for row in numbers.chunks_exact(self.width()) {
            self.series[row[0] as usize].cases.push(Case::from_row(&row[1..], self.judges));
        }
        Ok(())
    }

    /// One row for each case, f64: the series' index, the case's fields, its values.
    pub fn rows(&self) -> Tensor {
        let row = |(place, case): (usize, &Case)| std::iter::once(place as f64).chain(case.row()).collect::<Vec<f64>>();
        let cases = self.series.iter().enumerate().flat_map(|(place, s)| s.cases.iter().map(move |case| (place, case)));
        let numbers: Vec<f64> = cases.flat_map(row).collect();
        Tensor::from_slice(&numbers).to_kind(Kind::Double).view([-1, self.width() as i64])
    }

    /// Columns of a row.
    fn width(&self) -> usize {
        CASE_COLUMNS + self.judges + self.metrics.len()
    }

    /// The index of a series.
    pub fn place_of(&self, method: &str, emotion: Emotion, strength: Option<f64>) -> Option<usize> {
        self.series.iter().position(|s| s.method == method && s.emotion == emotion && s.strength == strength)
    }

    /// The series of a method, an emotion and a strength.
    pub fn find(&self, method: &str, emotion: Emotion, strength: Option<f64>) -> Option<&Series> {
        self.series.iter().find(|s| s.method == method && s.emotion == emotion && s.strength == strength)
    }

    /// The index of the metric `key` among a case's values.
    pub fn place(&self, key: &str) -> usize {
        self.metrics.iter().position(|m| m.key == key).expect("the report's metrics are in the table")
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
    let value = |metric: usize, row: usize| match failed[row] {
        true => metrics[metric].of_failed(pair, row),
        false => columns[metric][row],
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
        values: (0..metrics.len()).map(|metric| value(metric, row)).collect(),
    };
    (0..pair.targets.len()).map(case).collect()
}
