//! The edit: photos in, photos with an emotion out.
//!
//! [`EditProcess`] is the edit itself, over parts that somebody else holds: a run that trains edits its own state with
//! it. An [`Editor`] holds a finished run and the pipeline, and edits photos.
//!
//! Shapes: b batch, l tokens, d text features, (h, w) pixels.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::images::{self, Mask, Photo, Upsampled};
use crate::pipeline::Pipeline;
use crate::process::asyrp::{reverse, Branch, Shift};
use crate::process::ddim::{invert, invert_watched, InversionSchedule, Trajectory};
use crate::run::{pooled_token, Learned, Run, RunConfig};
use crate::tokens::{Prompt, Tokens};

/// One run's edit: its settings and what it learned, over a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct EditProcess<'a> {
    /// The frozen parts.
    pub pipeline: &'a Pipeline,
    /// The run's settings.
    pub config: &'a RunConfig,
    /// What it learned.
    pub learned: &'a Learned,
    /// The timesteps of inversion and edit.
    pub inversion_schedule: &'a InversionSchedule,
}

/// What an edit goes towards, for every photo and strength: the prompts as the UNet takes them, and each Δh.
#[derive(Debug)]
pub struct Target<'a> {
    source_context: Tensor,                        // (1, l, d)
    edited_context: Tensor,                        // (1, l, d)
    deltas: Vec<(&'a Delta, Option<Tensor>, f64)>, // the token that conditions it, (1, d); its weight
}

impl<'a> EditProcess<'a> {
    /// The inversion of `latents` (b, c, h, w) under the source prompt.
    pub fn invert(&self, latents: &Tensor) -> Trajectory {
        let (unet, schedule) = (&self.pipeline.unet, &self.pipeline.schedule);
        invert(unet, schedule, self.inversion_schedule, latents, &self.source_context())
    }

    /// Towards one emotion, as trained: c_edit is its prompt's context.
    pub fn towards(&self, emotion: &str) -> Result<Target<'a>> {
        let _no_grad = tch::no_grad_guard();
        let (edited_context, token) = self.emotion(emotion)?;
        let mut deltas = Vec::new();
        if let Some(set) = &self.learned.deltas {
            deltas.push((set.of(emotion)?, set.conditioned().then_some(token), 1.0));
        }
        Ok(Target { source_context: self.source_context(), edited_context, deltas })
    }

    /// Towards several weighted emotions at once: Σ s_k Δh_k / √k (Asyrp, sec. 5.3), and the contexts likewise.
    pub fn towards_mixture(&self, emotions: &[(String, f64)]) -> Result<Target<'a>> {
        let _no_grad = tch::no_grad_guard();
        let source_context = self.source_context();
        let root = (emotions.len() as f64).sqrt();
        let mut edited_context = source_context.copy(); // += works in place
        let mut deltas = Vec::new();
        for (emotion, weight) in emotions {
            let (context, token) = self.emotion(emotion)?;
            edited_context += (&context - &source_context) * (weight / root);
            if let Some(set) = &self.learned.deltas {
                deltas.push((set.of(emotion)?, set.conditioned().then_some(token), weight / root));
            }
        }
        Ok(Target { source_context, edited_context, deltas })
    }

    /// Towards a prompt in plain words, with nothing that the run learned.
    pub fn towards_prompt(&self, text: &str) -> Target<'static> {
        let _no_grad = tch::no_grad_guard();
        let (source_context, edited_context) = (self.source_context(), self.prompt_context(text));
        Target { source_context, edited_context, deltas: Vec::new() }
    }

    /// The edited latents (b, c, h, w) of the photos that `source` inverts.
    pub fn latents(&self, source: &Trajectory, target: &Target<'_>, strength: f64) -> Tensor {
        let (edit, batch) = (&self.config.edit, source.latents.size()[1]);
        let shifts =
            target.deltas.iter().map(|(delta, token, scale)| Shift { delta, token: token.as_ref(), scale: *scale });
        let branch = Branch {
            unet: &self.pipeline.unet,
            schedule: &self.pipeline.schedule,
            source_context: &target.source_context.expand([batch, -1, -1], false),
            edited_context: &target.edited_context.expand([batch, -1, -1], false),
            shifts: shifts.collect(),
            condition: edit.condition,
            guidance_scale: edit.guidance_scale,
            mask: edit.mask,
        };
        let (process, interval) = (edit.process, edit.interval());
        reverse(&branch, self.inversion_schedule, source, process, interval, strength, self.config.seed)
    }

    /// Edited `latents` as images (b, 3, h, w) in [−1, 1], with the detail that the VAE lost of `images`, whose round
    /// trips are `round_trip`, (b, 3, h, w) each.
    pub fn finished(&self, images: &Tensor, round_trip: &Tensor, latents: &Tensor) -> Tensor {
        let decoded = self.pipeline.images_from_latents(latents);
        self.config.edit.detail.restore(images, round_trip, &decoded, Tensor::shallow_clone)
    }

    /// An emotion's c_edit (1, l, d) and pooled token (1, d).
    fn emotion(&self, emotion: &str) -> Result<(Tensor, Tensor)> {
        if !self.config.emotions.iter().any(|e| e == emotion) {
            let known = self.config.emotions.join(", ");
            return Err(Error::invalid(format!("emotion {emotion}"), format!("this run was trained for {known}")));
        }
        let tokens = self.learned.tokens.as_ref();
        let prompt = target_prompt(self.pipeline, self.config, tokens, emotion)?;
        let context = self.pipeline.context(&prompt, tokens);
        let token = pooled_token(&context, prompt.eos);
        Ok((context, token))
    }

    /// c_src, (1, l, d).
    fn source_context(&self) -> Tensor {
        self.prompt_context(&self.config.prompts.source)
    }

    fn prompt_context(&self, text: &str) -> Tensor {
        self.pipeline.context(&Prompt::plain(&self.pipeline.tokenizer, text), None)
    }
}

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

    /// The edit itself, for targets and latents.
    pub fn process(&self) -> EditProcess<'_> {
        let Self { pipeline, config, learned, inversion_schedule, .. } = self;
        EditProcess { pipeline, config, learned, inversion_schedule }
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
        let trajectory = self.process().invert(latents);
        Source { images: images.shallow_clone(), round_trip: round_trip.shallow_clone(), trajectory }
    }

    /// Edits towards one emotion; images (b, 3, h, w) in [−1, 1]. Strength 0 gives the photos back exactly (without
    /// the detail residual, their round trips). Negative strengths and strengths above 1 are allowed.
    pub fn edit(&self, source: &Source, emotion: &str, strength: f64) -> Result<Tensor> {
        self.edit_mixed(source, &[(emotion.to_string(), 1.0)], strength)
    }

    /// Edits towards several weighted emotions at once ([`EditProcess::towards_mixture`]).
    pub fn edit_mixed(&self, source: &Source, emotions: &[(String, f64)], strength: f64) -> Result<Tensor> {
        Ok(self.edit_towards(source, &self.process().towards_mixture(emotions)?, strength))
    }

    /// Edits towards a target that several edits share. If the edit of an image is NaN or infinite, its pixels are so
    /// too; the other images of the batch are not affected.
    pub fn edit_towards(&self, source: &Source, target: &Target<'_>, strength: f64) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let process = self.process();
        let latents = process.latents(&source.trajectory, target, strength);
        process.finished(&source.images, &source.round_trip, &latents)
    }

    /// As [`Editor::source`], for one photo of any size, at about `resolution`² pixels.
    pub fn source_of_photo(&self, photo: &Photo, resolution: i64) -> Result<Source> {
        self.source_of_photos(&[photo], resolution)
    }

    /// As [`Editor::source_of_photo`], for several photos of one [working size](Editor::working_size).
    pub fn source_of_photos(&self, photos: &[&Photo], resolution: i64) -> Result<Source> {
        let small = |photo: &&Photo| {
            let (width, height) = self.working_size(photo.dimensions(), resolution);
            Ok(images::to_tensor(&images::resize(&photo.to_srgb(), width, height)?))
        };
        let small = photos.iter().map(small).collect::<Result<Vec<_>>>()?;
        Ok(self.source(&Tensor::cat(&small, 0)))
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
        let context = self.process().source_context();
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
        self.changes(source, &self.process().towards_mixture(emotions)?, strength).remove(0)
    }

    /// As [`Editor::change`], for each photo of `source`. An edit that fails leaves the others alone.
    pub fn changes(&self, source: &Source, target: &Target<'_>, strength: f64) -> Vec<Result<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let latents = self.process().latents(&source.trajectory, target, strength);
        let decoded = self.pipeline.images_from_latents(&latents);
        let change = |at: i64| {
            let [latent, round_trip, decoded] = [&latents, &source.round_trip, &decoded].map(|t| t.narrow(0, at, 1));
            Error::unless_finite("the edit's latents", &latent)?;
            Error::unless_finite("the decoded edit", &decoded)?;
            Ok(self.config.edit.detail.working(&round_trip, &decoded).to_device(Device::Cpu))
        };
        (0..source.images.size()[0]).map(change).collect()
    }

    /// `photo`, or a smaller copy of it, with an [`Editor::change`] of it brought to its size.
    pub fn finished_photo(&self, photo: &Photo, change: &Tensor) -> Result<Photo> {
        self.finished_photo_masked(photo, change, None)
    }

    /// As [`Editor::finished_photo`], only where `mask` lets the change through: where it is black, every bit stays.
    pub fn finished_photo_masked(&self, photo: &Photo, change: &Tensor, mask: Option<&Mask>) -> Result<Photo> {
        let _no_grad = tch::no_grad_guard();
        let (detail, (width, height)) = (self.config.edit.detail, photo.dimensions());
        let mask = mask.map(|mask| mask.fitted(width, height)).transpose()?;
        let upsampled = Upsampled::new(change, width.into(), height.into());
        photo.edited(|rows, band| {
            let edited = detail.finish(band, &upsampled.rows(rows.start.into()..rows.end.into()));
            // With a weight of exactly 0 this is the photo, with exactly 1 the edit.
            Ok(mask.as_ref().map_or_else(|| edited.shallow_clone(), |mask| band.lerp_tensor(&edited, &mask.rows(rows))))
        })
    }

    /// A size of about resolution² pixels with the photo's proportions, both sides multiples of what the networks need.
    pub fn working_size(&self, (width, height): (u32, u32), resolution: i64) -> (u32, u32) {
        let multiple = self.pipeline.side_multiple() as f64;
        let (width, height) = (f64::from(width), f64::from(height));
        let scale = resolution as f64 / (width * height).sqrt();
        let side = |pixels: f64| ((pixels * scale / multiple).round().max(1.0) * multiple) as u32;
        (side(width), side(height))
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
