//! The perceptron over an embedding: PyTorch's Sequential of Linear, ReLU, Dropout, Linear, …, without the dropout.

use diffusion::networks::layers::Linear;
use diffusion::weights::Scope;
use tch::Tensor;

use crate::error::Result;

/// A ReLU and a dropout stand between two linear layers, so these are numbered 0, 3, 6, …
pub const LAYER_STRIDE: usize = 3;

/// Linear layers with ReLU between them.
#[derive(Debug)]
pub struct Head {
    layers: Vec<Linear>,
}

impl Head {
    /// Reads `head.{0,3,6,…}` below `scope`; `widths` lead from the embedding to the classes.
    pub fn load(scope: &Scope<'_>, widths: &[i64]) -> Result<Self> {
        let scope = scope.sub("head");
        let layer = |(k, pair): (usize, &[i64])| Ok(Linear::load(&scope.sub(LAYER_STRIDE * k), pair[0], pair[1])?);
        Ok(Self { layers: widths.windows(2).enumerate().map(layer).collect::<Result<_>>()? })
    }

    /// (b, embedding) → (b, classes)
    pub fn forward(&self, embedding: &Tensor) -> Tensor {
        let (first, rest) = self.layers.split_first().expect("invariant: the widths were checked");
        rest.iter().fold(first.forward(embedding), |x, layer| layer.forward(&x.relu()))
    }
}
