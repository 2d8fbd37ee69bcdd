//! The spatial transformer: pixels attend to each other and to the text (Rombach et al. 2022, §3.3 and appendix E).
//!
//! Shapes: b batch, c channels, p = h·w pixels, n context tokens, d context features.

use tch::{Kind, Tensor};

use super::{Config, Level};
use crate::error::Result;
use crate::networks::layers::{attention, GroupNorm, LayerNorm, Linear};
use crate::weights::Scope;

// diffusers' Transformer2DModel fixes both, whatever the UNet's norm_eps.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// GroupNorm, projection in, transformer layers over the pixels, projection out, + the input.
#[derive(Debug)]
pub(super) struct SpatialTransformer {
    norm: GroupNorm,
    proj_in: Projection,
    layers: Vec<TransformerLayer>,
    proj_out: Projection,
}

impl SpatialTransformer {
    pub(super) fn load(scope: &Scope<'_>, config: &Config, level: &Level, only_cross: bool) -> Result<Self> {
        let channels = level.channels;
        let layer = |i| TransformerLayer::load(&scope.sub("transformer_blocks").sub(i), config, level, only_cross);
        Ok(Self {
            norm: GroupNorm::load(&scope.sub("norm"), config.norm_num_groups, channels, GROUP_NORM_EPS)?,
            proj_in: Projection::load(&scope.sub("proj_in"), channels, config.use_linear_projection)?,
            layers: (0..level.transformer_layers).map(layer).collect::<Result<_>>()?,
            proj_out: Projection::load(&scope.sub("proj_out"), channels, config.use_linear_projection)?,
        })
    }

    /// (b, c, h, w), (b, n, d) → (b, c, h, w)
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor) -> Tensor {
        let size = x.size();
        let pixels = self.norm.forward(x).flatten(2, 3).transpose(1, 2).contiguous(); // (b, p, c)
        let mut y = self.proj_in.forward(&pixels);
        for layer in &self.layers {
            y = layer.forward(&y, context);
        }
        x + self.proj_out.forward(&y).transpose(1, 2).reshape(size) // x first: its layout is the sum's
    }
}

/// A map of each pixel's channels: stored as a 1×1 convolution in SD 1.x and as a linear layer in SD 2.x.
#[derive(Debug)]
struct Projection {
    weight: Tensor, // (c, c)
    bias: Tensor,   // (c)
}

impl Projection {
    fn load(scope: &Scope<'_>, channels: i64, linear: bool) -> Result<Self> {
        let shape: &[i64] = if linear { &[channels, channels] } else { &[channels, channels, 1, 1] };
        let weight = scope.tensor("weight", shape)?.reshape([channels, channels]);
        Ok(Self { weight, bias: scope.tensor("bias", &[channels])? })
    }

    /// (b, p, c) → (b, p, c)
    fn forward(&self, pixels: &Tensor) -> Tensor {
        pixels.linear(&self.weight, Some(&self.bias))
    }
}

/// Self-attention, cross-attention and a gated feed-forward layer, each behind a LayerNorm and a residual.
#[derive(Debug)]
struct TransformerLayer {
    norm1: LayerNorm,
    attn1: Attention,
    only_cross: bool,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    feed_forward: FeedForward,
}

impl TransformerLayer {
    fn load(scope: &Scope<'_>, config: &Config, level: &Level, only_cross: bool) -> Result<Self> {
        let channels = level.channels;
        let norm = |name: &str| LayerNorm::load(&scope.sub(name), channels, LAYER_NORM_EPS);
        let attend = |name: &str, keys| Attention::load(&scope.sub(name), config, level, keys);
        let context = config.cross_attention_dim;
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: attend("attn1", if only_cross { context } else { channels })?,
            only_cross,
            norm2: norm("norm2")?,
            attn2: attend("attn2", context)?,
            norm3: norm("norm3")?,
            feed_forward: FeedForward::load(&scope.sub("ff").sub("net"), channels)?,
        })
    }

    /// (b, p, c), (b, n, d) → (b, p, c)
    fn forward(&self, x: &Tensor, context: &Tensor) -> Tensor {
        let normed = self.norm1.forward(x);
        let keys = if self.only_cross { context } else { &normed };
        let x = self.attn1.forward(&normed, keys) + x;
        let x = self.attn2.forward(&self.norm2.forward(&x), context) + x;
        self.feed_forward.forward(&self.norm3.forward(&x)) + x
    }
}

/// Multi-head attention with its projections.
#[derive(Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
    upcast: bool,
}

impl Attention {
    fn load(scope: &Scope<'_>, config: &Config, level: &Level, keys: i64) -> Result<Self> {
        let channels = level.channels;
        Ok(Self {
            to_q: Linear::load_without_bias(&scope.sub("to_q"), channels, channels)?,
            to_k: Linear::load_without_bias(&scope.sub("to_k"), keys, channels)?,
            to_v: Linear::load_without_bias(&scope.sub("to_v"), keys, channels)?,
            to_out: Linear::load(&scope.sub("to_out").sub(0), channels, channels)?,
            heads: level.heads,
            upcast: config.upcast_attention,
        })
    }

    /// Queries from (b, p, c), keys and values from (b, n, d) → (b, p, c)
    fn forward(&self, queries: &Tensor, keys: &Tensor) -> Tensor {
        let (q, k, v) = (self.to_q.forward(queries), self.to_k.forward(keys), self.to_v.forward(keys));
        // Upcasting guards f16's narrow range; bf16 has that of f32.
        let out = if self.upcast && q.kind() == Kind::Half {
            let float = |x: Tensor| x.to_kind(Kind::Float);
            attention(&float(q), &float(k), &float(v), self.heads, false).to_kind(Kind::Half)
        } else {
            attention(&q, &k, &v, self.heads, false)
        };
        self.to_out.forward(&out)
    }
}

/// GEGLU (Shazeer 2020): (x W) ⊙ GELU(x V), then back to c channels.
#[derive(Debug)]
struct FeedForward {
    inward: Linear, // c → 8c: value and gate
    outward: Linear,
}

impl FeedForward {
    fn load(scope: &Scope<'_>, channels: i64) -> Result<Self> {
        Ok(Self {
            inward: Linear::load(&scope.sub(0).sub("proj"), channels, 8 * channels)?,
            outward: Linear::load(&scope.sub(2), 4 * channels, channels)?,
        })
    }

    /// (b, p, c) → (b, p, c)
    fn forward(&self, x: &Tensor) -> Tensor {
        let halves = self.inward.forward(x).chunk(2, -1);
        self.outward.forward(&(&halves[0] * halves[1].gelu("none")))
    }
}
