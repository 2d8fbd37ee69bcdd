//! ESMI: Lin et al., *Make Me Happier: Evoking Emotions Through Image Diffusion Models* (ICCV 2025), as their
//! `metric_ESMI.py` computes it.
//!
//! ESMI = ½·S_str + ½·S_emo. S_emo = max(0, D(source) − D(edit)) / D(source), where D is the divergence of the target
//! (one-hot) from the softmax, −ln p(target). S_str is the mean absolute change of 8-bit pixels inside the region
//! that Grad-CAM finds for the source's own emotion, divided by that of the whole picture, both over all pixels: 1 if
//! nothing changes outside the region. Their classifier is a ResNet-18 on pictures squashed to 224 × 224; here it is
//! the report's own, and pixels are compared at the pictures' size.

use std::rc::Rc;

use judge::classifier::Classifier;
use tch::{Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};

const ALPHA: f64 = 0.5;
const EPS: f64 = 1e-10;
/// A map is stretched from its least and greatest value to 0..1; this keeps a flat one from a division by zero.
const STRETCH_EPS: f64 = 1e-7;
/// Above this, the stretched map is the emotional region.
const THRESHOLD: f64 = 0.5;

/// Emotion and structure in one number; undefined under a classifier that has no feature map.
#[derive(Debug)]
pub struct Esmi {
    classifier: Rc<Classifier>,
}

impl Esmi {
    /// Takes the classifier whose map gives the region.
    pub fn new(classifier: Rc<Classifier>) -> Self {
        Self { classifier }
    }

    /// 1 inside the emotional region of images (b, 3, h, w) in [0, 1], else 0: (b, 1, h, w).
    fn region(&self, images: &Tensor) -> Option<Tensor> {
        let map = self.classifier.saliency(&(images * 2.0 - 1.0))?.unsqueeze(1); // (b, 1, y, x)
        let (height, width) = (images.size()[2], images.size()[3]);
        let stretched = stretch(&stretch(&map).upsample_bilinear2d([height, width], false, None, None));
        Some(stretched.gt(THRESHOLD).to_kind(Kind::Double))
    }
}

impl Metric for Esmi {
    fn about(&self) -> About {
        About {
            key: "esmi",
            title: "ESMI",
            definition: "½ of how much nearer the edit's emotion came to the target, max(0, D(source) − D(edit)) / \
                         D(source) with D = −ln p(target), and ½ of the share of the pixels' change that lies where \
                         Grad-CAM sees the source's emotion (Lin et al. 2025, from their code; under the report's \
                         classifier and at the pictures' size, so not comparable with their table).",
            better: Better::Higher,
            unit: "",
            decimals: 3,
            percent: false,
            family: Family::Further,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let source = &pair.source.images;
        let region = pair.source.kept("esmi", || self.region(source).into_iter().collect());
        let Some(region) = region.first() else { return vec![f64::NAN; pair.targets.len()] };
        let structure = structure(source, &pair.edit.images, region);
        let divergence = |probabilities: Vec<f64>| probabilities.into_iter().map(|p| -p.ln());
        let before = divergence(pair.source.probability_of(pair.targets));
        let after = divergence(pair.edit.probability_of(pair.targets));
        let emotion = before.zip(after).map(|(before, after)| (before - after).max(0.0) / (before + EPS));
        emotion.zip(structure).map(|(emotion, structure)| ALPHA * structure + (1.0 - ALPHA) * emotion).collect()
    }
}

/// The share of the change of 8-bit pixels that lies in the region (b, 1, h, w); images (b, 3, h, w) in [0, 1].
fn structure(source: &Tensor, edit: &Tensor, region: &Tensor) -> Vec<f64> {
    let change = (edit.to_kind(Kind::Double) - source.to_kind(Kind::Double)).abs() * 255.0;
    let mean = |x: &Tensor| numbers(&x.mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double));
    let (inside, whole) = (mean(&(&change * region)), mean(&change));
    inside.into_iter().zip(whole).map(|(inside, whole)| inside / (whole + EPS)).collect()
}

/// Each map (b, 1, y, x), stretched from its least and greatest value to 0..1.
fn stretch(map: &Tensor) -> Tensor {
    let axes = [2i64, 3];
    let shifted = map - map.amin(axes.as_slice(), true);
    let greatest = shifted.amax(axes.as_slice(), true);
    shifted / (greatest + STRETCH_EPS)
}
