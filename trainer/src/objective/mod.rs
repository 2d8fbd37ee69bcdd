//! The joint objective of one micro-batch: directional CLIP loss and reconstruction on edited sources (Asyrp, Kwon et
//! al. 2023, eq. 9), denoising on images of the emotion (textual inversion, Gal et al. 2022, eq. 2), alignment.
//!
//! No gradient crosses a timestep: z is a constant, and one optimiser step is at one timestep. The terms are computed
//! one at a time, so that each term's graph is freed after its backward pass. What they share, the contexts, is kept
//! apart for that reason.
//!
//! Shapes: b batch, (c, h, w) a latent, l tokens, d text features, p CLIP's projection.

pub mod contexts;
mod contrast;
mod denoising;
pub mod direction;
pub mod losses;

use diffusion::losses::alignment::alignment;
use diffusion::losses::reconstruction::reconstruction;
use diffusion::networks::unet::Checkpointing;
use diffusion::process::asyrp::{guided, Branch, Process, Shift, SourceStep};
use diffusion::process::ddim::{alpha_bars, InversionSchedule};
use diffusion::run::Learned;
use diffusion::tokens::{Prompt, Tokens};
use tch::{Device, Kind, Tensor};

use crate::config::resolved::Resolved;
use crate::config::TrajectoryKind;
use crate::data::{Data, MicroBatch, SourceBatch};
use crate::objective::contexts::Contexts;
use crate::objective::contrast::Contrast;
use crate::objective::direction::Direction;
use crate::objective::losses::{Losses, Term, TERMS};
use crate::precompute::thresholds::text_cosine;
use crate::run::models::Models;

/// One micro-batch and what it is computed with.
#[derive(Clone, Copy)]
pub struct Work<'b> {
    /// Index of the emotion.
    pub emotion: usize,
    /// The images.
    pub batch: &'b MicroBatch,
    /// The edited latents so far, (b, c, h, w); without them the sources' own are used.
    pub z: Option<&'b Tensor>,
    /// Tokens and deltas at this step.
    pub learned: &'b Learned,
    /// The factor of the losses before each backward pass.
    pub loss_scale: f64,
}

/// A part of the objective with a backward pass of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Direction, contrast and reconstruction of the edited sources.
    Edit,
    /// Denoising of the emotion's images by the deltas, without a token in the prompt.
    DeltaDenoising,
    /// Denoising of the emotion's images.
    Denoising,
    /// Alignment of the tokens' texts.
    Alignment,
}

impl Part {
    /// The order in which they are computed: the deltas' gradient, the largest, is ready first.
    pub const ALL: [Part; 4] = [Part::Edit, Part::DeltaDenoising, Part::Denoising, Part::Alignment];
    /// The last part in which the deltas have a gradient.
    pub const LAST_OF_DELTAS: Part = Part::DeltaDenoising;
}

/// The results of one micro-batch beside its gradient; none of them has a graph.
pub struct Outcome {
    /// The weighted sum.
    total: Tensor,
    /// Each of [`TERMS`], unweighted; none if it is switched off.
    terms: [Option<Tensor>; TERMS.len()],
    /// The edited latents one timestep below, if the edit is followed, (b, c, h, w).
    pub next: Option<Tensor>,
}

/// One emotion's frozen texts.
struct EmotionTexts {
    prompts: Vec<Prompt>,
    direction: Option<Direction>,
    reconstruction_weight: f64,
}

/// The alignment term's constants.
struct Alignment {
    class_means: Tensor, // (k, p)
    targets: Tensor,     // (e)
}

/// The objective, with everything that does not change from step to step.
pub struct Objective<'a> {
    recipe: &'a Resolved,
    models: &'a Models,
    inversion_schedule: &'a InversionSchedule,
    texts: Vec<EmotionTexts>,
    source_context: Tensor, // (1, l, d)
    alignment: Option<Alignment>,
    contrast: Option<Contrast>,
    checkpointing: Checkpointing,
}

impl<'a> Objective<'a> {
    /// Embeds the constant texts and the images' means. `learned` must hold the recipe's tokens, with any values.
    pub fn new(
        recipe: &'a Resolved, models: &'a Models, inversion_schedule: &'a InversionSchedule, data: &Data,
        tokens: Option<&Tokens>,
    ) -> anyhow::Result<Self> {
        let _no_grad = tch::no_grad_guard();
        let pipeline = &models.pipeline;
        let source = Prompt::plain(&pipeline.tokenizer, &recipe.config.prompts.source);
        let mut texts = Vec::new();
        for k in 0..recipe.names.len() {
            texts.push(EmotionTexts {
                prompts: prompts(recipe, models, tokens, k)?,
                direction: direction(recipe, models, data, k)?,
                reconstruction_weight: reconstruction_weight(recipe, models, k)?,
            });
        }
        let alignment = match recipe.needs_alignment() {
            false => None,
            true => {
                let (means, targets) = data.class_means(&recipe.config.emotions, &models.loss_clip().hash)?;
                let targets = Tensor::from_slice(&targets).to_device(models.device);
                Some(Alignment { class_means: means.to_device(models.device), targets })
            }
        };
        let contrast = (recipe.config.loss.contrast > 0.0).then(|| Contrast::new(recipe, models, data)).transpose()?;
        let checkpointing =
            if recipe.config.train.gradient_checkpointing { Checkpointing::On } else { Checkpointing::Off };
        let source_context = pipeline.context(&source, None);
        Ok(Self { recipe, models, inversion_schedule, texts, source_context, alignment, contrast, checkpointing })
    }

    /// ΔT of emotion number `k` (p), where the directional loss is trained.
    pub fn direction(&self, k: usize, tokens: Option<&Tokens>) -> anyhow::Result<Option<Tensor>> {
        let vector = |direction: &Direction| direction.vector(self.models.loss_clip(), tokens);
        self.texts[k].direction.as_ref().map(vector).transpose()
    }

    /// The directions, for the log.
    pub fn directions(&self) -> impl Iterator<Item = &Direction> {
        self.texts.iter().filter_map(|t| t.direction.as_ref())
    }

    /// The conditions of one micro-batch.
    pub fn contexts(&self, work: &Work<'_>) -> Contexts {
        let (models, learned) = (self.models, work.learned);
        let Some(tokens) = &learned.tokens else { return Contexts::constant(&self.source_context) };
        let (encoder, prompts) = (&models.pipeline.text_encoder, &self.texts[work.emotion].prompts);
        let conditioned = learned.deltas.as_ref().is_some_and(|deltas| deltas.conditioned());
        collective::autocast(models.device, models.kind, || Contexts::learned(encoder, prompts, tokens, conditioned))
    }

    /// The weighted loss of one part, with its graph; none if the recipe has no such part. The values of its terms go
    /// to `outcome`.
    pub fn part(
        &self, part: Part, work: &Work<'_>, contexts: &Contexts, outcome: &mut Outcome,
    ) -> anyhow::Result<Option<Tensor>> {
        collective::autocast(self.models.device, self.models.kind, || {
            let loss = match part {
                Part::Edit => match &work.batch.sources {
                    Some(sources) => self.edit_terms(work, sources, contexts, outcome)?,
                    None => return Ok(None),
                },
                Part::DeltaDenoising => match (&work.batch.images, &work.learned.deltas) {
                    (Some(images), Some(_)) if self.recipe.needs_delta_denoising() => {
                        self.delta_denoising_term(work, images, contexts, outcome)?
                    }
                    _ => return Ok(None),
                },
                Part::Denoising => match (&work.batch.images, &contexts.denoising) {
                    (Some(images), Some(context)) => {
                        let weight = self.recipe.config.loss.denoising;
                        outcome.weighted(Term::Denoising, weight, self.denoising_term(images, context))
                    }
                    _ => return Ok(None),
                },
                Part::Alignment => match (&self.alignment, &work.learned.tokens) {
                    (Some(constants), Some(tokens)) => self.alignment_term(constants, tokens, outcome)?,
                    _ => return Ok(None),
                },
            };
            outcome.total = &outcome.total + loss.detach();
            Ok(Some(loss))
        })
    }

    fn alignment_term(&self, constants: &Alignment, tokens: &Tokens, outcome: &mut Outcome) -> anyhow::Result<Tensor> {
        let loss = &self.recipe.config.loss;
        let targets: Vec<&str> = self.recipe.prompts.iter().map(|p| p[0].as_str()).collect();
        let texts = self.models.loss_clip().embed_texts(&targets, Some(tokens))?;
        let term = alignment(&texts, &constants.class_means, &constants.targets, loss.alignment_temperature);
        Ok(outcome.weighted(Term::Alignment, loss.alignment, term))
    }

    fn edit_terms(
        &self, work: &Work<'_>, batch: &SourceBatch, contexts: &Contexts, outcome: &mut Outcome,
    ) -> anyhow::Result<Tensor> {
        let Work { emotion, z, learned, loss_scale, .. } = *work;
        let device = self.models.device;
        let timesteps: Vec<i64> =
            batch.timestep_indices.iter().map(|&k| self.inversion_schedule.timesteps()[k]).collect();
        let below: Vec<i64> =
            batch.timestep_indices.iter().map(|&k| self.inversion_schedule.timesteps()[k - 1]).collect();
        let schedule = &self.models.pipeline.schedule;
        let [latent, latent_below, recorded] =
            [&batch.latent, &batch.below, &batch.output].map(|t| to_device(t, device));
        let z = z.unwrap_or(&latent);
        let size = latent.size()[0];
        let [source_context, edited_context] =
            [&self.source_context, &contexts.edited].map(|c| c.expand([size, -1, -1], false));
        let branch = Branch {
            unet: &self.models.pipeline.unet,
            schedule,
            source_context: &source_context,
            edited_context: &edited_context,
            shifts: shifts(learned, &self.recipe.names[emotion], contexts)?,
            condition: self.recipe.config.edit.condition,
            guidance_scale: self.recipe.config.edit.guidance_scale,
            mask: None, // where the edit acts is measured on whole trajectories
        };
        let edit = &self.recipe.config.edit;
        let source = branch.source_pass(z, &timesteps);
        // If z is the source's own latent, its output is on record. The anchored process uses nothing else.
        let follows = edit.trajectory == TrajectoryKind::Edited && edit.process == Process::Asymmetric;
        let (own_z, own) = if follows { (z, source.output()) } else { (&latent, recorded.shallow_clone()) };
        let pass = branch.edited_pass(&source, edit.strength, self.checkpointing);
        let reference = branch.clean(own_z, &timesteps, &own);
        // The anchored process compares with the record; guidance moves away from what the source's prompt says here.
        let elsewhere = edit.trajectory == TrajectoryKind::Edited && !follows && branch.needs_own(edit.process);
        let own_here = elsewhere.then(|| branch.clean(z, &timesteps, &source.output()));
        let edited = branch.clean(z, &timesteps, pass.output());
        let clean = guided(&edited, own_here.as_ref().unwrap_or(&reference), edit.guidance_scale);
        let loss = self.compare(work, batch, (&clean, &reference), outcome)?;
        if edit.trajectory == TrajectoryKind::Edited {
            let source_step = SourceStep {
                below: &latent_below,
                clean: &branch.clean(&latent, &timesteps, &recorded),
                noise: &schedule.noise_from_output(&recorded, &latent, &timesteps),
                alpha_bar_below: &alpha_bars(schedule, &below, device),
                mask: None,
            };
            let noise = schedule.noise_from_output(&own, own_z, &timesteps);
            outcome.next = Some(edit.process.descend(&source_step, &clean.detach(), &noise).detach());
        }
        Ok(pass.connect(loss, loss_scale))
    }

    /// The weighted losses of P_t(ε̃) against the source's P_t.
    fn compare(
        &self, work: &Work<'_>, batch: &SourceBatch, (clean, reference): (&Tensor, &Tensor), outcome: &mut Outcome,
    ) -> anyhow::Result<Tensor> {
        let (loss, texts) = (&self.recipe.config.loss, &self.texts[work.emotion]);
        let mut sum = Tensor::zeros([], (Kind::Float, self.models.device));
        if texts.direction.is_some() || self.contrast.is_some() {
            let edited = self.models.embed_preview(clean);
            let source = match &batch.seen {
                Some(seen) => to_device(seen, self.models.device),
                None => tch::no_grad(|| self.models.embed_preview(reference)),
            };
            if let Some(direction) = &texts.direction {
                let vector = direction.vector(self.models.loss_clip(), work.learned.tokens.as_ref())?;
                let term = loss.directional.loss(&edited, &source, &vector, loss.beta);
                sum += outcome.weighted(Term::Direction, loss.clip, term);
            }
            if let Some(contrast) = &self.contrast {
                let term = contrast.term(&edited, &source, work.emotion, loss.contrast_temperature);
                sum += outcome.weighted(Term::Contrast, loss.contrast, term);
            }
        }
        if loss.reconstruction > 0.0 {
            let term = reconstruction(clean, &reference.detach());
            sum += outcome.weighted(Term::Reconstruction, texts.reconstruction_weight, term);
        }
        Ok(sum)
    }
}

impl Outcome {
    /// Nothing yet.
    pub fn new(device: Device) -> Self {
        Self { total: Tensor::zeros([], (Kind::Float, device)), terms: Default::default(), next: None }
    }

    /// Records the value of one of [`TERMS`] and returns it weighted.
    fn weighted(&mut self, term: Term, weight: f64, value: Tensor) -> Tensor {
        self.terms[term as usize] = Some(value.detach());
        value * weight
    }

    /// The values as a row of [`Losses`].
    pub fn losses(&self) -> Tensor {
        Losses::row(&self.total, &self.terms)
    }
}

/// `tensor` on the networks' device. The copy does not block: the loader pinned the memory.
fn to_device(tensor: &Tensor, device: Device) -> Tensor {
    tensor.to_device_(device, tensor.kind(), true, false)
}

fn prompts(recipe: &Resolved, models: &Models, tokens: Option<&Tokens>, k: usize) -> anyhow::Result<Vec<Prompt>> {
    let Some(tokens) = tokens else { return Ok(Vec::new()) };
    let tokenizer = &models.pipeline.tokenizer;
    let prompt = |text: &String| crate::failure::input(tokens.prompt_with_placeholder(tokenizer, "prompts", text));
    recipe.prompts[k].iter().map(prompt).collect()
}

fn direction(recipe: &Resolved, models: &Models, data: &Data, k: usize) -> anyhow::Result<Option<Direction>> {
    if recipe.config.loss.clip == 0.0 {
        return Ok(None);
    }
    let clip = models.loss_clip();
    let prototype = || data.prototype(k, &clip.hash).map(|p| p.to_device(models.device));
    let prototype = recipe.needs_prototype().then(prototype).transpose()?;
    Direction::new(recipe, k, clip, prototype).map(Some)
}

/// λ_rec for emotion number `k`.
fn reconstruction_weight(recipe: &Resolved, models: &Models, k: usize) -> anyhow::Result<f64> {
    let config = &recipe.config;
    match config.loss.reconstruction_by_cosine {
        false => Ok(config.loss.reconstruction),
        true => Ok(config.loss.reconstruction * text_cosine(config, models, &config.emotions[k..=k])?),
    }
}

fn shifts<'b>(learned: &'b Learned, emotion: &str, contexts: &'b Contexts) -> anyhow::Result<Vec<Shift<'b>>> {
    let Some(deltas) = &learned.deltas else { return Ok(Vec::new()) };
    Ok(vec![Shift { delta: deltas.of(emotion)?, token: contexts.pooled.as_ref(), scale: 1.0 }])
}
