//! Sinusoidal timestep embedding (Vaswani et al. 2017, §3.5, as Ho et al. 2020 use it) and its two-layer MLP.

use tch::{Device, Kind, Tensor};

use super::Config;
use crate::error::Result;
use crate::networks::layers::Linear;
use crate::weights::Scope;

const MAX_PERIOD: f64 = 10_000.0;

/// t → e: sines and cosines of t at geometric frequencies, then Linear, SiLU, Linear.
#[derive(Debug)]
pub(super) struct TimestepEmbedding {
    frequencies: Tensor, // (c₀/2), always f32
    flip_sin_to_cos: bool,
    kind: Kind,
    linear_1: Linear,
    linear_2: Linear,
}

impl TimestepEmbedding {
    pub(super) fn load(scope: &Scope<'_>, config: &Config, device: Device, kind: Kind) -> Result<Self> {
        let (inputs, outputs) = (config.levels[0].channels, config.temb_channels());
        let half = inputs / 2;
        let exponents = Tensor::arange(half, (Kind::Float, device)) * -MAX_PERIOD.ln();
        Ok(Self {
            frequencies: (exponents / (half as f64 - config.freq_shift)).exp(),
            flip_sin_to_cos: config.flip_sin_to_cos,
            kind,
            linear_1: Linear::load(&scope.sub("linear_1"), inputs, outputs)?,
            linear_2: Linear::load(&scope.sub("linear_2"), outputs, outputs)?,
        })
    }

    /// (b) of any kind → (b, e)
    pub(super) fn forward(&self, timesteps: &Tensor) -> Tensor {
        let sinusoid = self.sinusoid(timesteps).to_kind(self.kind); // (b, c₀)
        self.linear_2.forward(&self.linear_1.forward(&sinusoid).silu())
    }

    /// In f32 whatever the network's kind: bf16 cannot tell t = 999 from t = 1000.
    fn sinusoid(&self, timesteps: &Tensor) -> Tensor {
        let t = timesteps.to_device(self.frequencies.device()).to_kind(Kind::Float);
        let angles = t.unsqueeze(1) * &self.frequencies; // (b, c₀/2)
        let (sin, cos) = (angles.sin(), angles.cos());
        if self.flip_sin_to_cos {
            Tensor::cat(&[cos, sin], -1)
        } else {
            Tensor::cat(&[sin, cos], -1)
        }
    }
}
