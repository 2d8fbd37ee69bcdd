//! The cost of a pass: multiply-accumulates of each network, counted from its configuration, so that a recipe's cost
//! is known before anything is loaded. One multiply-accumulate is two FLOP. Normalisations, activations and sums are
//! left out, as in torch.utils.flop_counter, against which this is tested.
//!
//! Shapes: p pixels of a feature map, c channels, n context tokens, d context features.

use std::iter::Sum;
use std::ops::{Add, Mul};

use super::unet::Level;
use super::{clip, clip_text, tiny_vae, unet, vae};

/// Multiply-accumulates of a forward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs {
    /// In layers with weights: the backward pass of a frozen layer costs as much again.
    pub weighted: u64,
    /// In products of two activations, in attention: their backward pass costs twice as much.
    pub attention: u64,
}

impl Macs {
    /// The forward pass.
    pub fn forward(self) -> u64 {
        self.weighted + self.attention
    }

    /// The backward pass to the input, weights frozen.
    pub fn backward(self) -> u64 {
        self.weighted + 2 * self.attention
    }

    fn weighted(count: i64) -> Self {
        Self { weighted: count.max(0) as u64, attention: 0 }
    }

    fn attention(count: i64) -> Self {
        Self { weighted: 0, attention: count.max(0) as u64 }
    }
}

impl Add for Macs {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { weighted: self.weighted + other.weighted, attention: self.attention + other.attention }
    }
}

impl Mul<u64> for Macs {
    type Output = Self;

    fn mul(self, count: u64) -> Self {
        Self { weighted: self.weighted * count, attention: self.attention * count }
    }
}

impl Sum for Macs {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// A convolution with a square kernel onto `p` pixels.
fn conv(p: i64, inputs: i64, outputs: i64, kernel: i64) -> Macs {
    Macs::weighted(p * inputs * outputs * kernel * kernel)
}

/// Attention of `queries` over `keys` positions, both products.
fn attention(queries: i64, keys: i64, channels: i64) -> Macs {
    Macs::attention(2 * queries * keys * channels)
}

/// The three parts of a UNet's pass, one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnetMacs {
    /// The down path, with the timestep embedding.
    pub down: Macs,
    /// The mid block.
    pub mid: Macs,
    /// The up path.
    pub up: Macs,
}

impl UnetMacs {
    /// What [`unet::UNet::encode`] does.
    pub fn encode(self) -> Macs {
        self.down + self.mid
    }
}

/// A UNet on latents of `side` × `side` under `tokens` context tokens.
pub fn unet(config: &unet::Config, side: i64, tokens: i64) -> UnetMacs {
    let temb = config.temb_channels();
    let first = config.levels[0].channels;
    let pixels = |k: usize| (side >> k) * (side >> k);
    let resnet = |p, inputs, outputs| resnet(p, inputs, outputs) + Macs::weighted(temb * outputs);
    let attend = |p, level: &Level| transformer(p, level, tokens, config.cross_attention_dim);
    let (mut down, mut up) = (conv(pixels(0), config.in_channels, first, config.conv_in_kernel), Macs::default());
    down = down + Macs::weighted(first * temb + temb * temb);
    let deepest = config.levels.len() - 1;
    for (k, level) in config.levels.iter().enumerate() {
        let (p, c) = (pixels(k), level.channels);
        let above = config.levels[k.saturating_sub(1)].channels;
        let below = config.levels.get(k + 1).map_or(c, |l| l.channels);
        for i in 0..level.layers {
            down = down + resnet(p, if i == 0 { above } else { c }, c);
        }
        if level.attends_down {
            down = down + attend(p, level) * level.layers as u64;
        }
        if k < deepest {
            down = down + conv(pixels(k + 1), c, c, 3);
        }
        for i in 0..=level.layers {
            let skip = if i == level.layers { above } else { c };
            up = up + resnet(p, if i == 0 { below } else { c } + skip, c);
        }
        if level.attends_up {
            up = up + attend(p, level) * (level.layers + 1) as u64;
        }
        if k > 0 {
            up = up + conv(pixels(k - 1), c, c, 3);
        }
    }
    let last = config.deepest();
    let p = pixels(deepest);
    let own = Level { only_cross_attention: false, ..last.clone() };
    let mid = resnet(p, last.channels, last.channels) * 2 + attend(p, &own);
    up = up + conv(pixels(0), first, config.out_channels, config.conv_out_kernel);
    UnetMacs { down, mid, up }
}

/// Two 3×3 convolutions and, where the channels change, a 1×1 one around them.
fn resnet(p: i64, inputs: i64, outputs: i64) -> Macs {
    let shortcut = if inputs == outputs { Macs::default() } else { conv(p, inputs, outputs, 1) };
    conv(p, inputs, outputs, 3) + conv(p, outputs, outputs, 3) + shortcut
}

/// A spatial transformer: projections in and out, and per layer self-attention, cross-attention, gated feed-forward.
fn transformer(p: i64, level: &Level, n: i64, d: i64) -> Macs {
    let c = level.channels;
    let (keys, features) = if level.only_cross_attention { (n, d) } else { (p, c) };
    let own = Macs::weighted(2 * c * c * p + 2 * features * c * keys) + attention(p, keys, c);
    let cross = Macs::weighted(2 * c * c * p + 2 * d * c * n) + attention(p, n, c);
    let feed_forward = Macs::weighted(8 * c * c * p + 4 * c * c * p);
    Macs::weighted(2 * c * c * p) + (own + cross + feed_forward) * level.transformer_layers as u64
}

/// A KL autoencoder's encoder on images of `side` × `side`.
pub fn vae_encode(config: &vae::Config, side: i64) -> Macs {
    let widths = &config.block_out_channels;
    let mut macs = conv(side * side, config.in_channels, widths[0], 3);
    let mut side = side;
    for (k, &c) in widths.iter().enumerate() {
        let p = side * side;
        let inputs = widths[k.saturating_sub(1)];
        macs = macs + resnet(p, inputs, c) + resnet(p, c, c) * (config.layers_per_block - 1) as u64;
        if k + 1 < widths.len() {
            side /= 2;
            macs = macs + conv(side * side, c, c, 3);
        }
    }
    let (p, z) = (side * side, config.latent_channels);
    let quant = if config.use_quant_conv { conv(p, 2 * z, 2 * z, 1) } else { Macs::default() };
    macs + vae_mid(config, p) + conv(p, widths[widths.len() - 1], 2 * z, 3) + quant
}

/// A KL autoencoder's decoder to images of `side` × `side`.
pub fn vae_decode(config: &vae::Config, side: i64) -> Macs {
    let widths: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
    let mut side = side / config.downscale();
    let (p, z) = (side * side, config.latent_channels);
    let quant = if config.use_post_quant_conv { conv(p, z, z, 1) } else { Macs::default() };
    let mut macs = quant + conv(p, z, widths[0], 3) + vae_mid(config, p);
    for (k, &c) in widths.iter().enumerate() {
        let p = side * side;
        let inputs = widths[k.saturating_sub(1)];
        macs = macs + resnet(p, inputs, c) + resnet(p, c, c) * config.layers_per_block as u64;
        if k + 1 < widths.len() {
            side *= 2;
            macs = macs + conv(side * side, c, c, 3);
        }
    }
    macs + conv(side * side, widths[widths.len() - 1], config.out_channels, 3)
}

fn vae_mid(config: &vae::Config, p: i64) -> Macs {
    let c = config.block_out_channels[config.block_out_channels.len() - 1];
    let attend = Macs::weighted(4 * c * c * p) + attention(p, p, c);
    resnet(p, c, c) * 2 + if config.mid_block_add_attention { attend } else { Macs::default() }
}

/// A tiny autoencoder's decoder to images of `side` × `side`.
pub fn tiny_vae_decode(config: &tiny_vae::Config, side: i64) -> Macs {
    let (c, blocks) = (config.decoder_width, &config.num_decoder_blocks);
    let factor = config.upsampling_scaling_factor;
    let mut side = side / factor.pow(blocks.len() as u32 - 1);
    let mut macs = conv(side * side, config.latent_channels, c, 3);
    for (k, &count) in blocks.iter().enumerate() {
        macs = macs + conv(side * side, c, c, 3) * (3 * count) as u64;
        if k + 1 < blocks.len() {
            side *= factor;
            macs = macs + conv(side * side, c, c, 3);
        }
    }
    macs + conv(side * side, c, config.out_channels, 3)
}

/// A text encoder on one prompt of `tokens`, without a projection.
pub fn text_encoder(config: &clip_text::Config, tokens: i64) -> Macs {
    layers(&config.layers, tokens)
}

/// CLIP's image encoder on one image, with its projection.
pub fn clip_image(config: &clip::Config) -> Macs {
    let vision = &config.vision;
    let patches = (vision.image_size / vision.patch_size).pow(2);
    let hidden = vision.layers.hidden_size;
    conv(patches, vision.num_channels, hidden, vision.patch_size)
        + layers(&vision.layers, patches + 1)
        + Macs::weighted(hidden * config.projection_dim)
}

fn layers(config: &clip_text::LayersConfig, n: i64) -> Macs {
    let (c, wide) = (config.hidden_size, config.intermediate_size);
    let layer = Macs::weighted(n * (4 * c * c + 2 * c * wide)) + attention(n, n, c);
    layer * config.num_hidden_layers as u64
}
