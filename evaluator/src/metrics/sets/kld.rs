//! KLD, how far the emotions evoked by the edits are from those of the target's own images: Kullback & Leibler, *On
//! Information and Sufficiency* (1951).

use crate::metrics::sets::population::Population;
use crate::metrics::{About, Better, Family, SetMetric};

/// Shares below this count as this.
const SMALLEST: f64 = 1e-12;

/// Divergence of the edits' mean predicted distribution from that of the target class's images.
#[derive(Debug)]
pub struct Divergence;

impl SetMetric for Divergence {
    fn about(&self) -> About {
        About {
            key: "kld",
            title: "KLD",
            definition: "Σ p·ln(p/q) over the eight emotions: p the classifier's mean softmax over the target class's \
                         own images, q over the edits, a class at a time. A judge that misreads the class's own images \
                         misleads it.",
            better: Better::Lower,
            unit: "nat",
            decimals: 3,
            percent: false,
            family: Family::Further,
        }
    }

    fn value(&self, edits: &Population, references: &Population) -> Option<f64> {
        let (found, wanted) = (edits.mean_probabilities()?, references.mean_probabilities()?);
        Some(divergence(&wanted, &found))
    }
}

/// Σ p·ln(p/q), with both sides' shares scaled to a sum of 1.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let share = |values: &[f64]| -> Vec<f64> {
        let total: f64 = values.iter().sum();
        values.iter().map(|v| (v / total).max(SMALLEST)).collect()
    };
    let term = |(p, q): (&f64, &f64)| p * (p / q).ln();
    share(p).iter().zip(&share(q)).map(term).sum::<f64>().max(0.0)
}
