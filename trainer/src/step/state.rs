//! What a run carries from step to step: learned tensors, the optimiser, counters, the current edited latents. A
//! checkpoint is exactly this; everything else is a function of the recipe and the step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use diffusion::delta::{DeltaSet, SHARED};
use diffusion::run::{dimensions, Learned};
use diffusion::tokens::{TokenSettings, Tokens};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::checkpoint::resume::Frozen;
use crate::checkpoint::{Snapshot, Tensors, TRAJECTORY};
use crate::config::resolved::Resolved;
use crate::failure::{input, refuse};
use crate::optim::ema::Ema;
use crate::optim::loss_scale::LossScale;
use crate::optim::optimizer::Optimizer;
use crate::run::models::Models;
use crate::run::world::World;

/// The counters and thresholds of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Optimiser steps done, including skipped ones.
    pub step: u64,
    /// Updates that the optimiser made.
    pub updates: u64,
    /// Steps whose gradient was not finite.
    pub skipped: u64,
    /// How many such steps have come in a row until now.
    pub skipped_in_a_row: u64,
    /// Images of each stream in one step.
    pub global_batch: u64,
    /// t ≥ t_edit is edited; −1 as long as it is unknown.
    pub t_edit: i64,
    /// t < t_boost is boosted; −1 as long as it is unknown.
    pub t_boost: i64,
    /// The loss scale in f16; 0 if the checkpoint has none.
    #[serde(default)]
    pub loss_scale: u64,
    /// Finite steps since it last changed.
    #[serde(default)]
    pub loss_scale_held: u64,
}

impl Counters {
    fn to_numbers(self) -> [i64; 9] {
        let n = |x: u64| x as i64;
        [
            n(self.step),
            n(self.updates),
            n(self.skipped),
            n(self.skipped_in_a_row),
            n(self.global_batch),
            self.t_edit,
            self.t_boost,
            n(self.loss_scale),
            n(self.loss_scale_held),
        ]
    }

    fn from_numbers(numbers: &[i64]) -> Self {
        let n = |k: usize| numbers[k] as u64;
        Self {
            step: n(0),
            updates: n(1),
            skipped: n(2),
            skipped_in_a_row: n(3),
            global_batch: n(4),
            t_edit: numbers[5],
            t_boost: numbers[6],
            loss_scale: n(7),
            loss_scale_held: n(8),
        }
    }
}

/// A run's state on one rank.
pub struct State {
    /// Tokens and deltas: the leaves that are trained.
    pub learned: Learned,
    /// The optimiser, with its moments.
    pub optimizer: Optimizer,
    /// The moving average, if the recipe keeps one.
    pub ema: Option<Ema>,
    /// The loss scale.
    pub loss_scale: LossScale,
    /// The counters.
    pub counters: Counters,
    /// The current edited latents, this rank's rows of the global batch; none if each step starts from the sources.
    pub latents: Option<Tensor>,
}

impl State {
    /// The state of step 0, the same on every rank of `num_processes`, with warnings about initialisers.
    pub fn fresh(recipe: &Resolved, models: &Models, num_processes: usize) -> anyhow::Result<(Self, Vec<String>)> {
        let (config, device) = (&recipe.config, models.device);
        let mut warnings = Vec::new();
        let mut learned = Learned { tokens: None, deltas: None };
        if let Some(section) = config.tokens.on() {
            let settings = TokenSettings {
                placeholder_token: section.placeholder_token.clone(),
                initializer_token: section.initializer_token.clone(),
                num_vectors: section.num_vectors,
            };
            let pipeline = &models.pipeline;
            let made = Tokens::new(&pipeline.tokenizer, &pipeline.text_encoder, &recipe.names, &settings, device);
            let (tokens, notes) = input(made)?;
            warnings = notes;
            learned.tokens = Some(tokens);
        }
        if let Some(section) = config.delta.on() {
            let dimensions = dimensions(&models.pipeline, section.condition_on_token);
            learned.deltas = Some(DeltaSet::new(dimensions, &recipe.names, config.train.seed, device));
        }
        let optimizer = Optimizer::new(config.train.optimizer, &groups(&learned));
        let counters = Counters {
            step: 0,
            updates: 0,
            skipped: 0,
            skipped_in_a_row: 0,
            global_batch: recipe.global_batch(num_processes) as u64,
            t_edit: -1,
            t_boost: -1,
            loss_scale: 0,
            loss_scale_held: 0,
        };
        let parameters: Vec<(String, Tensor)> = groups(&learned).into_iter().flat_map(|(_, named)| named).collect();
        let ema = config.train.ema_decay.map(|decay| Ema::new(decay, &parameters));
        let loss_scale = LossScale::new(config.train.mixed_precision);
        Ok((Self { learned, optimizer, ema, loss_scale, counters, latents: None }, warnings))
    }

    /// What a checkpoint holds, on every rank: the latents of all ranks are gathered.
    pub fn snapshot(&mut self, recipe: &Resolved, models: &Models, world: &World) -> anyhow::Result<Snapshot> {
        self.counters.updates = self.optimizer.updates();
        (self.counters.loss_scale, self.counters.loss_scale_held) =
            (self.loss_scale.factor as u64, self.loss_scale.steps_held);
        let mut files = BTreeMap::new();
        for (file, tensors) in self.files() {
            files.insert(file, tensors.into_iter().collect());
        }
        if let Some(latents) = &self.latents {
            let all = world.gather_rows(latents)?;
            files.insert(TRAJECTORY.into(), Tensors::from([("z".to_string(), all)]));
        }
        let mut state = serde_json::to_value(self.counters)?;
        state["config"] = recipe::to_json(&recipe.config);
        state["models"] = serde_json::to_value(Frozen::of(models))?;
        Ok(Snapshot { files, state })
    }

    /// Loads a checkpoint on rank 0 and sends it to every rank; without one, all ranks take rank 0's fresh state.
    pub fn restore(&mut self, found: Option<(PathBuf, Snapshot)>, world: &World) -> anyhow::Result<()> {
        let mut latents = None;
        if let Some((folder, snapshot)) = found {
            latents = self.take(&folder, snapshot)?;
        }
        self.counters = Counters::from_numbers(&world.agree(&self.counters.to_numbers())?);
        self.optimizer.set_updates(self.counters.updates);
        if self.counters.loss_scale > 0 {
            self.loss_scale.restore(self.counters.loss_scale as f64, self.counters.loss_scale_held);
        }
        let mut tensors: Vec<Tensor> = self.files().into_iter().flat_map(|(_, t)| t).map(|(_, t)| t).collect();
        world.copy_from_first(&mut tensors)?;
        self.latents = share_latents(latents, world)?;
        Ok(())
    }

    /// Refuses a checkpoint whose tensors are not this state's by name and shape. Returns its counters.
    pub fn check_fit(&self, folder: &Path, snapshot: &Snapshot) -> anyhow::Result<Counters> {
        let counters = input(Counters::deserialize(&snapshot.state).with_context(|| folder.display().to_string()))?;
        for (file, tensors) in self.files() {
            let path = folder.join(format!("{file}.safetensors"));
            let none = Tensors::new();
            fit(&path, snapshot.files.get(&file).unwrap_or(&none), &tensors)?;
        }
        Ok(counters)
    }

    /// Copies a checkpoint's tensors into the leaves and moments; returns the latents of the global batch.
    fn take(&mut self, folder: &Path, mut snapshot: Snapshot) -> anyhow::Result<Option<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let counters = self.check_fit(folder, &snapshot)?;
        if counters.global_batch != self.counters.global_batch {
            return Err(refuse(format!(
                "{}: was written with a global batch of {}, this run has {}; choose train_batch_size × \
                 gradient_accumulation_steps × processes to match, or --resume none",
                folder.display(),
                counters.global_batch,
                self.counters.global_batch
            )));
        }
        for (file, tensors) in self.files() {
            let stored = snapshot.files.get(&file);
            for (name, mut tensor) in tensors {
                tensor.copy_(&stored.expect("its fit was checked")[&name]);
            }
        }
        self.counters = counters;
        Ok(snapshot.files.remove(TRAJECTORY).and_then(|mut tensors| tensors.remove("z")))
    }

    /// Which of the optimiser's parameters a step for `emotion` serves: the emotion's own, the shared ones, and every
    /// token if the alignment term uses all of them.
    pub fn served(&self, emotion: &str, aligns: bool) -> Vec<bool> {
        let serves = |name: &str| {
            let mut parts = name.split('.');
            let (group, owner) = (parts.next(), parts.next());
            owner == Some(emotion) || owner == Some(SHARED) || (aligns && group == Some(TOKENS))
        };
        self.optimizer.names().map(serves).collect()
    }

    /// What is trained, by name: `tokens/<emotion>`, delta/….
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let named = |(group, tensors): (&str, Vec<(String, Tensor)>)| {
            let prefixed = |(name, tensor): (String, Tensor)| (format!("{group}/{name}"), tensor);
            tensors.into_iter().map(prefixed).collect::<Vec<_>>()
        };
        groups(&self.learned).into_iter().flat_map(named).collect()
    }

    /// Runs `work` on what is shown and exported: the moving average, if there is one.
    pub fn averaged<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        match &self.ema {
            None => work(self),
            Some(ema) => ema.with_averages(&mut self.optimizer.parameters(), || work(self)),
        }
    }

    /// The checkpoint's files and their tensors, which share memory with the state.
    fn files(&self) -> Vec<(String, Vec<(String, Tensor)>)> {
        let mut files: Vec<_> = groups(&self.learned).into_iter().map(|(name, t)| (name.to_string(), t)).collect();
        files.push(("optimizer".to_string(), self.optimizer.state()));
        files.extend(self.ema.as_ref().map(|ema| ("ema".to_string(), ema.state())));
        files
    }
}

/// Refuses stored tensors that are not `expected` by name and shape.
fn fit(path: &Path, stored: &Tensors, expected: &[(String, Tensor)]) -> anyhow::Result<()> {
    let at = |what: String| refuse(format!("{}: tensor {what}", path.display()));
    for (name, tensor) in expected {
        let found =
            stored.get(name).ok_or_else(|| at(format!("{name} is missing; the checkpoint is of another recipe")))?;
        if found.size() != tensor.size() {
            let (found, expected) = (found.size(), tensor.size());
            return Err(at(format!("{name} has shape {found:?}, this recipe needs {expected:?}")));
        }
    }
    match stored.keys().find(|name| !expected.iter().any(|(known, _)| &known == name)) {
        Some(name) => Err(at(format!("{name} has no place in this recipe; the checkpoint is of another"))),
        None => Ok(()),
    }
}

/// The group of the token vectors.
const TOKENS: &str = "tokens";

/// The parameter groups of this run: tokens, delta.
fn groups(learned: &Learned) -> Vec<(&'static str, Vec<(String, Tensor)>)> {
    let tokens = learned.tokens.as_ref().map(|t| (TOKENS, t.named_parameters()));
    let delta = learned.deltas.as_ref().map(|d| ("delta", d.named_parameters()));
    tokens.into_iter().chain(delta).collect()
}

/// How many of the optimiser's parameters are tokens; they come first.
pub fn num_token_tensors(learned: &Learned) -> usize {
    learned.tokens.as_ref().map_or(0, |tokens| tokens.named_parameters().len())
}

/// The names of the groups, in the order of their learning rates.
pub fn group_names(learned: &Learned) -> Vec<&'static str> {
    groups(learned).into_iter().map(|(name, _)| name).collect()
}

/// This rank's rows of rank 0's global batch of latents.
fn share_latents(latents: Option<Tensor>, world: &World) -> anyhow::Result<Option<Tensor>> {
    let mut shape = [0i64; 4];
    if let Some(z) = &latents {
        shape.iter_mut().zip(z.size()).for_each(|(to, from)| *to = from);
    }
    let shape = world.agree(&shape)?;
    if shape[0] == 0 {
        return Ok(None);
    }
    let zeros = || Tensor::zeros(shape.as_slice(), (Kind::Float, world.device));
    let mut all = [latents.map_or_else(zeros, |z| z.to_device(world.device))];
    world.copy_from_first(&mut all)?;
    Ok(all[0].chunk(world.size as i64, 0).into_iter().nth(world.rank))
}
