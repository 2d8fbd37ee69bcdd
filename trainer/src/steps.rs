//! Step after step: gradients over all micro-batches of all ranks, one update, what is recorded and saved.

use std::time::Instant;

use anyhow::Context;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::writer::Writer;
use crate::data::{Loader, StepBatch};
use crate::ground::Ground;
use crate::lr::LrSchedule;
use crate::objective::{Objective, Work, TERMS};
use crate::optimizer::{clip, norm};
use crate::progress::Progress;
use crate::recorder::{Recorder, StepRecord};
use crate::samples::Samples;
use crate::state::{group_names, State};
use crate::world::{flatten, split};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Done,
    /// A signal came; the state is in a checkpoint.
    Stopped,
}

/// What stays the same through the steps.
pub struct Steps<'a> {
    /// What the run stands on.
    pub ground: Ground<'a>,
    /// The losses.
    pub objective: &'a Objective<'a>,
    /// The held-out images, where they are looked at.
    pub samples: Option<Samples>,
    /// The learning rates.
    pub rates: LrSchedule,
    /// What one process computes in a step.
    pub flop: f64,
}

impl Steps<'_> {
    /// Trains on from `state` to the last step or a signal.
    pub fn run(&self, loader: Loader, state: &mut State, recorder: &mut Recorder) -> anyhow::Result<Ending> {
        let (config, world, first) = (&self.ground.recipe.config, self.ground.world, state.counters.step);
        let last = config.train.max_train_steps;
        let batches = loader.prefetch(first, last);
        let mut writer = self.writer(recorder);
        let mut progress = Progress::new("training", "steps", first, last, world.is_first());
        while state.counters.step < last {
            let begun = Instant::now();
            let batch = batches.recv().context("the data thread ended early")??;
            let waited = begun.elapsed();
            let (mut record, stopping) = self.step(&batch, state)?;
            record.timings(self.ground.recipe.global_batch(world.size), self.flop, waited, begun.elapsed());
            let step = state.counters.step;
            recorder.step(step, &record, world)?;
            progress.set(step, &format!("loss {:.4}", record.total));
            self.save_and_show(state, recorder, &mut writer, stopping)?;
            if stopping && step < last {
                if world.is_first() {
                    tracing::warn!("stopped by a signal after step {step}; the same command goes on from there");
                }
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Done)
    }

    fn save_and_show(
        &self, state: &mut State, recorder: &mut Recorder, writer: &mut Writer, stopping: bool,
    ) -> anyhow::Result<()> {
        let (config, step) = (&self.ground.recipe.config, state.counters.step);
        let at_end = step == config.train.max_train_steps;
        let due = |every: u64| every > 0 && step % every == 0;
        if due(config.checkpoint.checkpointing_steps) || stopping || at_end {
            self.save(state, writer, stopping || at_end)?;
        }
        if due(config.watch.histogram_steps) {
            recorder.histograms(step, &state.named_parameters());
        }
        let every = config.validation.validation_steps;
        match &self.samples {
            Some(samples) if due(every) || at_end => {
                let scalars = state.averaged(|state| samples.show(&self.ground, self.objective, state, recorder))?;
                writer.validated(step, &scalars);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One optimiser step over all micro-batches of all ranks; whether any rank was asked to stop.
    fn step(&self, batch: &StepBatch, state: &mut State) -> anyhow::Result<(StepRecord, bool)> {
        let parameters = state.optimizer.parameters();
        let loss_scale = state.loss_scale.factor;
        let mut sum: Option<Tensor> = None; // gradients, loss terms, request to stop
        let mut next = Vec::new();
        let size = self.ground.recipe.micro_batch_size() as i64;
        let z = if batch.fresh { None } else { state.latents.take() };
        for (a, micro) in batch.micro.iter().enumerate() {
            let z = z.as_ref().map(|z| z.narrow(0, a as i64 * size, size).to_device(self.ground.world.device));
            let (emotion, learned) = (batch.emotion, &state.learned);
            let work = Work { emotion, batch: micro, z: z.as_ref(), learned, loss_scale };
            let outcome = self.objective.outcome(&work)?;
            let mut parts = gradients(&(&outcome.loss * loss_scale), &parameters);
            parts.push(terms(&outcome.loss, &outcome.terms));
            let flat = flatten(&parts, self.ground.world.device);
            sum = Some(sum.map_or(flat.shallow_clone(), |sum| sum + flat));
            next.extend(outcome.next);
        }
        let stop_flag =
            Tensor::from_slice(&[f32::from(u8::from(self.ground.stop.asked()))]).to_device(self.ground.world.device);
        let sum = Tensor::cat(&[sum.context("a step has micro-batches")?, stop_flag], 0);
        self.ground.world.sum(&sum)?;
        let micro_batches = (self.ground.recipe.micro_batches() * self.ground.world.size) as f64;
        let count = state.optimizer.num_parameters();
        let mut gradient = sum.narrow(0, 0, count) / (micro_batches * loss_scale);
        let tail = sum.narrow(0, count, sum.size()[0] - count).to_kind(Kind::Double);
        // The step's one wait for the device: the norm, the losses and the flag come in one piece.
        let read = Tensor::cat(&[norm(&gradient).view(1), tail], 0).to_device(Device::Cpu);
        let read: Vec<f64> = Vec::try_from(read)?;
        let (norm, tail) = read.split_first().context("the norm comes first")?;
        clip(&mut gradient, *norm, self.ground.recipe.config.train.max_grad_norm);
        let record = self.update(&gradient, *norm, tail, micro_batches, &parameters, state)?;
        state.latents = followed(next, batch, record.skipped, self.ground.world.device);
        Ok((record, tail[tail.len() - 1] > 0.0))
    }

    fn update(
        &self, gradient: &Tensor, norm: f64, tail: &[f64], micro_batches: f64, parameters: &[Tensor], state: &mut State,
    ) -> anyhow::Result<StepRecord> {
        let factor = self.rates.factor(state.counters.step);
        let rates = self.ground.recipe.config.train.learning_rate;
        let names = group_names(&state.learned);
        let rate = |name: &&str| factor * if *name == "tokens" { rates.tokens } else { rates.delta };
        let rates: Vec<f64> = names.iter().map(rate).collect();
        let finite = norm.is_finite() && tail[0].is_finite();
        state.counters.step += 1;
        let blamed = state.loss_scale.update(finite);
        if finite {
            state.optimizer.step(&split(gradient, parameters), &rates);
            let updates = state.optimizer.updates();
            state.ema.iter_mut().for_each(|ema| ema.update(parameters, updates));
            state.counters.skipped_in_a_row = 0;
        } else {
            self.count_skipped(state, blamed)?;
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
            loss_scale: state.loss_scale.factor,
            ..StepRecord::default()
        })
    }

    /// A gradient that overflowed by the loss scale's fault is not held against the run.
    fn count_skipped(&self, state: &mut State, blamed: bool) -> anyhow::Result<()> {
        state.counters.skipped += 1;
        if blamed {
            if self.ground.world.is_first() {
                let (step, factor) = (state.counters.step, state.loss_scale.factor);
                tracing::info!("step {step}: the scaled gradient overflowed; step skipped, loss scale now {factor}");
            }
            return Ok(());
        }
        state.counters.skipped_in_a_row += 1;
        let (step, row) = (state.counters.step, state.counters.skipped_in_a_row);
        if self.ground.world.is_first() {
            tracing::warn!("step {step}: the gradient is not finite; step skipped, {row} in a row");
        }
        if row < self.ground.recipe.config.train.max_skipped_steps {
            return Ok(());
        }
        anyhow::bail!(
            "{row} steps in a row had no finite gradient (train.max_skipped_steps); lower the learning rates, or set \
             mixed_precision: no"
        )
    }

    fn present_terms(&self) -> [bool; TERMS.len()] {
        let recipe = self.ground.recipe;
        let loss = &recipe.config.loss;
        [loss.clip > 0.0, loss.reconstruction > 0.0, recipe.needs_denoising(), recipe.needs_alignment()]
    }

    fn writer(&self, recorder: &Recorder) -> Writer {
        let config = &self.ground.recipe.config;
        let best = config.checkpoint.keep_best.as_ref();
        let scores = best.map(|best| recorder.validated(&best.metric)).unwrap_or_default();
        Writer::new(config.output_dir.clone(), config.checkpoint.clone(), scores)
    }

    fn save(&self, state: &mut State, writer: &mut Writer, wait: bool) -> anyhow::Result<()> {
        let snapshot = state.snapshot(self.ground.recipe, self.ground.world)?;
        if self.ground.world.is_first() {
            writer.save(state.counters.step, &snapshot, wait)?;
        }
        Ok(())
    }
}

/// Where the edit goes on from; the source's own latents after a step that was not finite.
fn followed(next: Vec<Tensor>, batch: &StepBatch, skipped: bool, device: Device) -> Option<Tensor> {
    if next.is_empty() {
        return None;
    }
    if !skipped {
        return Some(Tensor::cat(&next, 0));
    }
    let below: Vec<Tensor> =
        batch.micro.iter().filter_map(|m| Some(m.sources.as_ref()?.below.shallow_clone())).collect();
    Some(Tensor::cat(&below, 0).to_device(device))
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
