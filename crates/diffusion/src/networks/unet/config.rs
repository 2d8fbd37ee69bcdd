//! UNet2DConditionModel's config.json: what is read, what must have its neutral value, what is refused.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{json, Value};

use crate::error::{Error, Result};
use crate::json;

/// The architecture of a UNet, level by level; what was read is checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Height and width of the latents it was trained on, where the file says so.
    pub sample_size: Option<[i64; 2]>,
    /// Channels of the latents.
    pub in_channels: i64,
    /// Channels of the output.
    pub out_channels: i64,
    /// The levels of resolution, highest first.
    pub levels: Vec<Level>,
    /// Features of the text embedding.
    pub cross_attention_dim: i64,
    /// Whether the transformers' projections are linear layers (SD 2.x) rather than 1×1 convolutions (SD 1.x).
    pub use_linear_projection: bool,
    /// Whether f16 attention is computed in f32.
    pub upcast_attention: bool,
    /// Groups of every GroupNorm.
    pub norm_num_groups: i64,
    /// Epsilon of the GroupNorms outside the transformers.
    pub norm_eps: f64,
    /// Whether the timestep embedding has its cosines first.
    pub flip_sin_to_cos: bool,
    /// Subtracted from the number of frequencies of the timestep embedding.
    pub freq_shift: f64,
    /// Padding of the strided convolutions; 0 pads right and bottom only.
    pub downsample_padding: i64,
    /// Side of the first convolution's kernel.
    pub conv_in_kernel: i64,
    /// Side of the last convolution's kernel.
    pub conv_out_kernel: i64,
}

/// One level of resolution: a down block and the up block across from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// Channels.
    pub channels: i64,
    /// Residual blocks on the way down; the way up has one more.
    pub layers: i64,
    /// Attention heads.
    pub heads: i64,
    /// Transformer layers after each residual block of an attending block.
    pub transformer_layers: i64,
    /// Whether the down block is a CrossAttnDownBlock2D rather than a DownBlock2D.
    pub attends_down: bool,
    /// Whether the up block is a CrossAttnUpBlock2D rather than an UpBlock2D.
    pub attends_up: bool,
    /// Whether the first attention of each transformer layer looks at the text too.
    pub only_cross_attention: bool,
}

impl Config {
    /// Reads and checks a config.json.
    pub(crate) fn from_json_file(path: &Path) -> Result<Self> {
        let json = json::read(path)?;
        check_keys(path, &json)?;
        let raw: Raw =
            serde_json::from_value(json).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        raw.resolve(path)
    }

    /// Stable Diffusion 1.5: stable-diffusion-v1-5/stable-diffusion-v1-5, unet/config.json.
    pub fn sd15() -> Self {
        Self {
            sample_size: Some([64, 64]),
            in_channels: 4,
            out_channels: 4,
            levels: stable_diffusion_levels([8, 8, 8, 8]),
            cross_attention_dim: 768,
            use_linear_projection: false,
            upcast_attention: false,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            downsample_padding: 1,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
        }
    }

    /// Stable Diffusion 2.1 at 768 px: stabilityai/stable-diffusion-2-1, unet/config.json.
    pub fn sd21() -> Self {
        Self {
            sample_size: Some([96, 96]),
            levels: stable_diffusion_levels([5, 10, 20, 20]),
            cross_attention_dim: 1024,
            use_linear_projection: true,
            upcast_attention: true,
            ..Self::sd15()
        }
    }

    /// The level of lowest resolution, the mid block's.
    pub fn deepest(&self) -> &Level {
        self.levels.last().expect("a read or named configuration has levels")
    }

    /// Features of the timestep embedding.
    pub fn temb_channels(&self) -> i64 {
        4 * self.levels[0].channels
    }
}

fn stable_diffusion_levels(heads: [i64; 4]) -> Vec<Level> {
    let level = |(i, heads)| Level {
        channels: [320, 640, 1280, 1280][i],
        layers: 2,
        heads,
        transformer_layers: 1,
        attends_down: i < 3,
        attends_up: i < 3,
        only_cross_attention: false,
    };
    heads.into_iter().enumerate().map(level).collect()
}

/// A value for all levels or one for each.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum PerLevel<T> {
    All(T),
    Each(Vec<T>),
}

impl<T: Clone> PerLevel<T> {
    fn expand(self, path: &Path, key: &str, levels: usize) -> Result<Vec<T>> {
        match self {
            PerLevel::All(value) => Ok(vec![value; levels]),
            PerLevel::Each(values) if values.len() == levels => Ok(values),
            PerLevel::Each(values) => {
                Err(unsupported(path, key, format!("has {} entries for {levels} levels", values.len())))
            }
        }
    }
}

/// The keys that are read, with diffusers' defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    sample_size: Option<PerLevel<i64>>,
    in_channels: i64,
    out_channels: i64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    only_cross_attention: PerLevel<bool>,
    block_out_channels: Vec<i64>,
    layers_per_block: PerLevel<i64>,
    transformer_layers_per_block: PerLevel<i64>,
    attention_head_dim: PerLevel<i64>,
    num_attention_heads: Option<PerLevel<i64>>,
    cross_attention_dim: i64,
    use_linear_projection: bool,
    upcast_attention: bool,
    norm_num_groups: i64,
    norm_eps: f64,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    downsample_padding: i64,
    conv_in_kernel: i64,
    conv_out_kernel: i64,
}

impl Default for Raw {
    fn default() -> Self {
        let types = |names: [&str; 4]| names.map(String::from).to_vec();
        let (down, up) = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D");
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            down_block_types: types([down, down, down, "DownBlock2D"]),
            up_block_types: types(["UpBlock2D", up, up, up]),
            only_cross_attention: PerLevel::All(false),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: PerLevel::All(2),
            transformer_layers_per_block: PerLevel::All(1),
            attention_head_dim: PerLevel::All(8),
            num_attention_heads: None,
            cross_attention_dim: 1280,
            use_linear_projection: false,
            upcast_attention: false,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            downsample_padding: 1,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
        }
    }
}

impl Raw {
    fn resolve(self, path: &Path) -> Result<Config> {
        let levels = self.levels(path)?;
        let sample_size = match self.sample_size {
            None => None,
            Some(size) => {
                let sides = size.expand(path, "sample_size", 2)?;
                Some([sides[0], sides[1]])
            }
        };
        let config = Config {
            sample_size,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            levels,
            cross_attention_dim: self.cross_attention_dim,
            use_linear_projection: self.use_linear_projection,
            upcast_attention: self.upcast_attention,
            norm_num_groups: self.norm_num_groups,
            norm_eps: self.norm_eps,
            flip_sin_to_cos: self.flip_sin_to_cos,
            freq_shift: self.freq_shift,
            downsample_padding: self.downsample_padding,
            conv_in_kernel: self.conv_in_kernel,
            conv_out_kernel: self.conv_out_kernel,
        };
        config.check(path)?;
        Ok(config)
    }

    fn levels(&self, path: &Path) -> Result<Vec<Level>> {
        let count = self.block_out_channels.len();
        let down = attends(path, "down_block_types", &self.down_block_types, count, "Down")?;
        let up = attends(path, "up_block_types", &self.up_block_types, count, "Up")?;
        let layers = self.layers_per_block.clone().expand(path, "layers_per_block", count)?;
        let transformer_layers = &self.transformer_layers_per_block;
        let transformer_layers = transformer_layers.clone().expand(path, "transformer_layers_per_block", count)?;
        // diffusers used the name attention_head_dim for the number of heads, and 40,000 published files have it so.
        let heads = self.num_attention_heads.as_ref().unwrap_or(&self.attention_head_dim);
        let heads = heads.clone().expand(path, "attention_head_dim", count)?;
        let only_cross = self.only_cross_attention.clone().expand(path, "only_cross_attention", count)?;
        let level = |i: usize| Level {
            channels: self.block_out_channels[i],
            layers: layers[i],
            heads: heads[i],
            transformer_layers: transformer_layers[i],
            attends_down: down[i],
            attends_up: up[count - 1 - i],
            only_cross_attention: only_cross[i],
        };
        Ok((0..count).map(level).collect())
    }
}

/// Which blocks attend, from names such as `CrossAttnDownBlock2D` and `DownBlock2D`.
fn attends(path: &Path, key: &str, types: &[String], levels: usize, way: &str) -> Result<Vec<bool>> {
    let (plain, cross) = (format!("{way}Block2D"), format!("CrossAttn{way}Block2D"));
    if types.len() != levels || levels == 0 {
        let message = format!("has {} blocks for {levels} block_out_channels", types.len());
        return Err(unsupported(path, key, message));
    }
    let attends = |name: &String| match name {
        _ if *name == cross => Ok(true),
        _ if *name == plain => Ok(false),
        _ => Err(unsupported(path, key, format!("{name} is not supported; supported are {cross} and {plain}"))),
    };
    types.iter().map(attends).collect()
}

impl Config {
    /// Refuses what libtorch would only refuse in the middle of a forward pass.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let require =
            |ok: bool, key: &str, message: String| if ok { Ok(()) } else { Err(unsupported(path, key, message)) };
        let groups = self.norm_num_groups;
        require(groups > 0, "norm_num_groups", format!("is {groups}, must be at least 1"))?;
        for (key, value) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("cross_attention_dim", self.cross_attention_dim),
        ] {
            require(value > 0, key, format!("is {value}, must be at least 1"))?;
        }
        for (key, kernel) in [("conv_in_kernel", self.conv_in_kernel), ("conv_out_kernel", self.conv_out_kernel)] {
            require(kernel > 0 && kernel % 2 == 1, key, format!("is {kernel}, supported are odd sides"))?;
        }
        let padding = self.downsample_padding;
        require([0, 1].contains(&padding), "downsample_padding", format!("is {padding}, supported are 0 and 1"))?;
        for level in &self.levels {
            let (c, heads) = (level.channels, level.heads);
            let divides = c > 0 && c % 2 == 0 && c % groups == 0;
            require(divides, "block_out_channels", format!("{c} is not an even multiple of {groups} groups"))?;
            require(
                heads > 0 && c % heads == 0,
                "attention_head_dim",
                format!("{heads} heads do not divide {c} channels"),
            )?;
            require(level.layers > 0, "layers_per_block", "must be at least 1".into())?;
            require(level.transformer_layers > 0, "transformer_layers_per_block", "must be at least 1".into())?;
        }
        Ok(())
    }
}

/// Keys of parts that this UNet does not have: only values that switch them off are accepted.
fn neutral_values() -> Vec<(&'static str, Vec<Value>)> {
    let null = || vec![Value::Null];
    vec![
        ("act_fn", vec![json!("silu"), json!("swish")]),
        ("mid_block_type", vec![json!("UNetMidBlock2DCrossAttn")]),
        ("resnet_time_scale_shift", vec![json!("default")]),
        ("time_embedding_type", vec![json!("positional")]),
        ("attention_type", vec![json!("default")]),
        ("mid_block_scale_factor", vec![json!(1), json!(1.0)]),
        ("resnet_out_scale_factor", vec![json!(1), json!(1.0)]),
        ("center_input_sample", vec![json!(false)]),
        ("dual_cross_attention", vec![json!(false)]),
        ("resnet_skip_time_act", vec![json!(false)]),
        ("class_embeddings_concat", vec![json!(false)]),
        ("mid_block_only_cross_attention", vec![Value::Null, json!(false)]),
        ("addition_embed_type", null()),
        ("addition_time_embed_dim", null()),
        ("class_embed_type", null()),
        ("num_class_embeds", null()),
        ("cross_attention_norm", null()),
        ("encoder_hid_dim", null()),
        ("encoder_hid_dim_type", null()),
        ("projection_class_embeddings_input_dim", null()),
        ("reverse_transformer_layers_per_block", null()),
        ("time_cond_proj_dim", null()),
        ("time_embedding_act_fn", null()),
        ("time_embedding_dim", null()),
        ("timestep_post_act", null()),
    ]
}

/// Keys read into [`Raw`], and two that change nothing in a frozen network without additional embeddings.
const KNOWN: [&str; 23] = [
    "sample_size",
    "in_channels",
    "out_channels",
    "down_block_types",
    "up_block_types",
    "only_cross_attention",
    "block_out_channels",
    "layers_per_block",
    "transformer_layers_per_block",
    "attention_head_dim",
    "num_attention_heads",
    "cross_attention_dim",
    "use_linear_projection",
    "upcast_attention",
    "norm_num_groups",
    "norm_eps",
    "flip_sin_to_cos",
    "freq_shift",
    "downsample_padding",
    "conv_in_kernel",
    "conv_out_kernel",
    "dropout",
    "addition_embed_type_num_heads",
];

fn check_keys(path: &Path, json: &Value) -> Result<()> {
    let Some(entries) = json.as_object() else {
        return Err(unsupported(path, "config.json", "is not a JSON object".into()));
    };
    let class = entries.get("_class_name").and_then(Value::as_str).unwrap_or("UNet2DConditionModel");
    if class != "UNet2DConditionModel" {
        return Err(unsupported(path, "_class_name", format!("is {class}, supported is UNet2DConditionModel")));
    }
    let neutral = neutral_values();
    for (key, value) in entries.iter().filter(|(key, _)| !key.starts_with('_') && !KNOWN.contains(&key.as_str())) {
        let Some((_, accepted)) = neutral.iter().find(|(name, _)| name == key) else {
            return Err(unsupported(path, key, "is not a key of UNet2DConditionModel known here; remove it".into()));
        };
        if !accepted.contains(value) {
            let accepted: Vec<String> = accepted.iter().map(Value::to_string).collect();
            return Err(unsupported(path, key, format!("is {value}, supported is {}", accepted.join(" or "))));
        }
    }
    Ok(())
}

fn unsupported(path: &Path, key: &str, message: String) -> Error {
    Error::Unsupported { path: PathBuf::from(path), key: key.into(), message }
}
