//! The pre-norm transformer that CLIP's text and image encoders share: Vaswani et al. 2017, *Attention Is All You
//! Need*; transformers' CLIPEncoder.

use serde::Deserialize;
use tch::Tensor;

use crate::error::Result;
use crate::networks::config::Keys;
use crate::networks::layers::{attention, LayerNorm, Linear};
use crate::weights::Scope;

/// Keys that transformers writes about training, generation and itself; they change nothing here.
const BOOKKEEPING: &[&str] = &[
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
];

/// The non-linearity between the two linear maps of a layer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x·σ(1.702 x), as OpenAI trained.
    QuickGelu,
    /// x·Φ(x), as OpenCLIP trained.
    Gelu,
}

impl Activation {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Activation::QuickGelu => x * (x * 1.702).sigmoid(),
            Activation::Gelu => x.gelu("none"),
        }
    }
}

/// The shape of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Features of a token.
    pub hidden_size: i64,
    /// Features between the two linear maps.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Heads of each attention; they share the features.
    pub num_attention_heads: i64,
    /// The non-linearity.
    pub hidden_act: Activation,
    /// The epsilon of every normalisation.
    pub layer_norm_eps: f64,
}

impl Config {
    /// transformers' defaults for either half of CLIP, which differ in these two numbers.
    pub(in crate::networks) fn base(hidden_size: i64, num_attention_heads: i64) -> Self {
        Self {
            hidden_size,
            intermediate_size: 4 * hidden_size,
            num_hidden_layers: 12,
            num_attention_heads,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }

    pub(in crate::networks) fn take(keys: &mut Keys, defaults: Config) -> Result<Self> {
        let config = Self {
            hidden_size: keys.positive("hidden_size", defaults.hidden_size)?,
            intermediate_size: keys.positive("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers: keys.positive("num_hidden_layers", defaults.num_hidden_layers)?,
            num_attention_heads: keys.positive("num_attention_heads", defaults.num_attention_heads)?,
            hidden_act: keys.take("hidden_act", defaults.hidden_act)?,
            layer_norm_eps: keys.take("layer_norm_eps", defaults.layer_norm_eps)?,
        };
        let heads = config.num_attention_heads;
        keys.check(config.hidden_size % heads == 0, "num_attention_heads", || {
            format!("{heads} does not divide hidden_size {}", config.hidden_size)
        })?;
        ignore_bookkeeping(keys);
        Ok(config)
    }
}

/// Ignores what transformers writes into every configuration.
pub(in crate::networks) fn ignore_bookkeeping(keys: &mut Keys) {
    keys.ignore(BOOKKEEPING);
}

/// The layers, one after another.
#[derive(Debug)]
pub(in crate::networks) struct Transformer {
    layers: Vec<Layer>,
}

impl Transformer {
    /// Reads layers named 0, 1, … under `scope`.
    pub(in crate::networks) fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let layers = (0..config.num_hidden_layers).map(|i| Layer::load(&scope.sub(i), config));
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// (b, n, d) → (b, n, d); `causal` lets a token see only those before it and itself.
    pub(in crate::networks) fn forward(&self, x: &Tensor, causal: bool) -> Tensor {
        self.layers.iter().fold(x.shallow_clone(), |h, layer| layer.forward(&h, causal))
    }
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
}

impl Layer {
    fn load(scope: &Scope<'_>, config: &Config) -> Result<Self> {
        let (d, wide, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        Ok(Self {
            norm1: LayerNorm::load(&scope.sub("layer_norm1"), d, eps)?,
            attention: SelfAttention::load(&scope.sub("self_attn"), d, config.num_attention_heads)?,
            norm2: LayerNorm::load(&scope.sub("layer_norm2"), d, eps)?,
            fc1: Linear::load(&scope.sub("mlp.fc1"), d, wide)?,
            activation: config.hidden_act,
            fc2: Linear::load(&scope.sub("mlp.fc2"), wide, d)?,
        })
    }

    fn forward(&self, x: &Tensor, causal: bool) -> Tensor {
        let x = x + self.attention.forward(&self.norm1.forward(x), causal);
        let h = self.activation.apply(&self.fc1.forward(&self.norm2.forward(&x)));
        x + self.fc2.forward(&h)
    }
}

#[derive(Debug)]
struct SelfAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: i64,
}

impl SelfAttention {
    fn load(scope: &Scope<'_>, features: i64, heads: i64) -> Result<Self> {
        let linear = |name: &str| Linear::load(&scope.sub(name), features, features);
        Ok(Self { q: linear("q_proj")?, k: linear("k_proj")?, v: linear("v_proj")?, out: linear("out_proj")?, heads })
    }

    fn forward(&self, x: &Tensor, causal: bool) -> Tensor {
        let (q, k, v) = (self.q.forward(x), self.k.forward(x), self.v.forward(x));
        self.out.forward(&attention(&q, &k, &v, self.heads, causal))
    }
}
