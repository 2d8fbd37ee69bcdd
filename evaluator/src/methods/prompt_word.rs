//! The emotion's word as prompt in a run's own process, with nothing trained: what process and prompt give by
//! themselves.

use std::rc::Rc;

use diffusion::edit::{Editor, Target};
use diffusion::pipeline::Pipeline;
use diffusion::run::{Learned, Run};
use emotions::{template, Emotion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{About, Method};
use crate::config::sweep::Sweep;
use crate::error::Result;
use crate::evaluation::batch::Batch;

/// `{method: prompt_word}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// As a run's.
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// The run whose process, source prompt and detail are used, but nothing that it learned. A path with `{emotion}`
    /// is one folder for each emotion.
    pub run: String,
    /// The target prompt; `{emotion}` is replaced by the word.
    #[serde(default = "prompt")]
    pub prompt: String,
}

fn strengths() -> Vec<f64> {
    vec![1.0]
}

fn prompt() -> String {
    "a photo evoking {emotion}".into()
}

/// The edit of [`Editor`] without tokens and deltas, with a plain prompt.
#[derive(Debug)]
pub struct PromptWord {
    editor: Editor,
    pipeline: Rc<Pipeline>,
    target: Target<'static>,
    sweep: Sweep,
}

impl PromptWord {
    /// Name and definition.
    pub const ABOUT: About = About {
        key: "prompt_word",
        name: "Word in the prompt",
        definition:
            "The source's inversion, edited by the named run's process under a prompt with the plain emotion word: \
                     no token and no Δh, nothing is trained.",
        control: false,
    };

    /// In `run`'s process, towards `emotion`.
    pub fn new(pipeline: Rc<Pipeline>, settings: &Settings, run: &Run, emotion: Emotion, sweep: Sweep) -> Self {
        let word = template::fill(&settings.prompt, emotion, None).expect("checked with the recipe");
        let (nothing, device) = (Learned { tokens: None, deltas: None }, pipeline.unet.device());
        let editor = Editor::from_parts(pipeline.clone(), run.config.clone(), nothing, device);
        let target = editor.process().towards_prompt(&word);
        Self { editor, pipeline, target, sweep }
    }
}

impl Method for PromptWord {
    fn about(&self) -> About {
        Self::ABOUT
    }

    fn sweep(&self) -> Option<&Sweep> {
        Some(&self.sweep)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let source = batch.source(&self.editor, &self.pipeline);
        Ok(self.sweep.strengths.iter().map(|&s| self.editor.edit_towards(&source, &self.target, s)).collect())
    }
}
