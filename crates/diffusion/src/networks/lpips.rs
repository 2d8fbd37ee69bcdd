//! LPIPS, a perceptual distance between images: Zhang et al. 2018, *The Unreasonable Effectiveness of Deep Features
//! as a Perceptual Metric*, eq. 1; version 0.1 of the `lpips` package.
//!
//! Shapes: b batch, c channels, h height, w width.

mod backbone;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::weights::{Placement, Weights};

pub use backbone::{AlexFeatures, VggFeatures};

/// What images in [-1, 1] are shifted and scaled by, so that they have ImageNet's mean and deviation.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Keeps a feature vector of zeros from being divided by zero.
const EPS: f64 = 1e-10;

/// Which network's features are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backbone {
    /// AlexNet: what published LPIPS values mean unless they say otherwise.
    Alex,
    /// VGG-16.
    Vgg,
}

impl Backbone {
    fn channels(self) -> [i64; 5] {
        match self {
            Backbone::Alex => AlexFeatures::CHANNELS,
            Backbone::Vgg => VggFeatures::CHANNELS,
        }
    }
}

#[derive(Debug)]
enum Features {
    Alex(AlexFeatures),
    Vgg(VggFeatures),
}

/// A frozen LPIPS metric; it computes in f32 whatever its inputs are.
#[derive(Debug)]
pub struct Lpips {
    features: Features,
    heads: Vec<Tensor>, // (1, c, 1, 1) each
    shift: Tensor,      // (1, 3, 1, 1)
    scale: Tensor,      // (1, 3, 1, 1)
}

impl Lpips {
    /// Reads a safetensors file with `net.features.N.{weight,bias}` and `linI.model.1.weight`.
    pub fn load(path: &Path, backbone: Backbone, device: Device) -> Result<Self> {
        Self::load_with(path, backbone, Placement::new(device, Kind::Float))
    }

    /// As [`Lpips::load`], its weights placed as `placement` says, which must be f32.
    pub fn load_with(path: &Path, backbone: Backbone, placement: Placement) -> Result<Self> {
        let weights = Weights::from_file(path, placement)?;
        let root = weights.root();
        let features = match backbone {
            Backbone::Alex => Features::Alex(AlexFeatures::load(&root.sub("net"))?),
            Backbone::Vgg => Features::Vgg(VggFeatures::load(&root.sub("net"))?),
        };
        let head = |(i, c): (usize, i64)| root.sub(format!("lin{i}")).tensor("model.1.weight", &[1, c, 1, 1]);
        let heads = backbone.channels().into_iter().enumerate().map(head).collect::<Result<_>>()?;
        weights.finish(|_| false)?;
        let constant = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(placement.device);
        Ok(Self { features, heads, shift: constant(SHIFT), scale: constant(SCALE) })
    }

    /// How far apart two batches look: (b, 3, h, w) and (b, 3, h, w), both in [-1, 1] → (b).
    ///
    /// Sides must be at least 31 pixels for AlexNet and 16 for VGG, or nothing is left to compare.
    pub fn distance(&self, a: &Tensor, b: &Tensor) -> Tensor {
        self.distance_of(&self.unit_features(a), &self.unit_features(b))
    }

    /// The features that [`distance_of`](Self::distance_of) compares, each pixel's of length 1. Keeping them saves
    /// half the work when one image is compared with many.
    pub fn unit_features(&self, images: &Tensor) -> Vec<Tensor> {
        let x = (images.to_kind(Kind::Float) - &self.shift) / &self.scale;
        let features = match &self.features {
            Features::Alex(net) => net.forward(&x),
            Features::Vgg(net) => net.forward(&x),
        };
        features.iter().map(unit).collect()
    }

    /// The distance between two images' features → (b).
    pub fn distance_of(&self, a: &[Tensor], b: &[Tensor]) -> Tensor {
        let layer = |((a, b), head): ((&Tensor, &Tensor), &Tensor)| {
            let difference = (a - b).square() * head; // (b, c, h, w)
            difference.sum_dim_intlist([1i64].as_slice(), false, Kind::Float).mean_dim(
                [1i64, 2].as_slice(),
                false,
                Kind::Float,
            )
        };
        a.iter().zip(b).zip(&self.heads).map(layer).reduce(|sum, d| sum + d).expect("there are five layers")
    }
}

/// Each pixel's features divided by their length.
fn unit(x: &Tensor) -> Tensor {
    let length = x.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Float).sqrt();
    x / (length + EPS)
}
