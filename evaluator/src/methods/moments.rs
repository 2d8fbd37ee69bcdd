//! Mean and standard deviation of an image's channels, and their transfer to another image: Reinhard et al. 2001 (eq.
//! 10–11) do it with colours, Huang and Belongie 2017 (eq. 8) with features.
//!
//! Shapes: b batch, c channels, (h, w) pixels or latent cells.

use tch::{Kind, Tensor};

/// The first two moments of each channel over all positions, (b, c, 1, 1) each.
#[derive(Debug)]
pub struct Moments {
    /// μ.
    pub mean: Tensor,
    /// σ = √(variance + ε), the variance over n.
    pub std: Tensor,
}

impl Moments {
    /// The moments of `x` (b, c, h, w); `epsilon` keeps a flat channel's σ from 0.
    pub fn of(x: &Tensor, epsilon: f64) -> Self {
        let places = [2i64, 3];
        let mean = x.mean_dim(places.as_slice(), true, x.kind());
        let variance = (x - &mean).square().mean_dim(places.as_slice(), true, x.kind());
        Self { mean, std: (variance + epsilon).sqrt() }
    }

    /// `x`, which has these moments, with the moments of `target`: (b, c, h, w).
    pub fn moved_to(&self, target: &Self, x: &Tensor) -> Tensor {
        (x - &self.mean) / &self.std * &target.std + &target.mean
    }
}

/// The mean of tensors of one shape that are added one at a time, in f64.
#[derive(Debug, Default)]
pub struct RunningMean {
    sum: Option<Tensor>,
    count: usize,
}

impl RunningMean {
    /// Adds one.
    pub fn add(&mut self, x: &Tensor) {
        let x = x.to_kind(Kind::Double);
        self.sum = Some(match self.sum.take() {
            None => x,
            Some(sum) => sum + x,
        });
        self.count += 1;
    }

    /// How many were added.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Their mean in f32.
    ///
    /// # Panics
    /// If none was added.
    pub fn mean(&self) -> Tensor {
        let sum = self.sum.as_ref().expect("a mean of at least one tensor");
        (sum / self.count as f64).to_kind(Kind::Float)
    }
}

/// The mean of moments that are added one at a time: the mean of μ, and the mean of σ.
#[derive(Debug, Default)]
pub struct RunningMoments {
    mean: RunningMean,
    std: RunningMean,
}

impl RunningMoments {
    /// Adds one image's moments.
    pub fn add(&mut self, moments: &Moments) {
        self.mean.add(&moments.mean);
        self.std.add(&moments.std);
    }

    /// Their mean in f32.
    ///
    /// # Panics
    /// If none was added.
    pub fn mean(&self) -> Moments {
        Moments { mean: self.mean.mean(), std: self.std.mean() }
    }
}
