//! A trained run: textual inversion alone, Asyrp alone, or both jointly.

use std::rc::Rc;

use diffusion::edit::Editor;
use diffusion::pipeline::Pipeline;
use diffusion::run::Run;
use emotions::Emotion;
use tch::Tensor;

use super::{About, Method};
use crate::config::sweep::Sweep;
use crate::config::RunMethod;
use crate::error::Result;
use crate::evaluation::batch::Batch;

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
    pub fn load(method: RunMethod, run: &Run, emotion: Emotion, sweep: Sweep, pipeline: Rc<Pipeline>) -> Result<Self> {
        let device = pipeline.unet.device();
        Ok(Self {
            method,
            editor: Editor::new(pipeline.clone(), run, device)?,
            emotion: emotion.name(),
            pipeline,
            sweep,
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

    fn sweep(&self) -> Option<&Sweep> {
        Some(&self.sweep)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let source = batch.source(&self.editor, &self.pipeline);
        let target = self.editor.process().towards_mixture(&[(self.emotion.to_string(), 1.0)])?;
        Ok(self.sweep.strengths.iter().map(|&s| self.editor.edit_towards(&source, &target, s)).collect())
    }
}
