//! The sums over whole sets, gathered over processes: each method's headline edits towards each emotion, and each
//! emotion's own images, which FID and KLD compare them with.

use std::path::Path;

use dataloader::Emotion;
use tch::Tensor;

use crate::error::Result;
use crate::metrics::population::Population;
use crate::metrics::{all_of_sets, About, Observed, SetMetric};
use crate::ranks::Ranks;

/// Sums of several processes add up in another order: values are rounded to where that does not show.
const DIGITS: i32 = 9;

/// All sums of one evaluation, and the metrics that look at them.
pub struct Sets {
    metrics: Vec<Box<dyn SetMetric>>,
    edits: Vec<(&'static str, Emotion, Population)>,
    references: Vec<(Emotion, Population)>,
    projection: i64,
    inception: bool,
}

impl Sets {
    /// Nothing seen yet of `emotions`, under a CLIP with `projection` features, and InceptionV3 if `inception`.
    pub fn new(emotions: &[Emotion], projection: i64, inception: bool) -> Self {
        let references = emotions.iter().map(|&emotion| (emotion, Population::new(projection, inception))).collect();
        Self { metrics: all_of_sets(inception), edits: Vec::new(), references, projection, inception }
    }

    /// Names and definitions of the metrics, in the order of [`values`](Self::values).
    pub fn abouts(&self) -> impl Iterator<Item = About> + '_ {
        self.metrics.iter().map(|m| m.about())
    }

    /// Opens the sums of a method's edits towards an emotion.
    pub fn open(&mut self, method: &'static str, emotion: Emotion) {
        self.edits.push((method, emotion, Population::new(self.projection, self.inception)));
    }

    /// Sees the edits at `rows` of a batch; of a method whose sums are not open, nothing.
    pub fn add(&mut self, method: &str, emotion: Emotion, edit: &Observed, source: &Observed, rows: &[i64]) {
        let open = self.edits.iter_mut().find(|(m, e, _)| *m == method && *e == emotion);
        if let Some((_, _, population)) = open.filter(|_| !rows.is_empty()) {
            population.add(edit, Some(source), rows);
        }
    }

    /// Sees an emotion's own images.
    pub fn add_references(&mut self, emotion: Emotion, seen: &Observed) {
        let rows: Vec<i64> = (0..seen.images.size()[0]).collect();
        if let Some((_, population)) = self.references.iter_mut().find(|(e, _)| *e == emotion) {
            population.add(seen, None, &rows);
        }
    }

    /// Brings all processes' sums together on the first.
    pub fn gather(mut self, ranks: &Ranks, folder: &Path) -> Result<Self> {
        if ranks.size == 1 {
            return Ok(self);
        }
        let mine: Vec<Tensor> = self.populations().map(|p| p.sums().unsqueeze(0)).collect();
        let count = mine.len() as i64;
        let all = ranks.gather(folder, "sets", &Tensor::cat(&mine, 0))?; // (processes · sets, sums), the own ones first
        for row in count..all.size()[0] {
            let population = self.populations().nth((row % count) as usize);
            population.expect("invariant: every process has the same sets").merge(&all.get(row));
        }
        Ok(self)
    }

    fn populations(&mut self) -> impl Iterator<Item = &mut Population> {
        let edits = self.edits.iter_mut().map(|(_, _, population)| population);
        edits.chain(self.references.iter_mut().map(|(_, population)| population))
    }

    /// One value a metric for a method's edits towards an emotion; none where one is undefined.
    pub fn values(&self, method: &str, emotion: Emotion) -> Vec<Option<f64>> {
        let edits = self.edits.iter().find(|(m, e, _)| *m == method && *e == emotion);
        let references = self.references.iter().find(|(e, _)| *e == emotion);
        let value = |metric: &dyn SetMetric| metric.value(&edits?.2, &references?.1).map(rounded);
        self.metrics.iter().map(|metric| value(metric.as_ref())).collect()
    }

    /// How many own images each emotion has.
    pub fn reference_counts(&self) -> impl Iterator<Item = (Emotion, usize)> + '_ {
        self.references.iter().map(|(emotion, population)| (*emotion, population.count() as usize))
    }
}

fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(DIGITS - 1 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn nine_digits_are_kept() {
        assert_eq!(rounded(12.345_678_912_345), 12.345_678_9);
        assert_eq!(rounded(0.000_123_456_789_12), 0.000_123_456_789);
        assert_eq!((rounded(0.0), rounded(f64::INFINITY)), (0.0, f64::INFINITY));
    }
}
