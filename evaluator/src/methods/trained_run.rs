//! A trained run: textual inversion alone, Asyrp alone, or both jointly.

use std::rc::Rc;

use diffusion::edit::Editor;
use diffusion::pipeline::Pipeline;
use tch::Tensor;

use super::{About, Method, Sweep};
use crate::config::RunMethod;
use crate::error::Result;
use crate::plan::{Plan, PlannedRun};
use crate::sources::Batch;

/// One run, asked for one emotion.
#[derive(Debug)]
pub struct TrainedRun {
    method: RunMethod,
    editor: Editor,
    emotion: &'static str,
    pipeline: Rc<Pipeline>,
    sweep: Sweep,
}

impl TrainedRun {
    /// Loads the run's tensors for `pipeline`.
    pub fn load(plan: &Plan, planned: &PlannedRun, pipeline: Rc<Pipeline>) -> Result<Self> {
        Ok(Self {
            method: planned.method,
            editor: Editor::new(pipeline.clone(), &planned.run, plan.device)?,
            emotion: planned.emotion.name(),
            pipeline,
            sweep: plan.sweep(planned.method),
        })
    }
}

impl Method for TrainedRun {
    fn about(&self) -> About {
        let (name, definition) = match self.method {
            RunMethod::TextualInversion => (
                "Textual inversion",
                "Emotion tokens alone: the source's inversion, denoised under the learned prompt.",
            ),
            RunMethod::Asyrp => ("Asyrp", "Δh alone: the h-space edit under the source prompt."),
            RunMethod::Joint => ("Joint", "Emotion tokens and Δh, trained together."),
        };
        About { key: self.method.key(), name, definition, control: false }
    }

    fn strengths(&self) -> &[f64] {
        &self.sweep.strengths
    }

    fn headline(&self) -> Option<f64> {
        Some(self.sweep.headline)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let config = self.editor.config();
        let key = (config.prompts.source.clone(), config.edit.num_inversion_steps);
        let encoded = batch.encoded(&self.pipeline);
        let invert = || self.editor.source_from_latents(&encoded.images, &encoded.latents, &encoded.round_trip);
        let source = batch.inversion(key, invert);
        self.sweep.strengths.iter().map(|&s| Ok(self.editor.edit(&source, self.emotion, s)?)).collect()
    }
}
