//! LPIPS: Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (CVPR 2018).

use diffusion::networks::lpips::Lpips;
use tch::no_grad;

use super::{numbers, About, Better, Metric, Pair};

/// LPIPS (AlexNet, version 0.1) between edit and source, inputs in [−1, 1].
#[derive(Debug)]
pub struct Distance {
    network: Lpips,
}

impl Distance {
    /// Takes the loaded network.
    pub fn new(network: Lpips) -> Self {
        Self { network }
    }
}

impl Metric for Distance {
    fn about(&self) -> About {
        About {
            key: "lpips",
            title: "LPIPS",
            definition: "Perceptual distance of edit and source (Zhang et al. 2018, AlexNet, v0.1, inputs in [−1, 1]).",
            better: Better::Lower,
            unit: "",
            decimals: 3,
            percent: false,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let (edit, source) = (&pair.edit.images * 2.0 - 1.0, &pair.source.images * 2.0 - 1.0);
        numbers(&no_grad(|| self.network.distance(&edit, &source)))
    }
}
