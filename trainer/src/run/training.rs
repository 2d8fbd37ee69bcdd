//! The run: set-up, training, export.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use collective::{FolderLock, LockError};
use diffusion::process::ddim::InversionSchedule;
use program::Progress;

use crate::checkpoint::resume::{self, Frozen, Resume};
use crate::config::resolved::Resolved;
use crate::config::TrajectoryKind;
use crate::data::references::References;
use crate::data::step_schedule::{edited_timestep_indices, StepSchedule};
use crate::data::trajectories::Trajectories;
use crate::data::{Data, Loader};
use crate::estimate::plan::Plan;
use crate::failure::refuse;
use crate::logging::recorder::Recorder;
use crate::objective::Objective;
use crate::optim::lr::LrSchedule;
use crate::precompute::inversions;
use crate::precompute::thresholds;
use crate::run::context::RunContext;
use crate::run::export;
use crate::run::models::{Folders, Models};
use crate::run::output_folder;
use crate::run::signals::Stop;
use crate::run::world::World;
use crate::step::state::{group_names, State};
pub use crate::step::steps::Ending;
use crate::step::steps::Steps;
use crate::validation::samples::Samples;

/// Trains `recipe` on this rank, from where `resume` says to the end or to a signal.
pub fn train(
    recipe: &Arc<Resolved>, plan: &Plan, resume: &Resume, world: &World, stop: &Stop,
) -> anyhow::Result<Ending> {
    // Only the first rank writes there; the others' machines may not have the folder.
    let _lock = world.on_first(|| {
        output_folder::check(recipe, &plan.cost)?;
        lock(&recipe.config.output_dir)
    })?;
    let reading = Progress::unbounded("reading the models", world.is_first());
    let models = &Models::load(recipe, &plan.folders, world.device)?;
    drop(reading);
    let data = Arc::new(Data::open(recipe, &models.pipeline.hashes.vae)?);
    let inversion_schedule = &InversionSchedule::new(&models.pipeline.schedule, recipe.config.edit.num_inversion_steps);
    let pipeline = &models.pipeline;
    let trajectories = &Trajectories::open(
        recipe,
        &pipeline.hashes,
        &pipeline.schedule,
        inversion_schedule,
        data.source_set.manifest(),
    )?;
    world.meet()?; // models and data have taken each rank its own time
    let run = RunContext { recipe, models, inversion_schedule, data: &data, trajectories, world, stop };
    let mut state = begin(&run, resume)?;
    let mut recorder = Recorder::open(recipe, state.counters.step, world)?;
    thresholds::set(&run, &mut state)?;
    let step_schedule = step_schedule(&run, &state)?;
    let samples = prepare_sources(&run, &plan.folders, &step_schedule)?;
    let objective = Objective::new(recipe, models, inversion_schedule, &data, state.learned.tokens.as_ref())?;
    announce(&run, &objective, &state);
    let loader = Loader {
        step_schedule,
        recipe: recipe.clone(),
        data: data.clone(),
        trajectories: trajectories.clone(),
        references: References::open(recipe, models, trajectories, inversion_schedule.timesteps())?,
        scaling_factor: models.pipeline.vae.scaling_factor(),
        num_train_timesteps: models.pipeline.schedule.num_train_timesteps(),
        rank: (world.rank, world.size),
    };
    if let Some(references) = &loader.references {
        let places = loader.places(state.counters.step, recipe.config.train.max_train_steps);
        crate::precompute::references::fill(&run, references, &places)?;
    }
    let flop = plan.cost.flop(recipe.global_batch(1));
    let steps = Steps { run, objective: &objective, samples, rates: rates(recipe), flop };
    let ending = steps.run(loader, &mut state, &mut recorder)?;
    if ending == Ending::Done && world.is_first() {
        state.averaged(|state| export::write(recipe, models, state, data.resolution()))?;
        tracing::info!("done: {} steps; results in {}", state.counters.step, recipe.config.output_dir.display());
    }
    // No rank leaves while another still needs it.
    world.barrier()?;
    Ok(ending)
}

/// Keeps other runs out of the output folder.
fn lock(output_dir: &Path) -> anyhow::Result<FolderLock> {
    FolderLock::take(output_dir, "trainer").map_err(|error| match error {
        held @ LockError::Held { .. } => refuse(format!("output_dir: {held}")),
        error => anyhow::Error::from(error).context("output_dir"),
    })
}

/// The state to go on from, the same on every rank.
fn begin(run: &RunContext<'_>, resume: &Resume) -> anyhow::Result<State> {
    let (recipe, world) = (run.recipe, run.world);
    let (mut state, warnings) = State::fresh(recipe, run.models, world.size)?;
    let find = || resume::find(resume, recipe, &Frozen::of(run.models));
    let found = world.on_first(find)?.flatten();
    state.restore(found, world)?;
    if world.is_first() {
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        resume::clear_later(&recipe.config.output_dir, state.counters.step)?;
    }
    Ok(state)
}

/// Inverts what the run will edit, held-out images included.
fn prepare_sources(
    run: &RunContext<'_>, folders: &Folders, step_schedule: &StepSchedule,
) -> anyhow::Result<Option<Samples>> {
    let (recipe, data) = (run.recipe, run.data);
    let samples = Samples::choose(run, folders)?;
    let mut rows = Vec::new();
    if recipe.needs_sources() {
        let batch = recipe.global_batch(run.world.size) as u64;
        for (k, sources) in data.sources.iter().enumerate() {
            rows.extend(sources.visited(batch * step_schedule.source_batches(k, recipe.config.train.max_train_steps)));
        }
    }
    if let Some(samples) = &samples {
        rows.extend(samples.rows());
    }
    inversions::fill(run, &rows)?;
    samples.map(|samples| samples.with_inversions(run)).transpose()
}

fn step_schedule(run: &RunContext<'_>, state: &State) -> anyhow::Result<StepSchedule> {
    let (recipe, t_edit) = (run.recipe, state.counters.t_edit);
    let timestep_indices = edited_timestep_indices(run.inversion_schedule.timesteps(), t_edit);
    if timestep_indices.is_empty() && recipe.needs_sources() {
        let last = run.inversion_schedule.timesteps().last().context("an inversion schedule has timesteps")?;
        return Err(refuse(format!(
            "edit.t_edit: {t_edit} is above the last timestep {last}: nothing would be edited"
        )));
    }
    // Without edited sources there is no descent to follow.
    let kind = if recipe.needs_sources() { recipe.config.edit.trajectory } else { TrajectoryKind::Source };
    Ok(StepSchedule { kind, timestep_indices, num_emotions: recipe.names.len() as u64 })
}

fn rates(recipe: &Resolved) -> LrSchedule {
    let train = &recipe.config.train;
    LrSchedule {
        kind: train.lr_scheduler,
        warmup_steps: train.lr_warmup_steps,
        max_train_steps: train.max_train_steps,
        final_fraction: train.lr_final_fraction,
        num_cycles: train.lr_num_cycles,
        power: train.lr_power,
    }
}

fn announce(run: &RunContext<'_>, objective: &Objective<'_>, state: &State) {
    let (recipe, world) = (run.recipe, run.world);
    if !world.is_first() {
        return;
    }
    for (direction, name) in objective.directions().zip(&recipe.names) {
        if let Some(cosine) = direction.agreement() {
            tracing::info!("{name}: cos(text direction, prototype direction) {cosine:.3}");
        }
    }
    tracing::info!(
        "training {} parameters ({}) on {:?} with {} processes, global batch {}, t_edit {}, t_boost {}, {:?}",
        state.optimizer.num_parameters(),
        group_names(&state.learned).join(" + "),
        world.device,
        world.size,
        state.counters.global_batch,
        state.counters.t_edit,
        state.counters.t_boost,
        recipe.config.train.optimizer.rule
    );
}
