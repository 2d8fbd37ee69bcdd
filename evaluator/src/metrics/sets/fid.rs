//! FID, the Fréchet distance of two sets' features: Heusel et al., *GANs Trained by a Two Time-Scale Update Rule
//! Converge to a Local Nash Equilibrium* (2017), eq. 6; on CLIP's features as Kynkäänniemi et al., *The Role of
//! ImageNet Classes in Fréchet Inception Distance* (ICLR 2023), propose.

use tch::Kind;

use crate::metrics::sets::moments::Moments;
use crate::metrics::sets::population::Population;
use crate::metrics::{About, Better, Family, SetMetric};

/// CLIP-FID of the edits towards a class and that class's own images.
#[derive(Debug)]
pub struct ClipFid;

impl SetMetric for ClipFid {
    fn about(&self) -> About {
        About {
            key: "clip_fid",
            title: "CLIP-FID",
            definition:
                "Fréchet distance (Heusel et al. 2017, eq. 6) of the edits' and the target class's own images' \
                         features, a class at a time. The features are the scoring CLIP's image embeddings before \
                         normalisation (Kynkäänniemi et al. 2023), not InceptionV3's: it is no FID of the literature. \
                         Few images bias it upwards; their numbers stand under references in report.json.",
            better: Better::Lower,
            unit: "",
            decimals: 2,
            percent: false,
            family: Family::Further,
        }
    }

    fn value(&self, edits: &Population, references: &Population) -> Option<f64> {
        frechet_distance(&edits.features, &references.features)
    }
}

/// FID of the edits towards a class and that class's own images.
#[derive(Debug)]
pub struct Fid;

impl SetMetric for Fid {
    fn about(&self) -> About {
        About {
            key: "fid",
            title: "FID",
            definition: "Fréchet distance (Heusel et al. 2017, eq. 6) of the edits' and the target class's own images' \
                         InceptionV3 features (2048, images at 299 × 299), a class at a time, in pytorch-fid's variant. \
                         Few images bias it upwards; their numbers stand under references in report.json.",
            better: Better::Lower,
            unit: "",
            decimals: 2,
            percent: false,
            family: Family::Further,
        }
    }

    fn value(&self, edits: &Population, references: &Population) -> Option<f64> {
        frechet_distance(edits.inception.as_ref()?, references.inception.as_ref()?)
    }
}

/// |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½); none if a side has fewer than two vectors.
pub fn frechet_distance(a: &Moments, b: &Moments) -> Option<f64> {
    if a.count() < 2.0 || b.count() < 2.0 {
        return None;
    }
    let means = (a.mean() - b.mean()).square().sum(Kind::Double).double_value(&[]);
    let (first, second) = (a.covariance(), b.covariance());
    let traces = first.trace().double_value(&[]) + second.trace().double_value(&[]);
    // Σ₁Σ₂ has the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½, and the trace of its root is the sum of their roots.
    let (values, vectors) = first.linalg_eigh("L");
    let root = (&vectors * values.clamp_min(0.0).sqrt()).matmul(&vectors.transpose(0, 1));
    let product = root.matmul(&second).matmul(&root);
    let mixed = product.linalg_eigvalsh("L").clamp_min(0.0).sqrt().sum(Kind::Double).double_value(&[]);
    Some((means + traces - 2.0 * mixed).max(0.0))
}
