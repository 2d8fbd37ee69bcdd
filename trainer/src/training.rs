//! The run: set up, step after step, and what is left behind.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use diffusion::process::ddim::Ladder;
use tch::{Kind, Tensor};

use crate::checkpoint;
use crate::config::TrajectoryKind;
use crate::data::{Data, Loader, StepBatch};
use crate::export;
use crate::failure::refuse;
use crate::lr::LrSchedule;
use crate::measured;
use crate::models::{Folders, Models};
use crate::objective::{Objective, TERMS};
use crate::optimizer::clip_norm;
use crate::progress::Progress;
use crate::recorder::{Recorder, StepRecord};
use crate::resolved::Resolved;
use crate::resume::{self, Resume};
use crate::samples::Samples;
use crate::signals::Stop;
use crate::state::{group_names, State};
use crate::trajectories::Trajectories;
use crate::visits::{edited_rungs, Visits};
use crate::world::{flatten, split, World};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done and the results are written.
    Done,
    /// A signal came; the state is in a checkpoint.
    Stopped,
}

/// What stays the same through the steps.
struct Run<'a> {
    recipe: &'a Resolved,
    world: &'a World,
    objective: &'a Objective<'a>,
    samples: Option<Samples>,
    rates: LrSchedule,
}

/// Trains `recipe` on this rank, from where `resume` says, to the end or to a signal.
pub fn train(
    recipe: &Arc<Resolved>, folders: &Folders, resume: &Resume, world: &World, stop: &Stop,
) -> anyhow::Result<Ending> {
    let models = Models::load(recipe, folders, world.device)?;
    let data = Arc::new(Data::open(recipe, &models.pipeline.hashes.vae)?);
    let ladder = Ladder::new(&models.pipeline.schedule, recipe.config.edit.num_inversion_steps);
    let (mut state, warnings) = State::fresh(recipe, &models, world)?;
    let snapshot = if world.is_first() { resume::find(resume, recipe)? } else { None };
    state.restore(snapshot.as_ref().map(|(path, _)| path.clone()).as_deref().zip(snapshot.map(|(_, s)| s)), world)?;
    if world.is_first() {
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        resume::clear_later(&recipe.config.output_dir, state.counters.step)?;
    }
    let trajectories = Trajectories::new(recipe, &models, &ladder, &data.source_set);
    let mut recorder = Recorder::open(recipe, state.counters.step, world)?;
    let samples = prepare_sources(recipe, &models, &ladder, &data, &trajectories, world, stop)?;
    measured::thresholds(recipe, &models, &ladder, &data, &trajectories, &mut state, world)?;
    let objective = Objective::new(recipe, &models, &ladder, &data, state.learned.tokens.as_ref())?;
    announce(recipe, &objective, &state, world);
    let loader = Loader {
        visits: visits(recipe, &ladder, &state)?,
        recipe: recipe.clone(),
        data: data.clone(),
        trajectories,
        scaling_factor: models.pipeline.vae.scaling_factor(),
        num_train_timesteps: models.pipeline.schedule.num_train_timesteps(),
        rank: (world.rank, world.size),
    };
    let train = &recipe.config.train;
    let rates = LrSchedule {
        kind: train.lr_scheduler,
        warmup_steps: train.lr_warmup_steps,
        max_train_steps: train.max_train_steps,
        final_fraction: train.lr_final_fraction,
    };
    let run = Run { recipe, world, objective: &objective, samples, rates };
    let ending = run.steps(loader, &models, &ladder, &mut state, &mut recorder, stop)?;
    if ending == Ending::Done && world.is_first() {
        export::write(recipe, &models, &state, data.resolution())?;
        tracing::info!("done: {} steps; results in {}", state.counters.step, recipe.config.output_dir.display());
    }
    // No rank leaves while another still needs it.
    world.barrier()?;
    Ok(ending)
}

/// Inverts what the run will edit, held-out images included.
fn prepare_sources(
    recipe: &Resolved, models: &Models, ladder: &Ladder, data: &Data, trajectories: &Trajectories, world: &World,
    stop: &Stop,
) -> anyhow::Result<Option<Samples>> {
    let samples = Samples::choose(recipe, models, data, world)?;
    let mut sources = Vec::new();
    if recipe.needs_sources() {
        sources.extend(data.sources.iter().flat_map(|s| s.rows()));
    }
    if let Some(samples) = &samples {
        sources.extend(samples.rows());
    }
    trajectories.fill(recipe, models, ladder, &sources, world, stop)?;
    samples.map(|s| s.with_inversions(trajectories, models)).transpose()
}

fn visits(recipe: &Resolved, ladder: &Ladder, state: &State) -> anyhow::Result<Visits> {
    let rungs = edited_rungs(ladder.timesteps(), state.counters.t_edit);
    if rungs.is_empty() && recipe.needs_sources() {
        let last = ladder.timesteps().last().copied().unwrap_or(0);
        return Err(refuse(format!(
            "edit.t_edit: {} is above the last timestep {last}: nothing would be edited",
            state.counters.t_edit
        )));
    }
    // Without edited sources there is no descent to follow.
    let kind = if recipe.needs_sources() { recipe.config.edit.trajectory } else { TrajectoryKind::Source };
    Ok(Visits { kind, rungs, num_emotions: recipe.names.len() as u64 })
}

fn announce(recipe: &Resolved, objective: &Objective<'_>, state: &State, world: &World) {
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

impl Run<'_> {
    fn steps(
        &self, loader: Loader, models: &Models, ladder: &Ladder, state: &mut State, recorder: &mut Recorder,
        stop: &Stop,
    ) -> anyhow::Result<Ending> {
        let (config, first) = (&self.recipe.config, state.counters.step);
        let last = config.train.max_train_steps;
        let batches = loader.prefetch(first, last);
        let mut progress = Progress::new("training", "steps", first, last, self.world.is_first());
        while state.counters.step < last {
            let begun = Instant::now();
            let batch = batches.recv().context("the data thread ended early")??;
            let waited = begun.elapsed();
            let (mut record, stopping) = self.step(&batch, state, stop)?;
            record.timings(self.recipe.global_batch(self.world.size), waited, begun.elapsed());
            recorder.step(state.counters.step, &record, self.world)?;
            progress.set(state.counters.step, &format!("loss {:.4}", record.total));
            let step = state.counters.step;
            let due = |every: u64| every > 0 && step % every == 0;
            if due(config.checkpoint.checkpointing_steps) || stopping || step == last {
                self.save(state)?;
            }
            if due(config.validation.validation_steps) || (step == last && config.validation.validation_steps > 0) {
                if let Some(samples) = &self.samples {
                    samples.show(self.recipe, models, ladder, state, self.world, recorder)?;
                }
            }
            if stopping && step < last {
                if self.world.is_first() {
                    tracing::warn!("stopped by a signal after step {step}; the same command goes on from there");
                }
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Done)
    }

    /// One optimiser step over all micro-batches of all ranks; whether any rank was asked to stop.
    fn step(&self, batch: &StepBatch, state: &mut State, stop: &Stop) -> anyhow::Result<(StepRecord, bool)> {
        let parameters = state.optimizer.parameters();
        let mut sum: Option<Tensor> = None; // gradients, loss terms, request to stop
        let mut next = Vec::new();
        let size = self.recipe.config.train.train_batch_size as i64;
        let z = if batch.fresh { None } else { state.latents.take() };
        for (a, micro) in batch.micro.iter().enumerate() {
            let z = z.as_ref().map(|z| z.narrow(0, a as i64 * size, size).to_device(self.world.device));
            let outcome = self.objective.outcome(batch.emotion, micro, z.as_ref(), &state.learned)?;
            let mut parts = gradients(&outcome.loss, &parameters);
            parts.push(terms(&outcome.loss, &outcome.terms));
            let flat = flatten(&parts, self.world.device);
            sum = Some(sum.map_or(flat.shallow_clone(), |sum| sum + flat));
            next.extend(outcome.next);
        }
        let stop_flag = Tensor::from_slice(&[f32::from(u8::from(stop.asked()))]).to_device(self.world.device);
        let sum = Tensor::cat(&[sum.context("a step has micro-batches")?, stop_flag], 0);
        self.world.sum(&sum)?;
        let micro_batches = self.recipe.micro_batches(self.world.size) as f64;
        let count = state.optimizer.num_parameters();
        let mut gradient = sum.narrow(0, 0, count) / micro_batches;
        let tail: Vec<f64> = Vec::try_from(
            sum.narrow(0, count, sum.size()[0] - count).to_kind(Kind::Double).to_device(tch::Device::Cpu),
        )?;
        let norm = clip_norm(&mut gradient, self.recipe.config.train.max_grad_norm);
        let record = self.update(&gradient, norm, &tail, micro_batches, &parameters, state)?;
        state.latents = followed(next, batch, record.skipped);
        Ok((record, tail[tail.len() - 1] > 0.0))
    }

    fn update(
        &self, gradient: &Tensor, norm: f64, tail: &[f64], micro_batches: f64, parameters: &[Tensor], state: &mut State,
    ) -> anyhow::Result<StepRecord> {
        let factor = self.rates.factor(state.counters.step);
        let rates = self.recipe.config.train.learning_rate;
        let names = group_names(&state.learned);
        let rate = |name: &&str| factor * if *name == "tokens" { rates.tokens } else { rates.delta };
        let rates: Vec<f64> = names.iter().map(rate).collect();
        let finite = norm.is_finite() && tail[0].is_finite();
        state.counters.step += 1;
        if finite {
            state.optimizer.step(&split(gradient, parameters), &rates);
            state.counters.skipped_in_a_row = 0;
        } else {
            self.count_skipped(state)?;
        }
        let mean = |k: usize| tail[k] / micro_batches;
        let present = self.present_terms();
        let terms =
            TERMS.iter().enumerate().filter(|(k, _)| present[*k]).map(|(k, name)| (*name, mean(k + 1))).collect();
        Ok(StepRecord {
            total: mean(0),
            terms,
            learning_rates: names.into_iter().zip(rates).collect(),
            gradient_norm: norm,
            skipped: !finite,
            num_skipped: state.counters.skipped,
            ..StepRecord::default()
        })
    }

    fn count_skipped(&self, state: &mut State) -> anyhow::Result<()> {
        state.counters.skipped += 1;
        state.counters.skipped_in_a_row += 1;
        let (step, row) = (state.counters.step, state.counters.skipped_in_a_row);
        if self.world.is_first() {
            tracing::warn!("step {step}: the gradient is not finite; step skipped, {row} in a row");
        }
        if row < self.recipe.config.train.max_skipped_steps {
            return Ok(());
        }
        anyhow::bail!(
            "{row} steps in a row had no finite gradient (train.max_skipped_steps); lower the learning rates, or set \
             mixed_precision: no"
        )
    }

    fn present_terms(&self) -> [bool; TERMS.len()] {
        let recipe = self.recipe;
        let loss = &recipe.config.loss;
        [loss.clip > 0.0, loss.reconstruction > 0.0, recipe.needs_denoising(), recipe.needs_alignment()]
    }

    fn save(&self, state: &mut State) -> anyhow::Result<()> {
        let snapshot = state.snapshot(self.recipe, self.world)?;
        let config = &self.recipe.config;
        if self.world.is_first() {
            let limit = config.checkpoint.checkpoints_total_limit;
            let folder = checkpoint::save(&config.output_dir, state.counters.step, &snapshot, limit)?;
            tracing::info!("saved {}", folder.display());
        }
        Ok(())
    }
}

/// Where the edit goes on from; the source's own latents after a step that was not finite.
fn followed(next: Vec<Tensor>, batch: &StepBatch, skipped: bool) -> Option<Tensor> {
    if next.is_empty() {
        return None;
    }
    if !skipped {
        return Some(Tensor::cat(&next, 0));
    }
    let below: Vec<Tensor> =
        batch.micro.iter().filter_map(|m| Some(m.sources.as_ref()?.below.shallow_clone())).collect();
    Some(Tensor::cat(&below, 0))
}

/// The gradient of `loss` in every parameter; zero where the loss does not reach it.
fn gradients(loss: &Tensor, parameters: &[Tensor]) -> Vec<Tensor> {
    let found = Tensor::run_backward(&[loss], parameters, false, false);
    let or_zero =
        |(gradient, parameter): (Tensor, &Tensor)| if gradient.defined() { gradient } else { parameter.zeros_like() };
    found.into_iter().zip(parameters).map(or_zero).collect()
}

/// The total and each term, absent ones as 0.
fn terms(loss: &Tensor, terms: &[Option<Tensor>; TERMS.len()]) -> Tensor {
    let zero = loss.detach().zeros_like();
    let mut all = vec![loss.detach()];
    all.extend(terms.iter().map(|t| t.as_ref().map_or(zero.shallow_clone(), |t| t.to_kind(Kind::Float))));
    Tensor::stack(&all, 0)
}
