//! Metrics, baselines and the nightly report.
//!
//! From the outside in: [`cli`] takes the arguments, [`config`] is the recipe as written, [`plan`] checks it,
//! [`evaluate`] edits and scores in batches ([`methods`], [`observe`], [`metrics`]) that the [`ranks`] share, [`rows`]
//! and [`summary`] make means and intervals of the [`scores`] and the [`sets`], [`report`] renders them, [`gates`] decide the exit code.
//! What is finished lies in [`parts`] until then, and what earlier nights found in the [`history`].
//! [`fit`] trains classifiers of its own.

pub mod baselines;
pub mod batch;
mod before;
pub mod cli;
pub mod comparisons;
pub mod config;
pub mod contest;
pub mod costs;
pub mod equal_lpips;
pub mod error;
pub mod evaluate;
pub mod failures;
pub mod fit;
mod found;
pub mod gallery;
pub mod gates;
pub mod history;
mod jobs;
pub mod judgements;
pub mod made;
pub mod methods;
pub mod metrics;
pub mod observe;
pub mod parts;
pub mod plan;
pub mod provenance;
pub mod published;
pub mod ranks;
pub mod report;
pub mod rows;
pub mod scores;
pub mod sets;
pub mod sources;
pub mod style;
pub mod summary;
pub mod sweep;
pub mod truth;

pub use error::{Error, Result};
