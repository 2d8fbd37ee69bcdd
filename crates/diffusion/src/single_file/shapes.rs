//! The sizes of a single file's networks, read off the shapes of their tensors.
//!
//! Shapes do not tell the number of attention heads. 1.x has 8 at each level. In 2.x, where the transformers'
//! projections are linear layers, a head has 64 channels. CLIP's heads have 64 features in all published text
//! encoders.

use std::path::Path;

use crate::error::{Error, Result};
use crate::networks::clip_text::{self, LayersConfig};
use crate::networks::unet::{self, Level};
use crate::networks::vae;
use crate::weights::Weights;

/// Heads of each attention in 1.x.
const HEADS: i64 = 8;
/// Channels of each head in 2.x, and of each head of CLIP.
const HEAD_CHANNELS: i64 = 64;
/// A limit: no network has more blocks, layers or levels in a row.
const MANY: i64 = 256;

/// The shapes of one part by name.
struct Shapes<'a> {
    path: &'a Path,
    weights: &'a Weights,
}

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.weights.root().has(name)
    }

    /// One side of a tensor's shape.
    fn side(&self, name: &str, dimension: usize) -> Result<i64> {
        let size = self.weights.root().tensor_of_any_shape(name)?.size();
        size.get(dimension).copied().ok_or_else(|| self.refuse(name, format!("has the shape {size:?}")))
    }

    /// How many of `name(0)`, `name(1)`, … there are.
    fn count(&self, name: impl Fn(i64) -> String) -> i64 {
        (0..MANY).take_while(|&n| self.has(&name(n))).count() as i64
    }

    fn refuse(&self, name: &str, message: impl Into<String>) -> Error {
        Error::Unsupported { path: self.path.to_path_buf(), key: name.into(), message: message.into() }
    }
}

/// The UNet of tensors named `input_blocks.…`, `middle_block.…`, `output_blocks.…`.
pub(super) fn unet(path: &Path, weights: &Weights) -> Result<unet::Config> {
    let shapes = Shapes { path, weights };
    if let Some(name) = weights.names().find(|name| name.starts_with("label_emb.")) {
        let message =
            "is an embedding of classes or sizes, as Stable Diffusion XL and the upscaler have; supported are 1.x \
                       and 2.x";
        return Err(shapes.refuse(name, message));
    }
    let levels = levels(&shapes)?;
    let two = levels.linear;
    let config = unet::Config {
        sample_size: (!two).then_some([64, 64]),
        in_channels: shapes.side("input_blocks.0.0.weight", 1)?,
        out_channels: shapes.side("out.2.weight", 0)?,
        cross_attention_dim: levels.context,
        use_linear_projection: two,
        upcast_attention: two,
        levels: levels.levels,
        ..unet::Config::sd15()
    };
    config.check(path)?;
    Ok(config)
}

struct Levels {
    levels: Vec<Level>,
    context: i64,
    linear: bool,
}

fn levels(shapes: &Shapes<'_>) -> Result<Levels> {
    let block = |n: i64| format!("input_blocks.{n}.0");
    let is_block = |n: i64| ["weight", "op.weight", "in_layers.0.weight"].map(|w| format!("{}.{w}", block(n)));
    let blocks = (0..MANY).take_while(|&n| is_block(n).iter().any(|name| shapes.has(name))).count() as i64 - 1;
    let count = 1 + (1..=blocks).filter(|&n| shapes.has(&format!("{}.op.weight", block(n)))).count() as i64;
    let layers = (blocks + 1 - count) / count;
    if layers < 1 || layers * count != blocks + 1 - count {
        let message = format!("{} blocks in {count} levels: not a UNet of Stable Diffusion 1.x or 2.x", blocks + 1);
        return Err(shapes.refuse("input_blocks", message));
    }
    let middle = "middle_block.1";
    let linear = shapes.weights.root().tensor_of_any_shape(&format!("{middle}.proj_in.weight"))?.dim() == 2;
    let depth = |attention: &str| shapes.count(|n| format!("{attention}.transformer_blocks.{n}.norm1.weight"));
    let level = |k: i64| {
        let (down, up) = (1 + k * (layers + 1), (count - 1 - k) * (layers + 1));
        let attention = |blocks: &str, n: i64| format!("{blocks}.{n}.1");
        let attends = |place: &str| shapes.has(&format!("{place}.proj_in.weight"));
        let (down_attention, up_attention) = (attention("input_blocks", down), attention("output_blocks", up));
        let channels = shapes.side(&format!("{}.out_layers.3.weight", block(down)), 0)?;
        let depths = [&down_attention, &up_attention, middle].map(depth);
        Ok(Level {
            channels,
            layers,
            heads: if linear { (channels / HEAD_CHANNELS).max(1) } else { HEADS },
            transformer_layers: depths.into_iter().find(|&depth| depth > 0).unwrap_or(1),
            attends_down: attends(&down_attention),
            attends_up: attends(&up_attention),
            only_cross_attention: false,
        })
    };
    let levels = (0..count).map(level).collect::<Result<_>>()?;
    let context = shapes.side(&format!("{middle}.transformer_blocks.0.attn2.to_k.weight"), 1)?;
    Ok(Levels { levels, context, linear })
}

/// The VAE of tensors named `encoder.down.…`, `decoder.up.…`.
pub(super) fn vae(path: &Path, weights: &Weights) -> Result<vae::Config> {
    let shapes = Shapes { path, weights };
    let conv = |level: i64, block: i64| format!("encoder.down.{level}.block.{block}.conv1.weight");
    let levels = shapes.count(|level| conv(level, 0));
    if levels == 0 {
        return Err(shapes.refuse("encoder.down.0.block.0.conv1.weight", "is missing: not a VAE of Stable Diffusion"));
    }
    let config = vae::Config {
        in_channels: shapes.side("encoder.conv_in.weight", 1)?,
        out_channels: shapes.side("decoder.conv_out.weight", 0)?,
        latent_channels: shapes.side("decoder.conv_in.weight", 1)?,
        block_out_channels: (0..levels).map(|level| shapes.side(&conv(level, 0), 0)).collect::<Result<_>>()?,
        layers_per_block: shapes.count(|block| conv(0, block)),
        norm_num_groups: 32,
        mid_block_add_attention: shapes.has("encoder.mid.attn_1.q.weight"),
        use_quant_conv: shapes.has("quant_conv.weight"),
        use_post_quant_conv: shapes.has("post_quant_conv.weight"),
        scaling_factor: 0.18215,
    };
    match config.block_out_channels.iter().find(|&&c| c < 1 || c % config.norm_num_groups != 0) {
        Some(c) => Err(shapes.refuse("encoder.down", format!("{c} channels are no multiple of 32 groups"))),
        None => Ok(config),
    }
}

/// The text encoder of 1.x, under transformers' names.
pub(super) fn clip(path: &Path, weights: &Weights) -> Result<clip_text::Config> {
    let shapes = Shapes { path, weights };
    let layer = |n: i64| format!("text_model.encoder.layers.{n}.mlp.fc1.weight");
    text(
        &shapes,
        "text_model.embeddings.token_embedding.weight",
        "text_model.embeddings.position_embedding.weight",
        (shapes.count(layer), &layer(0)),
        clip_text::Activation::QuickGelu,
    )
}

/// The text encoder of 2.x, under OpenCLIP's names, without its last layer.
pub(super) fn open_clip(path: &Path, weights: &Weights) -> Result<clip_text::Config> {
    let shapes = Shapes { path, weights };
    let layer = |n: i64| format!("transformer.resblocks.{n}.mlp.c_fc.weight");
    let layers = (shapes.count(layer) - 1, layer(0));
    let activation = clip_text::Activation::Gelu;
    text(&shapes, "token_embedding.weight", "positional_embedding", (layers.0, &layers.1), activation)
}

fn text(
    shapes: &Shapes<'_>, tokens: &str, positions: &str, (layers, wide): (i64, &str), hidden_act: clip_text::Activation,
) -> Result<clip_text::Config> {
    let hidden_size = shapes.side(tokens, 1)?;
    if layers < 1 || hidden_size < HEAD_CHANNELS || hidden_size % HEAD_CHANNELS != 0 {
        let message = format!("{hidden_size} features and {layers} layers: not a text encoder of Stable Diffusion");
        return Err(shapes.refuse(tokens, message));
    }
    Ok(clip_text::Config {
        layers: LayersConfig {
            hidden_size,
            intermediate_size: shapes.side(wide, 0)?,
            num_hidden_layers: layers,
            num_attention_heads: hidden_size / HEAD_CHANNELS,
            hidden_act,
            layer_norm_eps: 1e-5,
        },
        vocab_size: shapes.side(tokens, 0)?,
        max_position_embeddings: shapes.side(positions, 0)?,
        eos_token_id: 49407,
    })
}
