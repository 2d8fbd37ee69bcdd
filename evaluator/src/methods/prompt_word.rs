//! The emotion's word as prompt in a run's own process, with nothing trained: what process and prompt give by
//! themselves.
//!
//! Shapes: b batch, l tokens, d text features.

use std::rc::Rc;

use diffusion::edit::Editor;
use diffusion::pipeline::Pipeline;
use diffusion::process::asyrp::{reverse, Branch};
use diffusion::process::ddim::InversionSchedule;
use diffusion::run::{Learned, Run};
use diffusion::tokens::Prompt;
use emotions::{template, Emotion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{no_grad, Tensor};

use super::{decoded, About, Method};
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
    inversion_schedule: InversionSchedule,
    source: Tensor, // (1, l, d)
    target: Tensor, // (1, l, d)
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
        let context = |text: &str| no_grad(|| pipeline.context(&Prompt::plain(&pipeline.tokenizer, text), None));
        let word = template::fill(&settings.prompt, emotion, None).expect("checked with the recipe");
        let (source, target) = (context(&run.config.prompts.source), context(&word));
        let inversion_schedule = InversionSchedule::new(&pipeline.schedule, run.config.edit.num_inversion_steps);
        let (nothing, device) = (Learned { tokens: None, deltas: None }, pipeline.unet.device());
        let editor = Editor::from_parts(pipeline.clone(), run.config.clone(), nothing, device);
        Self { editor, pipeline, inversion_schedule, source, target, sweep }
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
        let config = self.editor.config();
        let (encoded, source) = (batch.encoded(&self.pipeline), batch.source(&self.editor, &self.pipeline));
        let all = |context: &Tensor| context.expand([encoded.images.size()[0], -1, -1], false); // (b, l, d)
        let branch = Branch {
            unet: &self.pipeline.unet,
            schedule: &self.pipeline.schedule,
            source_context: &all(&self.source),
            edited_context: &all(&self.target),
            shifts: Vec::new(),
            condition: config.edit.condition,
            guidance_scale: config.edit.guidance_scale,
            mask: config.edit.mask,
        };
        let (edit, seed) = (&config.edit, config.seed);
        let edited = |&strength: &f64| {
            let latents = reverse(
                &branch,
                &self.inversion_schedule,
                &source.trajectory,
                edit.process,
                edit.interval(),
                strength,
                seed,
            );
            decoded(&self.pipeline, encoded, &latents, edit.detail)
        };
        Ok(no_grad(|| self.sweep.strengths.iter().map(edited).collect()))
    }
}
