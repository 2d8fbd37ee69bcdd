//! The section `methods` of a recipe: the baselines, each with its strengths and its own settings.

use emotions::template;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{adain, colour_transfer, latent_arithmetic, prompt_word, sdedit, About};
use super::{Adain, ColourTransfer, LatentArithmetic, PromptWord, Sdedit};
use crate::config::sweep::Sweep;
use crate::error::{Error, Result};

/// One baseline, in the order of the report.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Baseline {
    /// lαβ statistics.
    ColourTransfer(colour_transfer::Settings),
    /// Channel statistics of latents.
    Adain(adain::Settings),
    /// A direction of latents.
    LatentArithmetic(latent_arithmetic::Settings),
    /// The emotion's word as prompt in a run's process.
    PromptWord(prompt_word::Settings),
    /// Noise and denoise under the emotion's word.
    SdeditWord(sdedit::WordSettings),
    /// Noise and denoise under a run's token.
    SdeditToken(sdedit::TokenSettings),
}

impl Baseline {
    /// Name and definition.
    pub fn about(&self) -> About {
        match self {
            Baseline::ColourTransfer(_) => ColourTransfer::ABOUT,
            Baseline::Adain(_) => Adain::ABOUT,
            Baseline::LatentArithmetic(_) => LatentArithmetic::ABOUT,
            Baseline::PromptWord(_) => PromptWord::ABOUT,
            Baseline::SdeditWord(_) => Sdedit::ABOUT_WORD,
            Baseline::SdeditToken(_) => Sdedit::ABOUT_TOKEN,
        }
    }

    /// The strengths as written.
    pub fn strengths(&self) -> &[f64] {
        match self {
            Baseline::ColourTransfer(settings) => &settings.strengths,
            Baseline::Adain(settings) => &settings.strengths,
            Baseline::LatentArithmetic(settings) => &settings.strengths,
            Baseline::PromptWord(settings) => &settings.strengths,
            Baseline::SdeditWord(settings) => &settings.strengths,
            Baseline::SdeditToken(settings) => &settings.strengths,
        }
    }

    /// The run whose tokens or process it uses, if any.
    pub fn run(&self) -> Option<&str> {
        match self {
            Baseline::PromptWord(settings) => Some(&settings.run),
            Baseline::SdeditToken(settings) => Some(&settings.run),
            _ => None,
        }
    }

    /// Whether it uses what that run learned, and not only its process.
    pub fn is_trained(&self) -> bool {
        matches!(self, Baseline::SdeditToken(_))
    }

    /// Whether it uses `style_images`.
    pub fn needs_style(&self) -> bool {
        matches!(self, Baseline::ColourTransfer(_) | Baseline::Adain(_) | Baseline::LatentArithmetic(_))
    }

    /// The headline strength unless the recipe names another.
    pub fn headline(&self) -> f64 {
        match self {
            Baseline::SdeditWord(_) | Baseline::SdeditToken(_) => sdedit::HEADLINE,
            _ => 1.0,
        }
    }

    /// Its position in the report.
    pub fn place(&self) -> usize {
        let keys = [
            ColourTransfer::ABOUT,
            Adain::ABOUT,
            LatentArithmetic::ABOUT,
            PromptWord::ABOUT,
            Sdedit::ABOUT_WORD,
            Sdedit::ABOUT_TOKEN,
        ];
        keys.iter().position(|about| about.key == self.about().key).unwrap_or(keys.len())
    }

    /// Refuses values without meaning; `key` is the entry in the recipe.
    pub fn check(&self, key: &str, sweep: &Sweep) -> Result<()> {
        let check_prompt =
            |prompt: &str| template::check_target(prompt).map_err(|e| Error::config(format!("{key}.prompt"), e));
        match self {
            Baseline::PromptWord(settings) => check_prompt(&settings.prompt),
            Baseline::SdeditWord(settings) => {
                check_prompt(&settings.prompt)?;
                settings.sampler.check(key, sweep)
            }
            Baseline::SdeditToken(settings) => settings.sampler.check(key, sweep),
            _ => Ok(()),
        }
    }
}
