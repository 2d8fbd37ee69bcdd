//! The plan of a run, checked without loading a network: for `--dry-run`, and before processes are started.

use diffusion::process::ddim::InversionSchedule;
use diffusion::text::tokenizer::Tokenizer;
use hub::Hub;
use recipe::secrets::masked;

use crate::checkpoint::resume::{self, Frozen, Resume};
use crate::config::resolved::Resolved;
use crate::config::threshold::Threshold;
use crate::data::step_schedule::edited_timestep_indices;
use crate::data::trajectories::Trajectories;
use crate::data::Data;
use crate::estimate::cost::Cost;
use crate::estimate::units::{bytes, flop};
use crate::estimate::SUMMED_BYTES;
use crate::failure::{input, refuse};
use crate::run::models::{Folders, Models};
use crate::step::state::State;
use crate::validation::metrics::ValidationMetrics;

/// A checked recipe, with its models' folders and the plan in words.
pub struct Plan {
    /// Where each model lies.
    pub folders: Folders,
    /// What a step costs.
    pub cost: Cost,
    /// For people, one item for each line.
    pub lines: Vec<String>,
}

/// Checks everything that can be wrong before the first step: models, data, thresholds, the checkpoint, the output.
/// The networks are loaded as in a run, but from the headers of their weights alone.
pub fn check(recipe: &Resolved, hub: &Hub, resume: &Resume, num_processes: usize) -> anyhow::Result<Plan> {
    let folders = Folders::find(recipe, hub)?;
    let models = Models::check(recipe, &folders)?;
    check_prompts(recipe, &models.pipeline.tokenizer)?;
    if recipe.config.validation.validation_steps > 0 {
        ValidationMetrics::load(&recipe.config, &folders, &models)?;
    }
    let hashes = &models.pipeline.hashes;
    let data = Data::open(recipe, &hashes.vae)?;
    if let Some(clip) = models.clip.as_ref().filter(|_| recipe.needs_prototype() || recipe.needs_alignment()) {
        data.check_clip(&clip.hash)?;
    }
    let schedule = &models.pipeline.schedule;
    let inversion_schedule = InversionSchedule::new(schedule, recipe.config.edit.num_inversion_steps);
    check_interval(recipe, &inversion_schedule)?;
    let trajectories = Trajectories::open(recipe, hashes, schedule, &inversion_schedule, data.source_set.manifest())?;
    if let Some(path) = recipe.config.validation.lpips.as_ref().filter(|path| !path.is_file()) {
        return Err(refuse(format!("validation.lpips: {}: no such file", path.display())));
    }
    let begun = resume::preview(resume, recipe, &Frozen::of(&models))?;
    let cost = input(Cost::of(recipe, &folders, data.resolution()))?;
    let mut lines = lines(recipe, &data, &trajectories, &cost, num_processes)?;
    lines.push(match begun {
        Some((folder, snapshot)) => {
            let (fresh, _) = State::fresh(recipe, &models, num_processes)?;
            let (written, planned) = (fresh.check_fit(&folder, &snapshot)?.global_batch, fresh.counters.global_batch);
            let note = match written == planned {
                true => String::new(),
                // How many nodes there will be, a plan does not know: the run itself refuses another batch.
                false => format!(
                    ", written with a global batch of {written} images, not {planned}: the processes must make it"
                ),
            };
            format!("begins         at {}{note}", folder.display())
        }
        None => "begins         at step 0".into(),
    });
    Ok(Plan { folders, cost, lines })
}

/// Learned vectors that do not fit into a long prompt would silently go unused.
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

fn check_interval(recipe: &Resolved, inversion_schedule: &InversionSchedule) -> anyhow::Result<()> {
    match recipe.config.edit.t_edit {
        Threshold::At(t)
            if recipe.needs_sources() && edited_timestep_indices(inversion_schedule.timesteps(), t).is_empty() =>
        {
            let last = inversion_schedule.timesteps().last().copied().unwrap_or(0);
            Err(refuse(format!("edit.t_edit: {t} is above the last timestep {last}: nothing would be edited")))
        }
        _ => Ok(()),
    }
}

fn lines(
    recipe: &Resolved, data: &Data, trajectories: &Trajectories, cost: &Cost, num_processes: usize,
) -> anyhow::Result<Vec<String>> {
    let config = &recipe.config;
    let size = config.train.mixed_precision.kind().elt_size_in_bytes();
    let most = data.sources.iter().map(|s| s.rows()).max_by_key(Vec::len).unwrap_or_default();
    let ready = trajectories.count_made(most.iter().map(|(_, row)| row.image_id.as_str()));
    let inversions = (most.len() - ready) as u64 * trajectories.bytes_each();
    let memory = cost.memory(size, recipe.micro_batch_size());
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
        format!("parameters     {} trained, {} frozen", cost.trained, cost.frozen),
        format!("work           {} a step and process", flop(cost.flop(recipe.global_batch(1)))),
        format!("all-reduced    {} a step", bytes(cost.trained * SUMMED_BYTES)),
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
        lines.push(format!("inversions     {ready} of {} sources in {}", most.len(), masked(url)));
    }
    lines.push(format!("inversions     {} in {}", bytes(inversions), config.data.sources.trajectories.display()));
    lines.push(format!(
        "checkpoint     {} each, {} kept",
        bytes(cost.trained * 12),
        config.checkpoint.checkpoints_total_limit
    ));
    lines.push(format!(
        "memory         about {} a process (weights {}, the rest activations; an estimate)",
        bytes(memory),
        bytes(cost.frozen * size as u64)
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
