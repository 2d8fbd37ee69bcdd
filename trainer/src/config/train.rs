//! The `train` section: steps, batches, rates, numerics.

use collective::{DeviceChoice, MixedPrecision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lr::LrScheduler;
use crate::optimizer::OptimizerSection;

/// The learning rate of each group.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearningRates {
    /// Of the token vectors.
    pub tokens: f64,
    /// Of Δh.
    pub delta: f64,
}

/// Steps, batches, rates.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Images per process and batch, of either stream.
    pub train_batch_size: usize,
    /// Images computed at once; a larger train_batch_size is cut into such pieces, which saves memory and makes the
    /// weights the same, bit for bit, on one process and on several. The whole batch without it.
    #[serde(default)]
    pub micro_batch_size: Option<usize>,
    /// Batches per optimiser step.
    #[serde(default = "one")]
    pub gradient_accumulation_steps: usize,
    /// Optimiser steps.
    pub max_train_steps: u64,
    /// Of each group.
    pub learning_rate: LearningRates,
    /// constant, constant_with_warmup, linear, cosine, cosine_with_restarts or polynomial.
    #[serde(default = "default_lr_scheduler")]
    pub lr_scheduler: LrScheduler,
    /// Steps over which the rate rises.
    #[serde(default)]
    pub lr_warmup_steps: u64,
    /// The share of the rate left at the last step.
    #[serde(default)]
    pub lr_final_fraction: f64,
    /// Cosines in a run of cosine_with_restarts.
    #[serde(default = "default_lr_num_cycles")]
    pub lr_num_cycles: u64,
    /// The power of polynomial.
    #[serde(default = "default_lr_power")]
    pub lr_power: f64,
    /// The update rule and its constants.
    #[serde(default)]
    pub optimizer: OptimizerSection,
    /// The gradient's norm is clipped here.
    #[serde(default = "default_max_grad_norm")]
    pub max_grad_norm: f64,
    /// no, bf16 or fp16; fp16 scales the loss.
    #[serde(default)]
    pub mixed_precision: MixedPrecision,
    /// Keep an exponential moving average of what is learned, with this decay; it is what is shown and exported.
    #[serde(default)]
    pub ema_decay: Option<f64>,
    /// Keep only the inputs of the up path's blocks and compute the rest again in the backward pass: less memory, a
    /// slower step, the same gradient.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Lay UNet, VAE and preview decoder channels last, as a GPU's tensor cores want it in bf16 and f16; CPUs gain nothing.
    #[serde(default)]
    pub channels_last: bool,
    /// Let a GPU's f32 products run in TF32.
    #[serde(default)]
    pub allow_tf32: bool,
    /// Ask for kernels that give the same bits each time; on the CPU they do in any case.
    #[serde(default)]
    pub deterministic: bool,
    /// Steps with a gradient that is not finite, in a row, after which the run ends with an error.
    #[serde(default = "default_max_skipped")]
    pub max_skipped_steps: u64,
    /// Seeds every draw.
    #[serde(default)]
    pub seed: u64,
    /// auto, cpu or cuda.
    #[serde(default)]
    pub device: DeviceChoice,
    /// libtorch's threads per process; without it OMP_NUM_THREADS, or else the cores are shared among the processes of
    /// this machine.
    #[serde(default)]
    pub num_threads: Option<usize>,
    /// How long a collective may take before the rank that is missing is named.
    #[serde(default = "default_timeout")]
    pub timeout_secs: u64,
}

fn one() -> usize {
    1
}

fn default_lr_num_cycles() -> u64 {
    1
}

fn default_lr_power() -> f64 {
    1.0
}

fn default_lr_scheduler() -> LrScheduler {
    LrScheduler::Constant
}

fn default_max_grad_norm() -> f64 {
    1.0
}

fn default_max_skipped() -> u64 {
    10
}

fn default_timeout() -> u64 {
    90
}
