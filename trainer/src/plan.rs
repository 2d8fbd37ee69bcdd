//! What a run would do, checked without loading a network: `--dry-run`, and before processes are started.

use std::path::Path;

use diffusion::hub::Hub;
use diffusion::images::ClipPreprocess;
use diffusion::networks::unet;
use diffusion::pipeline::{part, Hashes, DIFFUSERS_STEM, TRANSFORMERS_STEM};
use diffusion::process::ddim::Ladder;
use diffusion::process::schedule::Schedule;
use diffusion::text::tokenizer::Tokenizer;
use diffusion::weights;

use crate::checkpoint;
use crate::data::Data;
use crate::failure::{input, refuse};
use crate::models::Folders;
use crate::resolved::Resolved;
use crate::resume::Resume;
use crate::threshold::Threshold;
use crate::trajectories::Trajectories;
use crate::visits::edited_rungs;
use crate::weights_header::num_parameters;

/// A checked recipe: where its models lie, and the plan in words.
pub struct Plan {
    /// Where each model lies.
    pub folders: Folders,
    /// For people, a line each.
    pub lines: Vec<String>,
}

/// Numbers that the plan is made of.
struct Sizes {
    frozen: u64,
    trained: u64,
    activations: u64, // numbers an image keeps in the UNet
    decoder_numbers_a_pixel: u64,
}

/// Checks everything that can be wrong before a step is made: models, data, thresholds, the checkpoint.
pub fn check(recipe: &Resolved, hub: &Hub, resume: &Resume, num_processes: usize) -> anyhow::Result<Plan> {
    let folders = Folders::find(recipe, hub)?;
    let sizes = input(check_models(recipe, &folders))?;
    let hashes = input(Hashes::of(&folders.base))?;
    let data = Data::open(recipe, &hashes.vae)?;
    if let Some(folder) = folders.clip.as_ref().filter(|_| recipe.needs_prototype() || recipe.needs_alignment()) {
        data.check_clip(&input(weights::hash(folder, TRANSFORMERS_STEM))?)?;
    }
    let schedule = input(Schedule::read(&input(part(&folders.base, "scheduler"))?))?;
    let ladder = Ladder::new(&schedule, recipe.config.edit.num_inversion_steps);
    check_interval(recipe, &ladder)?;
    let trajectories = Trajectories::open(recipe, &hashes, &schedule, &ladder, data.source_set.manifest())?;
    if let Some(path) = recipe.config.validation.lpips.as_ref().filter(|path| !path.is_file()) {
        return Err(refuse(format!("validation.lpips: {}: no such file", path.display())));
    }
    if let Resume::From(folder) = resume {
        input(checkpoint::verify(folder))?;
    }
    let lines = lines(recipe, &data, &trajectories, &sizes, num_processes)?;
    Ok(Plan { folders, lines })
}

fn check_models(recipe: &Resolved, folders: &Folders) -> anyhow::Result<Sizes> {
    let base = &folders.base;
    let unet = unet::Config::read(&part(base, "unet")?)?;
    let tokenizer = Tokenizer::load(&part(base, "tokenizer")?)?;
    check_prompts(recipe, &tokenizer)?;
    let mut frozen =
        num_parameters(&part(base, "unet")?, DIFFUSERS_STEM)? + num_parameters(&part(base, "vae")?, DIFFUSERS_STEM)?;
    let text = part(base, "text_encoder")?;
    frozen += num_parameters(&text, TRANSFORMERS_STEM)?;
    if let Some(clip) = &folders.clip {
        frozen += num_parameters(clip, TRANSFORMERS_STEM)?;
        Tokenizer::load(clip)?;
        ClipPreprocess::read(clip)?;
    }
    let decoder = folders.preview_decoder.clone().unwrap_or(part(base, "vae")?);
    if let Some(folder) = &folders.preview_decoder {
        frozen += num_parameters(folder, DIFFUSERS_STEM)?;
    }
    let features = weights::read_json(&text.join("config.json"))?["hidden_size"].as_u64().unwrap_or(0);
    let trained = trained(recipe, &unet, features);
    let activations = unet_activations(&unet, recipe);
    Ok(Sizes { frozen, trained, activations, decoder_numbers_a_pixel: decoder_activations(&decoder, recipe)? })
}

/// Learned vectors that a long prompt pushes over its end would silently go unused.
fn check_prompts(recipe: &Resolved, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    let Some(tokens) = recipe.config.tokens.on() else { return Ok(()) };
    for (prompts, placeholder) in recipe.prompts.iter().zip(&recipe.placeholders) {
        for prompt in prompts {
            let words = tokenizer.words(&prompt.replace(placeholder.as_str(), " ")).len();
            let length = words + tokens.num_vectors * prompt.matches(placeholder.as_str()).count() + 2;
            if length > tokenizer.max_length() {
                let most = tokenizer.max_length();
                return Err(refuse(format!("prompts: \"{prompt}\" with {} vectors takes {length} tokens, the text encoder has {most}; shorten it",
                    tokens.num_vectors
                )));
            }
        }
    }
    Ok(())
}

fn check_interval(recipe: &Resolved, ladder: &Ladder) -> anyhow::Result<()> {
    match recipe.config.edit.t_edit {
        Threshold::At(t) if recipe.needs_sources() && edited_rungs(ladder.timesteps(), t).is_empty() => {
            let last = ladder.timesteps().last().copied().unwrap_or(0);
            Err(refuse(format!("edit.t_edit: {t} is above the last timestep {last}: nothing would be edited")))
        }
        _ => Ok(()),
    }
}

fn trained(recipe: &Resolved, unet: &unet::Config, features: u64) -> u64 {
    let emotions = recipe.names.len() as u64;
    let tokens = recipe.config.tokens.on().map_or(0, |t| emotions * t.num_vectors as u64 * features);
    let (c, e) = (unet.deepest().channels as u64, unet.temb_channels() as u64);
    let delta = recipe.config.delta.on().map_or(0, |section| {
        let one = 2 * (c * c + c) + c * e + c + 2 * c;
        if section.condition_on_token {
            one + 2 * c * (features + 1)
        } else {
            one * emotions
        }
    });
    tokens + delta
}

/// Numbers kept for the backward pass through one image's up path, and through the whole UNet of the denoising term:
/// about 10 a residual block and 16 a transformer block, times channels and positions.
fn unet_activations(unet: &unet::Config, recipe: &Resolved) -> u64 {
    let side = unet.sample_size.map_or(64, |[h, _]| h) as u64;
    let up: u64 = unet
        .levels
        .iter()
        .enumerate()
        .map(|(k, level)| (level.layers as u64 + 1) * level.channels as u64 * ((side * side) >> (2 * k)) * 26)
        .sum();
    let edit = if recipe.needs_sources() { up } else { 0 };
    let denoise = if recipe.needs_denoising() { up * 5 / 3 } else { 0 };
    edit + denoise
}

fn decoder_activations(folder: &Path, recipe: &Resolved) -> anyhow::Result<u64> {
    if recipe.config.loss.clip == 0.0 {
        return Ok(0);
    }
    let config = weights::read_json(&folder.join("config.json"))?;
    let tiny = config["_class_name"] == "AutoencoderTiny";
    let channels = config["block_out_channels"][0].as_u64().unwrap_or(128);
    // The widest level is the photo's own size: three residual blocks of a KL decoder, thin convolutions of a tiny one.
    let numbers_a_pixel = if tiny { 64 * 6 } else { channels * 60 };
    Ok(numbers_a_pixel)
}

fn lines(
    recipe: &Resolved, data: &Data, trajectories: &Trajectories, sizes: &Sizes, num_processes: usize,
) -> anyhow::Result<Vec<String>> {
    let config = &recipe.config;
    let each = config.train.mixed_precision.kind().elt_size_in_bytes() as u64;
    let pixels = u64::from(data.resolution()).pow(2);
    let manifest = data.source_set.manifest();
    let most = data.sources.iter().map(|s| s.rows()).max_by_key(Vec::len).unwrap_or_default();
    let ready = trajectories.count_in_shards(most.iter().map(|(_, row)| row.image_id.as_str()));
    let inversions =
        (most.len() - ready) as u64 * config.edit.num_inversion_steps as u64 * manifest.latent.len() as u64 * 8;
    let per_image = (sizes.activations + sizes.decoder_numbers_a_pixel * pixels) * each;
    let memory = sizes.frozen * each + sizes.trained * 16 + per_image * recipe.micro_batch_size() as u64;
    let mut lines = vec![
        format!("emotions       {}", recipe.names.join(", ")),
        format!("learned        {}", learned(recipe)),
        format!(
            "steps          {} of {} images ({} a process × {} accumulated × {num_processes} processes)",
            config.train.max_train_steps,
            recipe.global_batch(num_processes),
            config.train.train_batch_size,
            config.train.gradient_accumulation_steps
        ),
        format!("parameters     {} trained, {} frozen", sizes.trained, sizes.frozen),
        format!("all-reduced    {} a step", bytes(sizes.trained * 4)),
    ];
    for (k, name) in recipe.names.iter().enumerate() {
        let images = data.images.get(k).map_or(0, |stream| stream.rows().len());
        lines.push(format!(
            "data           {name}: {} sources, {images} emotion images, {} px",
            data.sources[k].rows().len(),
            data.resolution()
        ));
    }
    if let Some(url) = &config.data.sources.inversions {
        lines.push(format!("inversions     {ready} of {} sources in {url}", most.len()));
    }
    lines.push(format!("inversions     {} in {}", bytes(inversions), config.data.sources.trajectories.display()));
    lines.push(format!(
        "checkpoint     {} each, {} kept",
        bytes(sizes.trained * 12),
        config.checkpoint.checkpoints_total_limit
    ));
    lines.push(format!(
        "memory         about {} a process (weights {}, the rest activations; an estimate)",
        bytes(memory),
        bytes(sizes.frozen * each)
    ));
    lines.push(format!("output         {}", config.output_dir.display()));
    Ok(lines)
}

fn learned(recipe: &Resolved) -> String {
    let tokens = recipe.config.tokens.on().map(|t| format!("{} vectors an emotion", t.num_vectors));
    let delta = recipe
        .config
        .delta
        .on()
        .map(|d| if d.condition_on_token { "one Δh for all, conditioned" } else { "a Δh an emotion" }.to_string());
    tokens.into_iter().chain(delta).collect::<Vec<_>>().join(" + ")
}

fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, "B");
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    format!("{value:.1} {unit}")
}
