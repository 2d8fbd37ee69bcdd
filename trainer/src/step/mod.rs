//! One optimiser step: the gradient over all micro-batches of all ranks, and the update. The host waits for the
//! device in the collectives only.

pub mod in_flight;
pub mod numbers;
pub mod state;
pub mod steps;

use collective::Work as Collective;
use tch::{Kind, Tensor};

use crate::data::StepBatch;
use crate::objective::losses::Losses;
use crate::objective::{Outcome, Part, Work};
use crate::optim::gradients::Gradients;
use crate::optim::optimizer::{clip, norm};
use crate::run::world::{split, World};
use crate::step::in_flight::StepInFlight;
use crate::step::numbers::StepNumbers;
use crate::step::state::{group_names, num_token_tensors, State};
use crate::step::steps::Steps;

/// What one rank computed, while the deltas' gradient is being summed over the ranks.
struct Found {
    gradients: Gradients,
    /// The sums of [`Outcome::losses`], f64.
    losses: Tensor,
    /// The edited latents one timestep below, for each micro-batch.
    next: Vec<Tensor>,
    deltas: Option<(Tensor, Collective)>,
}

impl Steps<'_> {
    /// Computes the next step. Its numbers stay on the device until they are read.
    pub fn launch(&self, batch: &StepBatch, state: &mut State) -> anyhow::Result<StepInFlight> {
        let world = self.run.world;
        let found = self.found(batch, state)?;
        let num_tokens = num_token_tensors(&state.learned);
        let tokens = found.gradients.flat(0..num_tokens, world.device);
        let asked = f64::from(u8::from(self.run.stop.asked()));
        let stop_flag = Tensor::full([1], asked, (Kind::Double, world.device));
        let rest = Tensor::cat(&[&tokens, &found.losses, &stop_flag], 0);
        world.sum(&rest)?;
        let (count, micro_batches) = (tokens.size()[0], (self.run.recipe.micro_batches() * world.size) as f64);
        let mut gradient = vec![rest.narrow(0, 0, count)];
        if let Some((deltas, reduction)) = found.deltas {
            reduction.wait()?;
            gradient.push(deltas);
        }
        let gradient = Tensor::cat(&gradient, 0) / (micro_batches * state.loss_scale.factor);
        let mut gradient = gradient.to_kind(Kind::Float);
        let losses = rest.narrow(0, count, Losses::LEN as i64);
        // Every rank's stop flag is summed; the losses are averaged.
        let num_asked_to_stop = rest.narrow(0, count + Losses::LEN as i64, 1);
        let norm = norm(&gradient);
        let finite = norm.isfinite().logical_and(&Losses::total_of(&losses).isfinite());
        clip(&mut gradient, &norm, self.run.recipe.config.train.max_grad_norm);
        let learning_rates = self.update(&gradient, batch.emotion, &finite, state);
        state.latents = followed(found.next, batch, &finite, world);
        let numbers = StepNumbers::row(&norm, &(losses / micro_batches), &num_asked_to_stop);
        Ok(StepInFlight { step: state.counters.step, numbers, learning_rates })
    }

    /// Goes through the micro-batches. The deltas' gradient is complete before the other parts of the last one are
    /// computed, and is summed over the ranks meanwhile.
    fn found(&self, batch: &StepBatch, state: &mut State) -> anyhow::Result<Found> {
        let (world, size) = (self.run.world, self.run.recipe.micro_batch_size() as i64);
        let parameters = state.optimizer.parameters();
        let deltas = num_token_tensors(&state.learned)..parameters.len();
        let mut gradients = Gradients::new(parameters, state.loss_scale.factor);
        let mut losses: Option<Tensor> = None;
        let (mut next, mut reduced) = (Vec::new(), None);
        let z = if batch.fresh { None } else { state.latents.take() };
        for (a, micro) in batch.micro.iter().enumerate() {
            let z = z.as_ref().map(|z| z.narrow(0, a as i64 * size, size).to_device(world.device));
            let (emotion, learned) = (batch.emotion, &state.learned);
            let work = Work { emotion, batch: micro, z: z.as_ref(), learned, loss_scale: state.loss_scale.factor };
            let mut outcome = Outcome::new(world.device);
            let mut contexts = self.objective.contexts(&work);
            for part in Part::ALL {
                if let Some(loss) = self.objective.part(part, &work, &contexts, &mut outcome)? {
                    contexts.back(&loss, &mut gradients);
                }
                if part == Part::LAST_OF_DELTAS && a + 1 == batch.micro.len() && !deltas.is_empty() {
                    let flat = gradients.flat(deltas.clone(), world.device);
                    let reduction = world.sum_start(&flat)?;
                    reduced = Some((flat, reduction));
                }
            }
            contexts.finish(&mut gradients);
            let found = outcome.losses().to_kind(Kind::Double);
            losses = Some(losses.map_or_else(|| found.shallow_clone(), |sum| sum + &found));
            next.extend(outcome.next);
        }
        let losses = losses.expect("invariant: a step has micro-batches");
        Ok(Found { gradients, losses, next, deltas: reduced })
    }

    /// Moves the parameters of `emotion`, and all moving averages, if `finite` holds; returns the rate of each group.
    fn update(
        &self, gradient: &Tensor, emotion: usize, finite: &Tensor, state: &mut State,
    ) -> Vec<(&'static str, f64)> {
        let factor = self.rates.factor(state.counters.step);
        let base = self.run.recipe.config.train.learning_rate;
        let names = group_names(&state.learned);
        let rates: Vec<f64> =
            names.iter().map(|name| factor * if *name == "tokens" { base.tokens } else { base.delta }).collect();
        state.counters.step += 1;
        let parameters = state.optimizer.parameters();
        let recipe = self.run.recipe;
        let served = state.served(&recipe.names[emotion], recipe.needs_alignment());
        state.optimizer.step(&split(gradient, &parameters), &served, &rates, finite);
        if let Some(ema) = &mut state.ema {
            ema.update(&parameters, state.optimizer.updates_on_device(), finite);
        }
        names.into_iter().zip(rates).collect()
    }
}

/// The latents that the next step goes on from; the source's own after a step that was not finite.
fn followed(next: Vec<Tensor>, batch: &StepBatch, finite: &Tensor, world: &World) -> Option<Tensor> {
    if next.is_empty() {
        return None;
    }
    let below: Vec<Tensor> =
        batch.micro.iter().filter_map(|m| Some(m.sources.as_ref()?.below.shallow_clone())).collect();
    let below = Tensor::cat(&below, 0).to_device(world.device);
    Some(Tensor::cat(&next, 0).where_self(finite, &below))
}
