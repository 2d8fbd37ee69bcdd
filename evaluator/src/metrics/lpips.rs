//! LPIPS: Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (CVPR 2018).

use std::rc::Rc;

use diffusion::networks::lpips::{Backbone, Lpips};
use tch::{no_grad, Tensor};

use super::{numbers, About, Better, Family, Metric, Observed, Pair};

/// LPIPS (version 0.1) between edit and source, inputs in [−1, 1].
#[derive(Debug)]
pub struct Distance {
    network: Rc<Lpips>,
    backbone: Backbone,
}

impl Distance {
    /// Takes the loaded network.
    pub fn new(network: Rc<Lpips>, backbone: Backbone) -> Self {
        Self { network, backbone }
    }
}

impl Metric for Distance {
    fn about(&self) -> About {
        let (family, key, title, definition) = match self.backbone {
            Backbone::Alex => (
                Family::Headline,
                ALEX,
                "LPIPS",
                "Perceptual distance of edit and source (Zhang et al. 2018, AlexNet, v0.1, inputs in [−1, 1]).",
            ),
            Backbone::Vgg => (
                Family::Further,
                "lpips_vgg",
                "LPIPS vgg",
                "Perceptual distance of edit and source (Zhang et al. 2018, VGG-16, v0.1, inputs in [−1, 1]).",
            ),
        };
        About { key, title, definition, better: Better::Lower, unit: "", decimals: 3, percent: false, family }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let key = self.about().key;
        let of = |seen: &Observed| features(&self.network, key, seen);
        numbers(&no_grad(|| self.network.distance_of(&of(pair.edit), &of(pair.source))))
    }
}

/// A network's features of pictures, kept with them under `key`: one source is compared with many edits, and an edit
/// with its source and the true pictures.
pub fn features(network: &Lpips, key: &'static str, seen: &Observed) -> Rc<Vec<Tensor>> {
    seen.kept(key, || no_grad(|| network.unit_features(&(&seen.images * 2.0 - 1.0))))
}

/// The key under which [`features`] keeps AlexNet's.
pub const ALEX: &str = "lpips";
