//! The layers that every network here is made of, frozen and named as PyTorch names their weights.
//!
//! Shapes: b batch, c channels, h height, w width, n tokens, d features.

use tch::Tensor;

use crate::error::Result;
use crate::weights::Scope;

/// `y = x Wᵀ + b`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor, // (out, in)
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` and `bias`.
    pub fn load(scope: &Scope<'_>, inputs: i64, outputs: i64) -> Result<Self> {
        let bias = Some(scope.tensor("bias", &[outputs])?);
        Ok(Self { weight: scope.tensor("weight", &[outputs, inputs])?, bias })
    }

    /// Reads `weight` alone.
    pub fn load_without_bias(scope: &Scope<'_>, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[outputs, inputs])?, bias: None })
    }

    /// (…, in) → (…, out)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, self.bias.as_ref())
    }
}

/// Two-dimensional convolution.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor, // (out, in, k, k)
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Reads `weight` and `bias` of a square kernel with side `kernel`.
    pub fn load(scope: &Scope<'_>, inputs: i64, outputs: i64, kernel: i64, stride: i64, padding: i64) -> Result<Self> {
        let bias = Some(scope.tensor("bias", &[outputs])?);
        Ok(Self { weight: scope.tensor("weight", &[outputs, inputs, kernel, kernel])?, bias, stride, padding })
    }

    /// Reads `weight` alone.
    pub fn load_without_bias(
        scope: &Scope<'_>, inputs: i64, outputs: i64, kernel: i64, stride: i64, padding: i64,
    ) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[outputs, inputs, kernel, kernel])?, bias: None, stride, padding })
    }

    /// (b, in, h, w) → (b, out, h', w')
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.conv2d(&self.weight, self.bias.as_ref(), stride, padding, [1, 1], 1)
    }
}

/// Group normalisation with learned scale and shift.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor, // (c)
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`.
    pub fn load(scope: &Scope<'_>, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        let (weight, bias) = (scope.tensor("weight", &[channels])?, scope.tensor("bias", &[channels])?);
        Ok(Self { weight, bias, groups, eps })
    }

    /// (b, c, h, w) → (b, c, h, w)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(self.groups, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor, // (d)
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`.
    pub fn load(scope: &Scope<'_>, features: i64, eps: f64) -> Result<Self> {
        let (weight, bias) = (scope.tensor("weight", &[features])?, scope.tensor("bias", &[features])?);
        Ok(Self { weight, bias, eps })
    }

    /// (…, d) → (…, d)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Multi-head attention over already projected queries, keys and values.
///
/// (b, n, heads·d), (b, m, heads·d), (b, m, heads·d) → (b, n, heads·d); `causal` masks the future.
pub fn attention(query: &Tensor, key: &Tensor, value: &Tensor, heads: i64, causal: bool) -> Tensor {
    let split = |x: &Tensor| {
        let (b, n, c) = x.size3().expect("attention takes (b, n, c)");
        x.view([b, n, heads, c / heads]).transpose(1, 2) // (b, heads, n, d)
    };
    let out = Tensor::scaled_dot_product_attention(
        &split(query),
        &split(key),
        &split(value),
        None::<Tensor>,
        0.0,
        causal,
        None,
        false,
    );
    let (b, _, n, _) = out.size4().expect("attention keeps four dimensions");
    out.transpose(1, 2).reshape([b, n, -1])
}
