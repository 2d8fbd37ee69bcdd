//! Semantic diversity after Yang et al., *EmoGen: Emotional Image Content Generation with Text-to-Image Diffusion
//! Models* (CVPR 2024), section 4.1 (Sem-D), over all pairs instead of random ones.
//!
//! The mean of 1 − cosine over all pairs of n unit vectors is 1 − (|Σ e|² − n) / (n·(n − 1)), so only one sum is
//! kept.

use crate::metrics::sets::population::{Population, UnitSum};
use crate::metrics::{About, Better, Family, SetMetric};

/// How different a method's edits are from one another.
#[derive(Debug)]
pub struct Edits;

impl SetMetric for Edits {
    fn about(&self) -> About {
        About {
            key: "sem_d",
            title: "Sem-D",
            definition:
                "Mean of 1 − cosine of the scoring CLIP's embeddings over all pairs of a class's edits (in the \
                         manner of EmoGen's Sem-D, which draws pairs and uses CLIP ViT-L/14). Compare with the row \
                         without edits: edits that all show one picture fall to 0.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Further,
        }
    }

    fn value(&self, edits: &Population, _: &Population) -> Option<f64> {
        mean_distance(&edits.embeddings)
    }
}

/// How different a method's changes are from one another.
#[derive(Debug)]
pub struct Changes;

impl SetMetric for Changes {
    fn about(&self) -> About {
        About {
            key: "change_diversity",
            title: "Monotony",
            definition: "Mean of 1 − cosine over all pairs of a class's changes ΔI of different sources in the scoring \
                         CLIP's space: 0 is monotony, every photo changed in the same way; 1 if the changes have nothing \
                         in common. Neither end is the aim.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Further,
        }
    }

    fn value(&self, edits: &Population, _: &Population) -> Option<f64> {
        mean_distance(&edits.changes)
    }
}

/// The mean of 1 − cosine over all pairs; none for fewer than two vectors.
pub fn mean_distance(vectors: &UnitSum) -> Option<f64> {
    let n = vectors.count();
    (n > 1.5).then(|| (1.0 - (vectors.squared_length() - n) / (n * (n - 1.0))).max(0.0))
}
