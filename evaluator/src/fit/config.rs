//! The recipe of a classifier as written.

use std::path::PathBuf;

use collective::DeviceChoice;
use dataloader::{Access, Filter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A whole recipe.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The labelled images.
    pub data: Data,
    /// How shards in object stores are reached and kept.
    #[serde(default)]
    pub store: Access,
    /// The CLIP that embeds, folder or hub id. Embeddings in the shards are used if they are this CLIP's.
    pub clip: String,
    /// Never fetch from the hub.
    #[serde(default)]
    pub offline: bool,
    /// Where to compute.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Whether embeddings are scaled to length 1 first.
    #[serde(default)]
    pub normalize: bool,
    /// Widths of the hidden layers; none for a linear classifier.
    #[serde(default = "hidden")]
    pub hidden: Vec<i64>,
    /// The training.
    #[serde(default)]
    pub train: Train,
    /// Seed of initial weights, order, dropout and the validation part.
    #[serde(default)]
    pub seed: u64,
    /// Where config.json, model.safetensors, metrics.json and README.md go.
    pub output_dir: PathBuf,
}

/// Which rows are trained on, which stop the training and set the temperature, and which test.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Folder or URL of shards.
    pub shards: String,
    /// The training rows; those without an emotion are left out everywhere.
    pub train: Filter,
    /// The validation rows.
    #[serde(default)]
    pub validation: Validation,
    /// The rows of the card's figures; nothing is chosen by them.
    pub test: Filter,
}

/// The rows that are not trained on.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Rows of their own; by default a part of the training rows.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// The part of the training rows that is held back, if there is no filter.
    #[serde(default = "fraction")]
    pub fraction: f64,
    /// An attribute that groups rows which must stay together, such as several drawings of one thing.
    #[serde(default)]
    pub group: Option<String>,
}

/// The training.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Train {
    /// AdamW's rate.
    pub learning_rate: f64,
    /// AdamW's decay.
    pub weight_decay: f64,
    /// Rows in a step.
    pub batch_size: usize,
    /// The most passes over the training rows.
    pub max_epochs: usize,
    /// After this many passes without a better validation loss, the training stops and the best weights are used.
    pub patience: usize,
    /// Share of hidden units dropped.
    pub dropout: f64,
    /// Share of each label that is spread over all classes.
    pub label_smoothing: f64,
    /// Whether every emotion has the same weight, however many images it has.
    pub balanced: bool,
}

impl Default for Validation {
    fn default() -> Self {
        Self { filter: None, fraction: fraction(), group: None }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            weight_decay: 1e-2,
            batch_size: 256,
            max_epochs: 200,
            patience: 10,
            dropout: 0.5,
            label_smoothing: 0.0,
            balanced: false,
        }
    }
}

impl Config {
    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        let train = &self.train;
        let share = |value: f64| (0.0..1.0).contains(&value);
        let above = |value: f64| value.is_finite() && value > 0.0;
        let rules = [
            ("data.validation.fraction", share(self.data.validation.fraction), "must be at least 0 and below 1"),
            ("hidden", self.hidden.iter().all(|&width| width > 0), "widths must be at least 1"),
            ("train.learning_rate", above(train.learning_rate), "must be above 0"),
            ("train.weight_decay", train.weight_decay >= 0.0, "must be at least 0"),
            ("train.batch_size", train.batch_size > 0, "must be at least 1"),
            ("train.max_epochs", train.max_epochs > 0, "must be at least 1"),
            ("train.patience", train.patience > 0, "must be at least 1"),
            ("train.dropout", share(train.dropout), "must be at least 0 and below 1"),
            ("train.label_smoothing", share(train.label_smoothing), "must be at least 0 and below 1"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, message)) => Err(Error::config(key, message)),
            None => Ok(()),
        }
    }
}

fn hidden() -> Vec<i64> {
    vec![256]
}

fn fraction() -> f64 {
    0.1
}
