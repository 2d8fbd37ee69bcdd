//! What the judges say of real, labelled pictures, the emotions' own images: how well each reads them, and how far
//! they agree.

use emotions::Emotion;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::metrics::statistics::agreement::Agreement;
use crate::metrics::Observed;

/// One labelled picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Its label.
    pub label: Emotion,
    /// Each judge's class; none if it is none of the eight emotions.
    pub found: Vec<Option<Emotion>>,
}

/// All labelled pictures that were judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgements(Vec<Judgement>);

impl Judgements {
    /// Pictures of one label as the judges see them.
    pub fn see(&mut self, label: Emotion, pictures: &Observed) {
        let found: Vec<_> = (0..pictures.num_judges()).map(|judge| pictures.predicted_by(judge)).collect();
        let count = found.first().map_or(0, Vec::len);
        self.0.extend((0..count).map(|row| Judgement { label, found: found.iter().map(|judge| judge[row]).collect() }));
    }

    /// Adds another's, which have as many judges.
    pub fn add(&mut self, more: Self) {
        self.0.extend(more.0);
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
