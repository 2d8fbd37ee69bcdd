//! The recipe's baselines: checked, and prepared for editing.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use diffusion::pipeline::Pipeline;
use diffusion::run::Run;
use emotions::Emotion;

use crate::config::sweep::Sweep;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::methods::baseline::Baseline;
use crate::methods::style::Style;
use crate::methods::{Adain, ColourTransfer, LatentArithmetic, Method, PromptWord, Sdedit};

/// A baseline that was checked.
#[derive(Clone, Debug)]
pub struct PlannedBaseline {
    /// As written.
    pub settings: Baseline,
    /// Its strengths.
    pub sweep: Sweep,
    /// The run that each emotion's token comes from, by its name in the report; empty if none is needed.
    pub runs: BTreeMap<Emotion, (String, Run)>,
}

impl PlannedBaseline {
    /// The recipe's baselines for `emotions`, in the report's order, with every value checked and every run opened.
    pub fn all(config: &Config, emotions: &[Emotion]) -> Result<Vec<Self>> {
        let mut planned: Vec<Self> = Vec::new();
        for (index, settings) in config.methods.iter().enumerate() {
            let key = format!("methods.{index}");
            let about = settings.about();
            if planned.iter().any(|p| p.settings.about().key == about.key) {
                return Err(Error::config(key, format!("a second {}; list all its strengths in one", about.key)));
            }
            let sweep = Sweep::new(&config.headline.per_method, about.key, settings.strengths(), settings.headline());
            settings.check(&key, &sweep)?;
            planned.push(Self { settings: settings.clone(), sweep, runs: runs(&key, settings, emotions)? });
        }
        planned.sort_by_key(|p| p.settings.place());
        check_style(config)?;
        Ok(planned)
    }

    /// The method, ready to edit towards `emotion`.
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
            Baseline::PromptWord(settings) => {
                let (_, run) = self.runs.get(&emotion).expect("the plan opened a run for every emotion");
                Rc::new(PromptWord::new(pipeline, settings, run, emotion, sweep))
            }
            Baseline::SdeditWord(settings) => Rc::new(Sdedit::with_word(pipeline, settings, emotion, sweep)),
            Baseline::SdeditToken(settings) => {
                let (_, run) = self.runs.get(&emotion).expect("the plan opened a run for every emotion");
                Rc::new(Sdedit::with_token(pipeline, settings, run, emotion, sweep)?)
            }
        })
    }
}

/// The run of each emotion, for baselines that use its tokens or its process.
fn runs(key: &str, settings: &Baseline, emotions: &[Emotion]) -> Result<BTreeMap<Emotion, (String, Run)>> {
    let Some(pattern) = settings.run() else { return Ok(BTreeMap::new()) };
    let open = |&emotion: &Emotion| {
        let folder = pattern.replace("{emotion}", emotion.name());
        let run = Run::open(Path::new(&folder))?;
        let refused = |message: String| Err(Error::config(format!("{key}.run"), format!("{folder} {message}")));
        if settings.is_trained() && run.config.tokens.is_none() {
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
        (Some(style), _) => {
            let sources = &config.sources;
            style.check_apart_from(&sources.shards, sources.filter.split.as_ref())
        }
        (None, Some(method)) => {
            let message =
                format!("{} needs images of the emotions: name shards and their training split", method.about().key);
            Err(Error::config("style_images", message))
        }
        (None, None) => Ok(()),
    }
}
