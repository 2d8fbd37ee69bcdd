//! What a run writes while it goes on: metrics.jsonl, TensorBoard, Prometheus.

pub mod events;
pub mod hparams;
pub mod metrics;
pub mod prometheus;
pub mod recorder;
