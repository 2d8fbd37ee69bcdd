//! What the judges say of real, labelled pictures, the emotions' own images: how well each reads them, and how far
//! they agree.

use emotions::Emotion;
use serde_json::{json, Value};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::metrics::statistics::agreement::Agreement;
use crate::metrics::Observed;

/// The code for no class in a row.
const NO_CLASS: f64 = -1.0;

/// One labelled picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Its label.
    pub label: Emotion,
    /// Each judge's class; none if it is none of the eight emotions.
    pub found: Vec<Option<Emotion>>,
}

/// All labelled pictures that were judged.
#[derive(Clone, Debug, Default)]
pub struct Judgements(Vec<Judgement>);

impl Judgements {
    /// Pictures of one label as the judges see them.
    pub fn see(&mut self, label: Emotion, pictures: &Observed) {
        let found: Vec<_> = (0..pictures.num_judges()).map(|judge| pictures.predicted_by(judge)).collect();
        let count = found.first().map_or(0, Vec::len);
        self.0.extend((0..count).map(|row| Judgement { label, found: found.iter().map(|judge| judge[row]).collect() }));
    }

    /// One row for each picture, f64: the label, then each judge's class, as indices into [`Emotion::ALL`]; −1 for
    /// none of them.
    pub fn rows(&self, judges: usize) -> Tensor {
        let place = |found: Option<Emotion>| found.map_or(NO_CLASS, |emotion| emotion.index() as f64);
        let row = |j: &Judgement| -> Vec<f64> {
            std::iter::once(Some(j.label)).chain(j.found.iter().copied()).map(place).collect()
        };
        let numbers: Vec<f64> = self.0.iter().flat_map(row).collect();
        Tensor::from_slice(&numbers).to_kind(Kind::Double).view([-1, 1 + judges as i64])
    }

    /// Adds the rows of [`rows`](Self::rows).
    pub fn add_rows(&mut self, rows: &Tensor) -> Result<()> {
        let width = rows.size()[1] as usize;
        let numbers: Vec<f64> = Vec::try_from(rows.flatten(0, -1))?;
        let found = |place: &f64| (*place != NO_CLASS).then(|| Emotion::ALL[*place as usize]);
        let judgement = |row: &[f64]| Judgement {
            label: Emotion::ALL[row[0] as usize],
            found: row[1..].iter().map(found).collect(),
        };
        self.0.extend(numbers.chunks_exact(width).map(judgement));
        Ok(())
    }

    /// The share of pictures for which a judge finds the label; none without pictures.
    pub fn accuracy(&self, judge: usize) -> Option<f64> {
        let right = self.0.iter().filter(|j| j.found[judge] == Some(j.label)).count();
        (!self.0.is_empty()).then(|| right as f64 / self.0.len() as f64)
    }

    /// The first judge compared with another.
    pub fn agreement(&self, judge: usize) -> Option<Agreement> {
        Agreement::of(&self.0.iter().map(|j| (j.label, j.found[0], j.found[judge])).collect::<Vec<_>>())
    }

    /// For report.json: pictures, accuracy of each of `names`, and each further judge's agreement with the first.
    pub fn json(&self, names: &[String]) -> Value {
        let accuracy: Vec<Value> =
            names.iter().enumerate().map(|(n, name)| json!({"judge": name, "accuracy": self.accuracy(n)})).collect();
        let agreement: Vec<Value> = (1..names.len())
            .filter_map(|judge| {
                let Agreement { agreement, kappa, .. } = self.agreement(judge)?;
                Some(json!({"judges": [names[0], names[judge]], "agreement": agreement, "kappa": kappa}))
            })
            .collect();
        json!({"n": self.0.len(), "accuracy": accuracy, "agreement": agreement})
    }
}
