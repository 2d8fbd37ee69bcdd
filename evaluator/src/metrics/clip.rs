//! CLIP-I and CLIP direction: cosines of CLIP's embeddings (Radford et al. 2021; Gal et al., *StyleGAN-NADA*, 2022).

use tch::{Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};

/// Differences of unit vectors shorter than this have no direction.
const SHORTEST: f64 = 1e-6;

/// CLIP-I: cosine of the image embeddings of edit and source.
#[derive(Debug)]
pub struct Identity;

impl Metric for Identity {
    fn about(&self) -> About {
        About {
            key: "clip_i",
            title: "CLIP-I",
            definition: "Cosine of the CLIP image embeddings of edit and source.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        cosine(&pair.edit.embeddings, &pair.source.embeddings)
    }
}

/// CLIP direction: cosine of the images' change and the texts' change, cos(ΔI, ΔT); undefined if nothing changed.
#[derive(Debug)]
pub struct Direction;

impl Metric for Direction {
    fn about(&self) -> About {
        About {
            key: "clip_direction",
            title: "CLIP dir.",
            definition: "cos(ΔI, ΔT) in CLIP space (StyleGAN-NADA, eq. 2): ΔI from source to edit, ΔT from the source \
                         prompts to the target prompts in plain words, raw cosine; undefined where nothing changed.",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        direction(&pair.source.embeddings, &pair.edit.embeddings, pair.text_directions)
    }
}

/// Row-wise cosine of two (b, p) matrices.
pub fn cosine(a: &Tensor, b: &Tensor) -> Vec<f64> {
    numbers(&Tensor::cosine_similarity(&a.to_kind(Kind::Double), &b.to_kind(Kind::Double), 1, 1e-12))
}

/// Row-wise cos(after − before, text direction), all (b, p); NaN if the embeddings are the same.
pub fn direction(before: &Tensor, after: &Tensor, text: &Tensor) -> Vec<f64> {
    let change = after.to_kind(Kind::Double) - before.to_kind(Kind::Double);
    let lengths = numbers(&change.square().sum_dim_intlist(1, false, Kind::Double).sqrt());
    let cosines = cosine(&change, text);
    let defined = |(cosine, length): (f64, f64)| if length < SHORTEST { f64::NAN } else { cosine };
    cosines.into_iter().zip(lengths).map(defined).collect()
}
