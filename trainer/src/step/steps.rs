//! The loop over the steps: what is read, recorded, saved and shown, and when.

use std::time::Instant;

use anyhow::Context;
use program::Progress;

use crate::checkpoint::writer::Writer;
use crate::data::Loader;
use crate::logging::recorder::{Recorder, StepRecord};
use crate::objective::losses::{Term, TERMS};
use crate::objective::Objective;
use crate::optim::lr::LrSchedule;
use crate::run::context::RunContext;
use crate::step::in_flight::{Read, StepInFlight, StepsInFlight};
use crate::step::numbers::StepNumbers;
use crate::step::state::State;
use crate::validation::samples::Samples;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps are done.
    Done,
    /// A signal came; the state is in a checkpoint.
    Stopped,
}

/// What stays the same over the steps.
pub struct Steps<'a> {
    /// What the run stands on.
    pub run: RunContext<'a>,
    /// The losses.
    pub objective: &'a Objective<'a>,
    /// The held-out images, if validation is on.
    pub samples: Option<Samples>,
    /// The learning rates.
    pub rates: LrSchedule,
    /// What one process computes in a step.
    pub flop: f64,
}

impl Steps<'_> {
    /// Trains from `state` to the last step or to a signal.
    pub fn run(&self, loader: Loader, state: &mut State, recorder: &mut Recorder) -> anyhow::Result<Ending> {
        let (config, world, first) = (&self.run.recipe.config, self.run.world, state.counters.step);
        let last = config.train.max_train_steps;
        let batches = loader.prefetch(first, last, world.device);
        let mut writer = self.writer(recorder);
        let progress = Progress::from("training", "steps", first, last, world.is_first());
        let mut in_flight = StepsInFlight::new();
        while state.counters.step < last {
            let begun = Instant::now();
            let batch = batches.recv().context("the data thread ended early")??;
            let waited = begun.elapsed();
            in_flight.push(self.launch(&batch, state)?, waited);
            let step = state.counters.step;
            if !self.reads_at(step, state) {
                continue;
            }
            let stopping = self.read(&mut in_flight, state, recorder, &progress)?;
            self.save_and_show(state, recorder, &mut writer, stopping)?;
            in_flight.restart_clock();
            if stopping && step < last {
                if world.is_first() {
                    tracing::warn!("stopped by a signal after step {step}; the same command goes on from there");
                }
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Done)
    }

    /// Whether the host waits for the device after step `step`.
    fn reads_at(&self, step: u64, state: &State) -> bool {
        let config = &self.run.recipe.config;
        let every = [
            config.watch.log_steps,
            config.watch.histogram_steps,
            config.checkpoint.checkpointing_steps,
            config.validation.validation_steps,
        ];
        every.iter().any(|&every| due(step, every))
            || step == config.train.max_train_steps
            // The scale of the next step depends on this one's gradient.
            || state.loss_scale.is_dynamic()
    }

    /// Reads and records every pending step; returns whether any rank was asked to stop.
    fn read(
        &self, in_flight: &mut StepsInFlight, state: &mut State, recorder: &mut Recorder, progress: &Progress,
    ) -> anyhow::Result<bool> {
        let Read { steps, waited, whole } = in_flight.read()?;
        let mut stopping = false;
        for (step_in_flight, numbers) in steps {
            let step = step_in_flight.step;
            stopping |= numbers.num_asked_to_stop > 0.0;
            let mut record = self.record(step_in_flight, &numbers, state)?;
            record.timings(self.run.recipe.global_batch(self.run.world.size), self.flop, waited, whole);
            recorder.step(step, &record, self.run.world)?;
            progress.set(step);
            progress.say(format!("loss {:.4}", record.total));
        }
        Ok(stopping)
    }

    /// A step's record from its numbers.
    fn record(
        &self, step_in_flight: StepInFlight, numbers: &StepNumbers, state: &mut State,
    ) -> anyhow::Result<StepRecord> {
        let finite = numbers.is_finite();
        let loss_scale = state.loss_scale.factor;
        let blamed = state.loss_scale.update(finite);
        match finite {
            true => state.counters.skipped_in_a_row = 0,
            false => self.count_skipped(step_in_flight.step, state, blamed)?,
        }
        let present = self.present_terms();
        let terms = TERMS.iter().zip(numbers.losses.terms).zip(present).filter(|(_, present)| *present);
        Ok(StepRecord {
            total: numbers.losses.total,
            terms: terms.map(|(((_, name), value), _)| (*name, value)).collect(),
            learning_rates: step_in_flight.learning_rates,
            gradient_norm: numbers.gradient_norm,
            num_skipped: state.counters.skipped,
            loss_scale,
            ..StepRecord::default()
        })
    }

    fn save_and_show(
        &self, state: &mut State, recorder: &mut Recorder, writer: &mut Writer, stopping: bool,
    ) -> anyhow::Result<()> {
        let (config, step) = (&self.run.recipe.config, state.counters.step);
        let at_end = step == config.train.max_train_steps;
        if due(step, config.checkpoint.checkpointing_steps) || stopping || at_end {
            self.save(state, writer, stopping || at_end)?;
        }
        if due(step, config.watch.histogram_steps) {
            recorder.histograms(step, &state.named_parameters());
        }
        let every = config.validation.validation_steps;
        match &self.samples {
            Some(samples) if due(step, every) || at_end => {
                let scalars = state.averaged(|state| samples.show(&self.run, self.objective, state, recorder))?;
                writer.validated(step, &scalars);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An overflow that the loss scale caused does not count towards the limit of skipped steps.
    fn count_skipped(&self, step: u64, state: &mut State, blamed: bool) -> anyhow::Result<()> {
        state.counters.skipped += 1;
        if blamed {
            if self.run.world.is_first() {
                let factor = state.loss_scale.factor;
                tracing::info!("step {step}: the scaled gradient overflowed; step skipped, loss scale now {factor}");
            }
            return Ok(());
        }
        state.counters.skipped_in_a_row += 1;
        let row = state.counters.skipped_in_a_row;
        if self.run.world.is_first() {
            tracing::warn!("step {step}: the gradient is not finite; step skipped, {row} in a row");
        }
        if row < self.run.recipe.config.train.max_skipped_steps {
            return Ok(());
        }
        anyhow::bail!(
            "{row} steps in a row had no finite gradient (train.max_skipped_steps); lower the learning rates, or set \
             mixed_precision: no"
        )
    }

    fn present_terms(&self) -> [bool; TERMS.len()] {
        let recipe = self.run.recipe;
        let loss = &recipe.config.loss;
        TERMS.map(|(term, _)| match term {
            Term::Direction => loss.clip > 0.0,
            Term::Reconstruction => loss.reconstruction > 0.0,
            Term::Denoising => recipe.needs_denoising(),
            Term::Alignment => recipe.needs_alignment(),
            Term::Contrast => loss.contrast > 0.0,
            Term::DeltaDenoising => recipe.needs_delta_denoising(),
        })
    }

    fn writer(&self, recorder: &Recorder) -> Writer {
        let config = &self.run.recipe.config;
        let best = config.checkpoint.keep_best.as_ref();
        let scores = best.map(|best| recorder.validated(&best.metric)).unwrap_or_default();
        Writer::new(config.output_dir.clone(), config.checkpoint.clone(), scores)
    }

    fn save(&self, state: &mut State, writer: &mut Writer, wait: bool) -> anyhow::Result<()> {
        let snapshot = state.snapshot(self.run.recipe, self.run.models, self.run.world)?;
        if self.run.world.is_first() {
            writer.save(state.counters.step, &snapshot, wait)?;
        }
        Ok(())
    }
}

/// Whether step `step` is a multiple of `every`; never at 0.
fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
