//! `evaluator fit-classifier`: trains an emotion classifier over CLIP's embeddings, calibrates it, and writes it with a
//! card that says how good it is.

pub mod card;
pub mod config;
pub mod samples;
pub mod training;

use std::path::Path;

use emotions::Emotion;
use hub::Hub;
use judge::classifier::clip_mlp::{self, ClipName};
use judge::embedder::Embedder;

use crate::error::{Error, Result};
use crate::evaluation::ranks::Ranks;
use crate::metrics::statistics::calibration::temperature;
use card::Card;
use config::Config;
use samples::Parts;
use training::Trained;

/// Trains as the recipe says and writes the classifier's folder; returns its card.
pub fn run(config: &Config, hub: &Hub) -> Result<Card> {
    config.check()?;
    let hub = hub.or_offline(config.offline);
    let device = Ranks::alone().device(config.device)?;
    let clip = Embedder::load(&hub.model(&config.clip)?, device)?;
    let parts = samples::read(config, &clip)?;
    tracing::info!(
        "{} rows to learn from, {} to stop by, {} to test on; embeddings {}",
        parts.train.len(),
        parts.validation.len(),
        parts.test.len(),
        if parts.stored { "from the shards" } else { "computed" },
    );
    let trained = training::train(config, &parts.train, &parts.validation)?;
    let logits = |rows: &samples::Samples| {
        training::forward(&trained.layers, &training::prepared(&rows.embeddings, config.normalize), |x| x)
    };
    let scored = [&parts.validation, &parts.test].map(|rows| (logits(rows), rows.labels.shallow_clone()));
    let temperature = temperature(&scored[0].0, &scored[0].1);
    let card = Card::new(config, &clip, &parts, &trained, temperature, &scored);
    write(config, &clip, &parts, &trained, &card)?;
    Ok(card)
}

/// Writes the folder, config.json last: a folder that has it is whole.
fn write(config: &Config, clip: &Embedder, parts: &Parts, trained: &Trained, card: &Card) -> Result<()> {
    let folder = &config.output_dir;
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |e| Error::io(path, e)
    };
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let described = folder.join("config.json");
    if described.exists() {
        std::fs::remove_file(&described).map_err(io(&described))?;
    }
    let weights = training::named(&trained.layers);
    diffusion::weights::write_file(&folder.join("model.safetensors"), &weights, None)?;
    let texts = [
        ("metrics.json", pretty(&card.json())),
        ("README.md", card.markdown()),
        ("config.json", pretty(&described_as(config, clip, parts, card))),
    ];
    for (name, text) in texts {
        let path = folder.join(name);
        durable::write(&path, text.as_bytes()).map_err(io(&path))?;
    }
    Ok(())
}

fn described_as(config: &Config, clip: &Embedder, parts: &Parts, card: &Card) -> clip_mlp::Config {
    let embedding = parts.train.embeddings.size()[1];
    let widths = [embedding].into_iter().chain(config.hidden.iter().copied()).chain([8]);
    clip_mlp::Config {
        architecture: "clip_mlp".into(),
        labels: Emotion::ALL.map(|emotion| emotion.name().to_string()).to_vec(),
        clip: ClipName { name: config.clip.clone(), hash: Some(clip.hash().into()) },
        normalize: config.normalize,
        head: widths.collect(),
        temperature: card.temperature,
        takes_part_in_losses: false,
    }
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}
