//! The sums over whole sets: each method's headline edits towards each emotion, and each emotion's own images, which FID
//! and KLD compare them with.

use std::borrow::Cow;

use emotions::Emotion;
use serde::{Deserialize, Serialize};

use crate::metrics::sets::population::Population;
use crate::metrics::sets::seen::Seen;
use crate::metrics::{all_of_sets, About, SetMetric};
use crate::scores::by_metric::ByMetric;

/// Sums over other batches are added in another order; values are rounded so that this does not show.
const DIGITS: i32 = 9;

/// One set of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// A method's headline edits towards an emotion.
    Edits {
        /// The method's key.
        method: Cow<'static, str>,
        /// The emotion.
        emotion: Emotion,
    },
    /// An emotion's own images.
    References {
        /// The emotion.
        emotion: Emotion,
    },
}

/// All sums of one evaluation, and the metrics that use them.
pub struct Sets {
    metrics: Vec<Box<dyn SetMetric>>,
    sums: Vec<(Set, Population)>,
    projection: i64,
    inception: bool,
}

impl Sets {
    /// Empty sums of `emotions`, for a CLIP with `projection` features, and for InceptionV3 if `inception`.
    pub fn new(emotions: &[Emotion], projection: i64, inception: bool) -> Self {
        let mut sets = Self { metrics: all_of_sets(inception), sums: Vec::new(), projection, inception };
        emotions.iter().for_each(|&emotion| sets.open(Set::References { emotion }));
        sets
    }

    /// Names and definitions of the metrics, in the order of the report's columns.
    pub fn abouts(&self) -> impl Iterator<Item = About> + '_ {
        self.metrics.iter().map(|m| m.about())
    }

    /// Opens the sums of a set.
    pub fn open(&mut self, set: Set) {
        self.sums.push((set, Population::new(self.projection, self.inception)));
    }

    /// Adds pictures of a set; says so if its sums are not open or are of other networks.
    pub fn see(&mut self, set: &Set, pictures: &Seen) -> Result<(), String> {
        if !pictures.fits(self.projection, self.inception) {
            return Err(format!("its numbers of {set:?} are of another network"));
        }
        let open = self.sums.iter_mut().find(|(open, _)| open == set);
        let (_, sums) = open.ok_or_else(|| format!("{set:?} is not asked for"))?;
        sums.add(pictures);
        Ok(())
    }

    fn sums(&self, set: &Set) -> Option<&Population> {
        self.sums.iter().find(|(open, _)| open == set).map(|(_, sums)| sums)
    }

    /// The value of each metric of a method's edits towards an emotion; none if it is undefined.
    pub fn values(&self, method: &str, emotion: Emotion) -> ByMetric<Option<f64>> {
        let edits = self.sums(&Set::Edits { method: method.to_string().into(), emotion });
        let references = self.sums(&Set::References { emotion });
        let value = |metric: &dyn SetMetric| metric.value(edits?, references?).map(rounded);
        self.metrics.iter().map(|metric| (metric.about().key, value(metric.as_ref()))).collect()
    }

    /// How many own images each emotion has.
    pub fn reference_counts(&self) -> impl Iterator<Item = (Emotion, usize)> + '_ {
        self.sums.iter().filter_map(|(set, sums)| match set {
            Set::References { emotion } => Some((*emotion, sums.count() as usize)),
            Set::Edits { .. } => None,
        })
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
