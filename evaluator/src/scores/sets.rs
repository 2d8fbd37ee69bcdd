//! The sums over whole sets: each method's headline edits towards each emotion, and each emotion's own images, which FID
//! and KLD compare them with.

use emotions::Emotion;
use tch::{Device, Kind, Tensor};

use crate::metrics::sets::population::Population;
use crate::metrics::sets::seen::Seen;
use crate::metrics::{all_of_sets, About, Observed, SetMetric};

/// Sums over other batches are added in another order; values are rounded so that this does not show.
const DIGITS: i32 = 9;

/// All sums of one evaluation, and the metrics that use them.
pub struct Sets {
    metrics: Vec<Box<dyn SetMetric>>,
    edits: Vec<(&'static str, Emotion, Population)>,
    references: Vec<(Emotion, Population)>,
    projection: i64,
    inception: bool,
}

impl Sets {
    /// Empty sums of `emotions`, for a CLIP with `projection` features, and for InceptionV3 if `inception`.
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

    /// The index of a method's edits towards an emotion; none if their sums are not open.
    pub fn place_of_edits(&self, method: &str, emotion: Emotion) -> Option<usize> {
        self.edits.iter().position(|(m, e, _)| *m == method && *e == emotion)
    }

    /// The index of an emotion's own images.
    pub fn place_of_references(&self, emotion: Emotion) -> Option<usize> {
        self.references.iter().position(|(e, _)| *e == emotion).map(|place| self.edits.len() + place)
    }

    /// What the set at `place` would add for the pictures at `rows` of a batch, made from `sources`: one row for each
    /// picture, with the index in front, f32.
    pub fn rows(place: usize, pictures: &Observed, sources: Option<&Observed>, rows: &[i64]) -> Tensor {
        let places = Tensor::from_slice(&vec![place as f32; rows.len()]).view([-1, 1]);
        Tensor::cat(&[places, Seen::new(pictures, sources, rows).to_rows()], 1)
    }

    /// No row: the rows of a part are appended to it.
    pub fn no_rows(&self) -> Tensor {
        Tensor::zeros([0, 1 + Seen::width(self.projection, self.inception)], (Kind::Float, Device::Cpu))
    }

    /// Adds the rows of [`rows`](Self::rows), of any sets; those of one set are adjacent.
    pub fn see(&mut self, rows: &Tensor) {
        let (projection, inception) = (self.projection, self.inception);
        let (places, _, counts) = rows.select(1, 0).unique_consecutive(false, true, 0);
        let width = rows.size()[1] - 1;
        let mut first = 0;
        for group in 0..places.size()[0] {
            let count = counts.int64_value(&[group]);
            let seen = Seen::from_rows(&rows.narrow(0, first, count).narrow(1, 1, width), projection, inception);
            self.population(places.double_value(&[group]) as usize).add(&seen);
            first += count;
        }
    }

    fn population(&mut self, place: usize) -> &mut Population {
        match place.checked_sub(self.edits.len()) {
            None => &mut self.edits[place].2,
            Some(place) => &mut self.references[place].1,
        }
    }

    /// One value for each metric of a method's edits towards an emotion; none if one is undefined.
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
