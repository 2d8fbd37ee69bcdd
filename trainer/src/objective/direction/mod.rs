//! ΔT, where an edit should go in CLIP's space: from words (StyleGAN-NADA, Gal et al. 2021, sec. 4.1), from the means
//! of images, or from both.
//!
//! Shapes: p CLIP's projection.

pub mod section;

use diffusion::losses::directional::normalise;
use diffusion::tokens::Tokens;
use emotions::{template, Emotion};
use tch::{Kind, Tensor};

use crate::config::resolved::Resolved;
use crate::run::models::LossClip;
use section::{DirectionKind, DirectionSection};

/// The direction of one emotion.
pub struct Direction {
    kind: DirectionKind,
    mix: f64,
    pairs: Vec<(String, String)>,
    follows_token: bool,
    text: Option<Tensor>,      // (p), where no template holds the token
    prototype: Option<Tensor>, // (p)
}

impl Direction {
    /// The direction of the recipe's emotion number `k`; `prototype` is the difference of the means (p), not
    /// normalised.
    pub fn new(recipe: &Resolved, k: usize, clip: &LossClip, prototype: Option<Tensor>) -> anyhow::Result<Self> {
        let token = recipe.placeholders.get(k).map(String::as_str);
        Self::of(&recipe.config.direction, recipe.config.emotions[k], token, clip, prototype)
    }

    /// The direction of any emotion; `token` is its placeholder, if it has one.
    pub fn of(
        section: &DirectionSection, emotion: Emotion, token: Option<&str>, clip: &LossClip, prototype: Option<Tensor>,
    ) -> anyhow::Result<Self> {
        let fill = |text: &str| {
            template::fill(text, emotion, token)
                .map_err(|e| crate::failure::refuse(format!("direction.templates: {e}")))
        };
        let mut pairs = Vec::new();
        for template in &section.templates {
            pairs.push((fill(&template.source)?, fill(&template.target)?));
        }
        let holds_token = |text: &String| text.contains("{token}");
        let follows_token = section.kind != DirectionKind::Prototype
            && section.templates.iter().any(|t| holds_token(&t.source) || holds_token(&t.target));
        if follows_token && !clip.shares_token_table {
            let message = "direction.templates: {token} means nothing to this CLIP, whose token table is not the \
                           text encoder's; write {emotion} or {adjective}";
            return Err(crate::failure::refuse(message));
        }
        let mut direction = Self {
            kind: section.kind,
            mix: section.mix,
            pairs,
            follows_token,
            text: None,
            prototype: prototype.map(|p| normalise(&p)),
        };
        if section.kind != DirectionKind::Prototype && !follows_token {
            direction.text = Some(direction.measured(clip, None)?);
        }
        Ok(direction)
    }

    /// ΔT (p), of length 1, without gradient.
    pub fn vector(&self, clip: &LossClip, tokens: Option<&Tokens>) -> anyhow::Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let text = || match &self.text {
            Some(text) => Ok(text.shallow_clone()),
            None => self.measured(clip, tokens),
        };
        let prototype = || self.prototype.as_ref().expect("resolved: a prototype is made where it is needed");
        Ok(match self.kind {
            DirectionKind::Text => text()?,
            DirectionKind::Prototype => prototype().shallow_clone(),
            DirectionKind::Mixed => normalise(&(text()? * (1.0 - self.mix) + prototype() * self.mix)),
        })
    }

    /// The cosine between the text direction and the image direction, if there are both: a check of the recipe.
    pub fn agreement(&self) -> Option<f64> {
        let (text, prototype) = (self.text.as_ref()?, self.prototype.as_ref()?);
        Some((text * prototype).sum(Kind::Double).double_value(&[]))
    }

    fn measured(&self, clip: &LossClip, tokens: Option<&Tokens>) -> anyhow::Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let embed = |texts: Vec<&str>| -> anyhow::Result<Tensor> {
            Ok(normalise(&clip.embed_texts(&texts, tokens.filter(|_| self.follows_token))?))
        };
        let targets = embed(self.pairs.iter().map(|(_, target)| target.as_str()).collect())?;
        let sources = embed(self.pairs.iter().map(|(source, _)| source.as_str()).collect())?;
        Ok(normalise(&(targets - sources).mean_dim(0, false, Kind::Float)))
    }
}
