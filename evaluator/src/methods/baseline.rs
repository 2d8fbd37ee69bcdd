//! The section `methods` of a recipe: the baselines, each with its strengths and its own settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use dataloader::Emotion;
use diffusion::pipeline::Pipeline;
use diffusion::run::Run;
use serde::{Deserialize, Serialize};

use super::{adain, colour_transfer, latent_arithmetic, sdedit, About, Method, Sweep};
use super::{Adain, ColourTransfer, LatentArithmetic, Sdedit};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::style::Style;

/// One baseline, in the order of the report.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Baseline {
    /// lαβ statistics.
    ColourTransfer(colour_transfer::Settings),
    /// Channel statistics of latents.
    Adain(adain::Settings),
    /// A direction of latents.
    LatentArithmetic(latent_arithmetic::Settings),
    /// Noise and denoise under the emotion's word.
    SdeditWord(sdedit::WordSettings),
    /// Noise and denoise under a run's token.
    SdeditToken(sdedit::TokenSettings),
}

/// A baseline that was checked.
#[derive(Clone, Debug)]
pub struct PlannedBaseline {
    /// As written.
    pub settings: Baseline,
    /// Its strengths.
    pub sweep: Sweep,
    /// The run that each emotion's token comes from, by the name that the report gives it; empty where none is needed.
    pub runs: BTreeMap<Emotion, (String, Run)>,
}

impl Baseline {
    /// Name and definition.
    pub fn about(&self) -> About {
        match self {
            Baseline::ColourTransfer(_) => ColourTransfer::ABOUT,
            Baseline::Adain(_) => Adain::ABOUT,
            Baseline::LatentArithmetic(_) => LatentArithmetic::ABOUT,
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
            Baseline::SdeditWord(settings) => &settings.strengths,
            Baseline::SdeditToken(settings) => &settings.strengths,
        }
    }

    /// Whether it looks at `style_images`.
    pub fn needs_style(&self) -> bool {
        matches!(self, Baseline::ColourTransfer(_) | Baseline::Adain(_) | Baseline::LatentArithmetic(_))
    }

    fn headline(&self) -> f64 {
        match self {
            Baseline::SdeditWord(_) | Baseline::SdeditToken(_) => sdedit::HEADLINE,
            _ => 1.0,
        }
    }

    fn place(&self) -> usize {
        let keys =
            [ColourTransfer::ABOUT, Adain::ABOUT, LatentArithmetic::ABOUT, Sdedit::ABOUT_WORD, Sdedit::ABOUT_TOKEN];
        keys.iter().position(|about| about.key == self.about().key).unwrap_or(keys.len())
    }

    fn check(&self, key: &str, sweep: &Sweep) -> Result<()> {
        match self {
            Baseline::SdeditWord(settings) => {
                if !settings.prompt.contains("{emotion}") {
                    return Err(Error::config(format!("{key}.prompt"), "has no {emotion} in it"));
                }
                settings.sampler.check(key, sweep)
            }
            Baseline::SdeditToken(settings) => settings.sampler.check(key, sweep),
            _ => Ok(()),
        }
    }
}

impl PlannedBaseline {
    /// The recipe's baselines for `emotions`, in the report's order; every value checked, every run opened.
    pub fn all(config: &Config, emotions: &[Emotion]) -> Result<Vec<Self>> {
        let mut planned: Vec<Self> = Vec::new();
        for (index, settings) in config.methods.iter().enumerate() {
            let key = format!("methods.{index}");
            let about = settings.about();
            if planned.iter().any(|p| p.settings.about().key == about.key) {
                return Err(Error::config(key, format!("a second {}; list all its strengths in one", about.key)));
            }
            let sweep = Sweep::new(config, about.key, settings.strengths(), settings.headline());
            settings.check(&key, &sweep)?;
            planned.push(Self { settings: settings.clone(), sweep, runs: runs(&key, settings, emotions)? });
        }
        planned.sort_by_key(|p| p.settings.place());
        check_style(config)?;
        Ok(planned)
    }

    /// Ready to edit towards `emotion`.
    pub fn load(&self, emotion: Emotion, pipeline: Rc<Pipeline>, style: Option<&Style>) -> Result<Rc<dyn Method>> {
        let sweep = self.sweep.clone();
        let style = || style.expect("the plan refuses recipes without style images that need them");
        Ok(match &self.settings {
            Baseline::ColourTransfer(_) => Rc::new(ColourTransfer::new(style().colours(emotion), sweep)),
            Baseline::Adain(settings) => {
                Rc::new(Adain::new(pipeline, style().channels(emotion), settings.detail, sweep))
            }
            Baseline::LatentArithmetic(settings) => {
                Rc::new(LatentArithmetic::new(pipeline, style().direction(emotion), settings.detail, sweep))
            }
            Baseline::SdeditWord(settings) => Rc::new(Sdedit::with_word(pipeline, settings, emotion, sweep)),
            Baseline::SdeditToken(settings) => {
                let (_, run) = self.runs.get(&emotion).expect("the plan opened a run for every emotion");
                Rc::new(Sdedit::with_token(pipeline, settings, run, emotion, sweep)?)
            }
        })
    }
}

/// The run of each emotion's token, for the one baseline that takes tokens.
fn runs(key: &str, settings: &Baseline, emotions: &[Emotion]) -> Result<BTreeMap<Emotion, (String, Run)>> {
    let Baseline::SdeditToken(settings) = settings else { return Ok(BTreeMap::new()) };
    let open = |&emotion: &Emotion| {
        let folder = settings.run.replace("{emotion}", emotion.name());
        let run = Run::open(Path::new(&folder))?;
        let refused = |message: String| Err(Error::config(format!("{key}.run"), format!("{folder} {message}")));
        if run.config.tokens.is_none() {
            return refused("has no tokens: name a textual inversion or joint run".into());
        }
        if !run.config.emotions.iter().any(|known| known == emotion.name()) {
            return refused(format!("was trained for {}, not for {emotion}", run.config.emotions.join(", ")));
        }
        Ok((emotion, (folder, run)))
    };
    emotions.iter().map(open).collect()
}

fn check_style(config: &Config) -> Result<()> {
    match (&config.style_images, config.methods.iter().find(|m| m.needs_style())) {
        (Some(style), _) if style.max_images == Some(0) => {
            Err(Error::config("style_images.max_images", "must be at least 1"))
        }
        (Some(style), _) => style.check_apart_from(&config.sources),
        (None, Some(method)) => {
            let message =
                format!("{} needs images of the emotions: name shards and their training split", method.about().key);
            Err(Error::config("style_images", message))
        }
        (None, None) => Ok(()),
    }
}
