//! The `train` section: steps, batches, rates, numerics.

use collective::{DeviceChoice, MixedPrecision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optim::lr::LrScheduler;
use crate::optim::optimizer::OptimizerSection;

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
    /// Images in a batch of one process, for each of the two streams.
    pub train_batch_size: usize,
    /// Images computed at once. A larger train_batch_size is cut into such pieces; that saves memory, and the weights
    /// are then the same, bit for bit, on one process and on several. By default the whole batch.
    #[serde(default)]
    pub micro_batch_size: Option<usize>,
    /// Batches per optimiser step.
    #[serde(default = "one")]
    pub gradient_accumulation_steps: usize,
    /// Optimiser steps.
    pub max_train_steps: u64,
    /// The learning rate of each group.
    pub learning_rate: LearningRates,
    /// constant, constant_with_warmup, linear, cosine, cosine_with_restarts or polynomial.
    #[serde(default = "default_lr_scheduler")]
    pub lr_scheduler: LrScheduler,
    /// Steps over which the rate rises.
    #[serde(default)]
    pub lr_warmup_steps: u64,
    /// The share of the rate that is left at the last step.
    #[serde(default)]
    pub lr_final_fraction: f64,
    /// The number of cosines in a run of cosine_with_restarts.
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
    /// Store UNet, VAE and preview decoder channels last, the format of a GPU's tensor cores in bf16 and f16; CPUs
    /// gain nothing.
    #[serde(default)]
    pub channels_last: bool,
    /// Let a GPU compute f32 products in TF32.
    #[serde(default)]
    pub allow_tf32: bool,
    /// Ask for kernels that give the same bits each time; on the CPU they always do.
    #[serde(default)]
    pub deterministic: bool,
    /// How many steps in a row may have a gradient that is not finite before the run ends with an error.
    #[serde(default = "default_max_skipped")]
    pub max_skipped_steps: u64,
    /// Seeds every random draw.
    #[serde(default)]
    pub seed: u64,
    /// auto, cpu or cuda.
    #[serde(default)]
    pub device: DeviceChoice,
    /// libtorch's threads per process; by default OMP_NUM_THREADS, or else the processes of this machine share its
    /// cores.
    #[serde(default)]
    pub num_threads: Option<usize>,
    /// How long a collective may take, in seconds, before the run ends and names the missing rank.
    #[serde(default = "default_timeout")]
    pub timeout_secs: u64,
    /// How much later than the first the last process may begin, in seconds, and be done with loading and downloading:
    /// nothing before the first step counts against timeout_secs.
    #[serde(default = "default_start_timeout")]
    pub start_timeout_secs: u64,
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

fn default_start_timeout() -> u64 {
    1800
}
