//! Both terms that denoise images of the emotion: one trains the tokens, the other Δh.
//!
//! Shapes: b batch, (c, h, w) a latent, l tokens, d text features.

use diffusion::losses::denoising::denoising;
use diffusion::process::asyrp::{Branch, Condition};
use diffusion::process::ddim::{alpha_bars, timestep_tensor};
use tch::{Kind, Tensor};

use crate::data::ImageBatch;
use crate::objective::contexts::Contexts;
use crate::objective::losses::Term;
use crate::objective::{shifts, to_device, Objective, Outcome, Work};

/// Images of the emotion with noise, and what the network is trained to say of them.
struct Noised {
    z: Tensor,         // (b, c, h, w)
    target: Tensor,    // (b, c, h, w)
    alpha_bar: Tensor, // (b, 1, 1, 1)
}

impl Objective<'_> {
    /// Δh is tied to pictures of the emotion: the source's prompt and Δh together have to denoise them (Self-Discover,
    /// Li et al. 2024, eq. 5, with f(h, t) in a constant vector's place).
    pub(super) fn delta_denoising_term(
        &self, work: &Work<'_>, batch: &ImageBatch, contexts: &Contexts, outcome: &mut Outcome,
    ) -> anyhow::Result<Tensor> {
        let noised = self.noised(batch);
        let context = self.source_context.expand([noised.z.size()[0], -1, -1], false);
        let branch = Branch {
            unet: &self.models.pipeline.unet,
            schedule: &self.models.pipeline.schedule,
            source_context: &context,
            edited_context: &context,
            shifts: shifts(work.learned, &self.recipe.names[work.emotion], contexts)?,
            condition: Condition::Decoder,
            guidance_scale: 1.0,
            mask: None,
        };
        let pass = branch.edited_pass(&branch.source_pass(&noised.z, &batch.timesteps), 1.0, self.checkpointing);
        let term = self.denoising_error(&noised, pass.output());
        let loss = outcome.weighted(Term::DeltaDenoising, self.recipe.config.loss.delta_denoising, term);
        Ok(pass.connect(loss, work.loss_scale))
    }

    pub(super) fn denoising_term(&self, batch: &ImageBatch, contexts: &Tensor) -> Tensor {
        let (device, noised) = (self.models.device, self.noised(batch));
        let prompts: Vec<i64> = batch.prompts.iter().map(|&p| p as i64).collect();
        let context = contexts.index_select(0, &Tensor::from_slice(&prompts).to_device(device));
        let unet = &self.models.pipeline.unet;
        let output = unet.forward(&noised.z.to_kind(unet.kind()), &timestep_tensor(&batch.timesteps, device), &context);
        self.denoising_error(&noised, &output)
    }

    fn noised(&self, batch: &ImageBatch) -> Noised {
        let (device, schedule) = (self.models.device, &self.models.pipeline.schedule);
        let [latent, noise] = [&batch.latent, &batch.noise].map(|t| to_device(t, device));
        let alpha_bar = alpha_bars(schedule, &batch.timesteps, device);
        let rest: Tensor = 1.0 - &alpha_bar;
        let z = alpha_bar.sqrt() * &latent + rest.sqrt() * &noise;
        let target = schedule.prediction().target(&latent, &noise, &alpha_bar);
        Noised { z, target, alpha_bar }
    }

    fn denoising_error(&self, noised: &Noised, output: &Tensor) -> Tensor {
        let (prediction, gamma) = (self.models.pipeline.schedule.prediction(), self.recipe.config.loss.min_snr_gamma);
        denoising(prediction, &output.to_kind(Kind::Float), &noised.target, &noised.alpha_bar, gamma)
    }
}
