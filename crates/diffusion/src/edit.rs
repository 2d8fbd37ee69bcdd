//! The edit: photos in, photos with an emotion out.
//!
//! Shapes: b batch, (h, w) pixels.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::images::{self, Photo, Upsampled};
use crate::pipeline::Pipeline;
use crate::process::asyrp::{reverse, Branch, Shift};
use crate::process::ddim::{invert, invert_watched, InversionSchedule, Trajectory};
use crate::run::{pooled_token, Learned, Run, RunConfig};
use crate::tokens::{Prompt, Tokens};

/// A pipeline with one run's tokens and deltas.
#[derive(Debug)]
pub struct Editor {
    pipeline: Rc<Pipeline>,
    config: RunConfig,
    learned: Learned,
    inversion_schedule: InversionSchedule,
    device: Device,
}

/// Photos, inverted once; edits at every strength and emotion share the inversion.
#[derive(Debug)]
pub struct Source {
    /// (b, 3, h, w) in [−1, 1].
    pub images: Tensor,
    /// Their VAE round trips.
    pub round_trip: Tensor,
    /// Their inversions.
    pub trajectory: Trajectory,
}

/// The resolved prompt of an emotion's edit.
#[derive(Debug)]
struct Target {
    context: Tensor, // (1, l, d)
    token: Tensor,   // (1, d)
}

impl Editor {
    /// Loads `run`'s tensors onto `device` for `pipeline`; refuses a pipeline with other weights than the run's.
    /// Several editors may share one pipeline: `pipeline` is a [`Pipeline`] or an `Rc` of one.
    pub fn new(pipeline: impl Into<Rc<Pipeline>>, run: &Run, device: Device) -> Result<Self> {
        let pipeline = pipeline.into();
        let learned = run.load(&pipeline, device)?;
        Ok(Self::from_parts(pipeline, run.config.clone(), learned, device))
    }

    /// An editor over tensors that are already in memory.
    pub fn from_parts(pipeline: impl Into<Rc<Pipeline>>, config: RunConfig, learned: Learned, device: Device) -> Self {
        let pipeline = pipeline.into();
        let inversion_schedule = InversionSchedule::new(&pipeline.schedule, config.edit.num_inversion_steps);
        Self { pipeline, config, learned, inversion_schedule, device }
    }

    /// The run's settings.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// The frozen parts.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The pipeline, so that the next run's editor need not read it again.
    pub fn into_pipeline(self) -> Rc<Pipeline> {
        self.pipeline
    }

    /// Encodes and inverts `images` (b, 3, h, w) in [−1, 1], sides multiples of [`Pipeline::side_multiple`].
    pub fn source(&self, images: &Tensor) -> Source {
        let _no_grad = tch::no_grad_guard();
        let images = images.to_device(self.device).to_kind(Kind::Float);
        let latents = self.pipeline.latents_from_images(&images);
        let round_trip = self.pipeline.images_from_latents(&latents);
        self.source_from_latents(&images, &latents, &round_trip)
    }

    /// As [`Editor::source`], for images whose scaled latents (b, c, h/f, w/f) and round trips are at hand already.
    pub fn source_from_latents(&self, images: &Tensor, latents: &Tensor, round_trip: &Tensor) -> Source {
        let context = self.source_context();
        let trajectory =
            invert(&self.pipeline.unet, &self.pipeline.schedule, &self.inversion_schedule, latents, &context);
        Source { images: images.shallow_clone(), round_trip: round_trip.shallow_clone(), trajectory }
    }

    /// Edits towards one emotion; images (b, 3, h, w) in [−1, 1]. Strength 0 gives the photos back exactly (without
    /// the detail residual, their round trips). Negative strengths and strengths above 1 are allowed.
    pub fn edit(&self, source: &Source, emotion: &str, strength: f64) -> Result<Tensor> {
        self.edit_mixed(source, &[(emotion.to_string(), 1.0)], strength)
    }

    /// Edits towards several weighted emotions at once: Σ s_k Δh_k / √k (Asyrp, sec. 5.3), and the contexts likewise.
    /// If the edit of an image is NaN or infinite, its pixels are so too; the other images of the batch are not
    /// affected.
    pub fn edit_mixed(&self, source: &Source, emotions: &[(String, f64)], strength: f64) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let decoded = self.pipeline.images_from_latents(&self.edited_latent(source, emotions, strength)?);
        let detail = self.config.edit.detail;
        Ok(detail.restore(&source.images, &source.round_trip, &decoded, Tensor::shallow_clone))
    }

    /// As [`Editor::source`], for one photo of any size, at about `resolution`² pixels.
    pub fn source_of_photo(&self, photo: &Photo, resolution: i64) -> Result<Source> {
        let (width, height) = self.working_size(photo.dimensions(), resolution);
        let small = images::resize(&photo.to_srgb(), width, height)?;
        Ok(self.source(&images::to_tensor(&small)))
    }

    /// As [`Editor::source_of_photo`], to the same numbers. `watch` hears how many of how many timesteps are inverted;
    /// if it returns false, the inversion ends there and is `None`.
    pub fn source_of_photo_watched(
        &self, photo: &Photo, resolution: i64, watch: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Option<Source>> {
        let _no_grad = tch::no_grad_guard();
        let (width, height) = self.working_size(photo.dimensions(), resolution);
        let images = images::to_tensor(&images::resize(&photo.to_srgb(), width, height)?).to_device(self.device);
        let latents = self.pipeline.latents_from_images(&images);
        let round_trip = self.pipeline.images_from_latents(&latents);
        let (unet, schedule) = (&self.pipeline.unet, &self.pipeline.schedule);
        let steps = self.inversion_schedule.timesteps().len();
        let context = self.source_context();
        let mut watch = |done| watch(done, steps);
        let trajectory = invert_watched(unet, schedule, &self.inversion_schedule, &latents, &context, &mut watch);
        Ok(trajectory.map(|trajectory| Source { images, round_trip, trajectory }))
    }

    /// The edit of `photo` at its own size, in its own colour space and depth. NaN or infinite values are an error.
    /// `source` is its [`Editor::source_of_photo`].
    pub fn edit_photo(
        &self, photo: &Photo, source: &Source, emotions: &[(String, f64)], strength: f64,
    ) -> Result<Photo> {
        self.finished_photo(photo, &self.change(source, emotions, strength)?)
    }

    /// What an edit does to its photo, at the working size on the CPU: [`Detail::working`]. From one change the edit can
    /// be finished at several sizes. NaN or infinite values are an error.
    ///
    /// [`Detail::working`]: crate::detail::Detail::working
    pub fn change(&self, source: &Source, emotions: &[(String, f64)], strength: f64) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let decoded = self.decoded_edit(source, emotions, strength)?;
        Ok(self.config.edit.detail.working(&source.round_trip, &decoded).to_device(Device::Cpu))
    }

    /// `photo`, or a smaller copy of it, with an [`Editor::change`] of it brought to its size.
    pub fn finished_photo(&self, photo: &Photo, change: &Tensor) -> Result<Photo> {
        let _no_grad = tch::no_grad_guard();
        let detail = self.config.edit.detail;
        let (width, height) = photo.dimensions();
        let upsampled = Upsampled::new(change, width.into(), height.into());
        photo.edited(|rows, band| Ok(detail.finish(band, &upsampled.rows(rows.start.into()..rows.end.into()))))
    }

    /// A size of about resolution² pixels with the photo's proportions, both sides multiples of what the networks need.
    fn working_size(&self, (width, height): (u32, u32), resolution: i64) -> (u32, u32) {
        let multiple = self.pipeline.side_multiple() as f64;
        let (width, height) = (f64::from(width), f64::from(height));
        let scale = resolution as f64 / (width * height).sqrt();
        let side = |pixels: f64| ((pixels * scale / multiple).round().max(1.0) * multiple) as u32;
        (side(width), side(height))
    }

    /// The edit's pictures in [−1, 1]; NaN or infinite values are an error.
    fn decoded_edit(&self, source: &Source, emotions: &[(String, f64)], strength: f64) -> Result<Tensor> {
        let latent = self.edited_latent(source, emotions, strength)?;
        Error::unless_finite("the edit's latents", &latent)?;
        let decoded = self.pipeline.images_from_latents(&latent);
        Error::unless_finite("the decoded edit", &decoded)?;
        Ok(decoded)
    }

    fn edited_latent(&self, source: &Source, emotions: &[(String, f64)], strength: f64) -> Result<Tensor> {
        let targets = emotions.iter().map(|(e, _)| self.target(e)).collect::<Result<Vec<_>>>()?;
        let batch = source.images.size()[0];
        let source_context = self.source_context();
        let root = (emotions.len() as f64).sqrt();
        let mut edited_context = source_context.copy(); // += works in place
        let mut shifts = Vec::new();
        for ((emotion, weight), target) in emotions.iter().zip(&targets) {
            edited_context += (&target.context - &source_context) * (weight / root);
            if let Some(deltas) = &self.learned.deltas {
                let token = deltas.conditioned().then_some(&target.token);
                shifts.push(Shift { delta: deltas.of(emotion)?, token, scale: weight / root });
            }
        }
        let branch = Branch {
            unet: &self.pipeline.unet,
            schedule: &self.pipeline.schedule,
            source_context: &source_context.expand([batch, -1, -1], false),
            edited_context: &edited_context.expand([batch, -1, -1], false),
            shifts,
            condition: self.config.edit.condition,
        };
        let edit = &self.config.edit;
        let seed = self.config.seed;
        Ok(reverse(
            &branch,
            &self.inversion_schedule,
            &source.trajectory,
            edit.process,
            edit.interval(),
            strength,
            seed,
        ))
    }

    fn source_context(&self) -> Tensor {
        self.pipeline.context(&Prompt::plain(&self.pipeline.tokenizer, &self.config.prompts.source), None)
    }

    fn target(&self, emotion: &str) -> Result<Target> {
        if !self.config.emotions.iter().any(|e| e == emotion) {
            let known = self.config.emotions.join(", ");
            return Err(Error::invalid(format!("emotion {emotion}"), format!("this run was trained for {known}")));
        }
        let prompt = target_prompt(&self.pipeline, &self.config, self.learned.tokens.as_ref(), emotion)?;
        let context = self.pipeline.context(&prompt, self.learned.tokens.as_ref());
        Ok(Target { token: pooled_token(&context, prompt.eos), context })
    }
}

/// c_edit's prompt: the target prompt with the emotion's placeholder; without tokens, the source prompt (Asyrp edits
/// by Δh alone).
pub fn target_prompt(
    pipeline: &Pipeline, config: &RunConfig, tokens: Option<&Tokens>, emotion: &str,
) -> Result<Prompt> {
    match tokens {
        None => Ok(Prompt::plain(&pipeline.tokenizer, &config.prompts.source)),
        Some(tokens) => {
            let text = config.prompts.target.replace("{token}", tokens.placeholder(emotion)?);
            let text = text.replace("{emotion}", emotion);
            tokens.prompt_with_placeholder(&pipeline.tokenizer, "prompts.target", &text)
        }
    }
}
