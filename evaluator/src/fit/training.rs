//! The training of the perceptron: AdamW (Loshchilov & Hutter 2019) on cross-entropy with label smoothing, stopped at
//! the least validation loss. Every draw is a function of (seed, stream, position).
//!
//! Inputs are standardised by the training rows' statistics. At the end this is folded into the first layer, so that
//! the weights take embeddings as they are. Shapes: b batch, e embedding.

use judge::classifier::head::LAYER_STRIDE;
use judge::embedder::unit;
use program::Progress;
use rand::seq::SliceRandom;
use rand::Rng;
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor};

use super::config::{Config, Train};
use super::samples::Samples;
use crate::error::Result;
use crate::metrics::statistics::calibration::negative_log_likelihood;

/// Classes.
const CLASSES: i64 = 8;
/// Keeps a constant feature from a division by zero.
const SMALLEST_DEVIATION: f64 = 1e-6;

/// The result of a training.
#[derive(Debug)]
pub struct Trained {
    /// Weight (out, in) and bias (out) of every layer, for embeddings as they are.
    pub layers: Vec<(Tensor, Tensor)>,
    /// How many passes were made.
    pub epochs: usize,
    /// The pass whose weights are kept, counted from 1.
    pub best_epoch: usize,
}

struct Perceptron {
    store: nn::VarStore,
    layers: Vec<(Tensor, Tensor)>,
}

/// Trains; the same recipe on the same rows gives the same weights.
pub fn train(config: &Config, train: &Samples, validation: &Samples) -> Result<Trained> {
    let inputs = prepared(&train.embeddings, config.normalize);
    let mean = inputs.mean_dim(0, true, Kind::Float);
    let deviation = inputs.std_dim(0, true, true).clamp_min(SMALLEST_DEVIATION);
    let standardised = |x: &Tensor| (x - &mean) / &deviation;
    let train = Samples { embeddings: standardised(&inputs), labels: train.labels.shallow_clone() };
    let held_back = standardised(&prepared(&validation.embeddings, config.normalize));

    let perceptron = Perceptron::new(config, inputs.size()[1]);
    let weights = class_weights(&train.labels, config.train.balanced);
    let mut optimizer = nn::AdamW { wd: config.train.weight_decay, ..nn::AdamW::default() }
        .build(&perceptron.store, config.train.learning_rate)?;
    let (mut least, mut best, mut best_epoch, mut epochs) = (f64::INFINITY, perceptron.copy(), 0, 0);
    let progress = Progress::new("fitting", "epochs", config.train.max_epochs as u64, true);
    while epochs < config.train.max_epochs && epochs - best_epoch < config.train.patience {
        epochs += 1;
        perceptron.epoch(&mut optimizer, config, &train, &weights, epochs as u64);
        let logits = tch::no_grad(|| forward(&perceptron.layers, &held_back, |x| x));
        let loss = negative_log_likelihood(&logits, &validation.labels);
        progress.inc(1);
        progress.say(format!("validation loss {loss:.4}"));
        if loss < least {
            (least, best, best_epoch) = (loss, perceptron.copy(), epochs);
        }
    }
    fold(&mut best[0], &mean, &deviation);
    Ok(Trained { layers: best, epochs, best_epoch })
}

/// Embeddings as input of the first layer.
pub fn prepared(embeddings: &Tensor, normalize: bool) -> Tensor {
    match normalize {
        true => unit(embeddings),
        false => embeddings.shallow_clone(),
    }
}

/// (b, e) → (b, 8); `dropped` is applied to every hidden layer's output.
pub fn forward(layers: &[(Tensor, Tensor)], inputs: &Tensor, mut dropped: impl FnMut(Tensor) -> Tensor) -> Tensor {
    let mut x = inputs.shallow_clone();
    for (place, (weight, bias)) in layers.iter().enumerate() {
        x = if place == 0 { x } else { dropped(x.relu()) };
        x = x.linear(weight, Some(bias));
    }
    x
}

/// The tensors' names in model.safetensors: `head.{0,3,6,…}`.
pub fn named(layers: &[(Tensor, Tensor)]) -> Vec<(String, Tensor)> {
    let names = |(k, (weight, bias)): (usize, &(Tensor, Tensor))| {
        let place = LAYER_STRIDE * k;
        [(format!("head.{place}.weight"), weight.copy()), (format!("head.{place}.bias"), bias.copy())]
    };
    layers.iter().enumerate().flat_map(names).collect()
}

impl Perceptron {
    /// Weights and biases uniform in ±1/√inputs, as PyTorch initialises Linear.
    fn new(config: &Config, embedding: i64) -> Self {
        let store = nn::VarStore::new(Device::Cpu);
        let widths: Vec<i64> = [embedding].into_iter().chain(config.hidden.iter().copied()).chain([CLASSES]).collect();
        let layer = |(k, pair): (usize, &[i64])| {
            let bound = 1.0 / (pair[0] as f64).sqrt();
            let draw = |name: &str, shape: &[i64]| {
                let mut generator = diffusion::noise::generator(config.seed, &format!("{name} {k}"), 0);
                let count = shape.iter().product::<i64>() as usize;
                let values: Vec<f32> = (0..count).map(|_| generator.random_range(-bound..bound) as f32).collect();
                store.root().var_copy(&format!("{name}{k}"), &Tensor::from_slice(&values).view(shape))
            };
            (draw("weight", &[pair[1], pair[0]]), draw("bias", &[pair[1]]))
        };
        let layers = widths.windows(2).enumerate().map(layer).collect();
        Self { store, layers }
    }

    fn copy(&self) -> Vec<(Tensor, Tensor)> {
        self.layers.iter().map(|(weight, bias)| (weight.detach().copy(), bias.detach().copy())).collect()
    }

    /// One pass over the rows in a random order.
    fn epoch(&self, optimizer: &mut nn::Optimizer, config: &Config, rows: &Samples, weights: &Tensor, epoch: u64) {
        let mut order: Vec<i64> = (0..rows.len() as i64).collect();
        order.shuffle(&mut diffusion::noise::generator(config.seed, "order", epoch));
        let mut masks = diffusion::noise::generator(config.seed, "dropout", epoch);
        for places in order.chunks(config.train.batch_size) {
            let batch = rows.at(places);
            let dropped = |x: Tensor| dropout(x, &config.train, &mut masks);
            let logits = forward(&self.layers, &batch.embeddings, dropped);
            let smoothing = config.train.label_smoothing;
            let loss = logits.cross_entropy_loss(&batch.labels, Some(weights), Reduction::Mean, -100, smoothing);
            optimizer.backward_step(&loss);
        }
    }
}

/// Dropout (Srivastava et al. 2014), scaled so that the expectation stays.
fn dropout(x: Tensor, train: &Train, masks: &mut impl Rng) -> Tensor {
    if train.dropout == 0.0 {
        return x;
    }
    let keep = 1.0 - train.dropout;
    let draw = |_| if masks.random_bool(keep) { (1.0 / keep) as f32 } else { 0.0 };
    let mask: Vec<f32> = (0..x.numel()).map(draw).collect();
    &x * Tensor::from_slice(&mask).view_as(&x)
}

/// One weight for each class: 1, or such that all classes that occur count the same.
fn class_weights(labels: &Tensor, balanced: bool) -> Tensor {
    let counts = labels.bincount(None::<Tensor>, CLASSES).to_kind(Kind::Float);
    if !balanced {
        return counts.ones_like();
    }
    let present = counts.gt(0.0).sum(Kind::Float);
    (labels.numel() as f64 / present / counts.clamp_min(1.0)) * counts.gt(0.0).to_kind(Kind::Float)
}

/// Changes a layer that was trained on (x − mean) / deviation so that it takes x.
fn fold((weight, bias): &mut (Tensor, Tensor), mean: &Tensor, deviation: &Tensor) {
    *weight = &*weight / deviation;
    *bias = &*bias - weight.matmul(&mean.transpose(0, 1)).squeeze_dim(1);
}
