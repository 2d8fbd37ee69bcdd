//! What the judges see in pictures: pixels, classifier probabilities, CLIP embeddings.

use std::path::Path;
use std::rc::Rc;

use diffusion::text::tokenizer::Tokenizer;
use emotions::{template, Emotion};
use image::RgbImage;
use judge::classifier::Classifier;
use judge::embedder::{unit, Embedder};
use judge::networks::inception::Inception;
use tch::{Device, Kind, Tensor};

use crate::config::Template;
use crate::error::{Error, Result};
use crate::evaluation::batch::tensor_of;
use crate::metrics::Observed;

/// The networks that observe pictures.
#[derive(Debug)]
pub struct Observer {
    judges: Vec<Rc<Classifier>>, // at least one
    clip: Rc<Embedder>,
    inception: Option<Inception>,
    tokenizer: Tokenizer,
    device: Device,
}

impl Observer {
    /// Loads the classifier and the scoring CLIP. `classifier_clip` is the folder that a classifier over embeddings
    /// reads them from; by default the scoring CLIP's.
    pub fn load(classifier: &Path, clip: &Path, classifier_clip: Option<&Path>, device: Device) -> Result<Self> {
        let tokenizer = Tokenizer::load(clip)?;
        let scoring = Rc::new(Embedder::load(clip, device)?);
        let other = classifier_clip.filter(|folder| *folder != clip);
        let alone = Self { judges: Vec::new(), clip: scoring, inception: None, tokenizer, device };
        alone.with_judge(classifier, other)
    }

    /// Adds another classifier as a judge; `clip` is the folder that a classifier over embeddings reads them from, by
    /// default the scoring CLIP's.
    pub fn with_judge(mut self, classifier: &Path, clip: Option<&Path>) -> Result<Self> {
        let own = |folder: &Path| Ok(Rc::new(Embedder::load(folder, self.device)?));
        let its_clip = || clip.map_or_else(|| Ok(self.clip.clone()), own);
        let classifier = Classifier::load(classifier, self.device, its_clip).map_err(|error| match error {
            judge::Error::OtherClip { .. } => Error::config("models.classifier_clip", error.to_string()),
            other => other.into(),
        })?;
        self.judges.push(Rc::new(classifier));
        Ok(self)
    }

    /// Computes InceptionV3's features too, if `weights` names its safetensors file.
    pub fn with_inception(mut self, weights: Option<&Path>) -> Result<Self> {
        self.inception = weights.map(|path| Inception::read(path, self.device)).transpose()?;
        Ok(self)
    }

    /// The first judge.
    pub fn classifier(&self) -> &Rc<Classifier> {
        &self.judges[0]
    }

    /// All judges, at least one.
    pub fn judges(&self) -> &[Rc<Classifier>] {
        &self.judges
    }

    /// The scoring CLIP.
    pub fn clip(&self) -> &Embedder {
        &self.clip
    }

    /// Observes pictures of one size as a user gets them, with 8 bits a channel.
    pub fn observe(&self, pictures: &[RgbImage]) -> Observed {
        let _no_grad = tch::no_grad_guard();
        let images = tensor_of(pictures).to_device(self.device);
        let features = self.clip.embeddings(pictures);
        let judged = |judge: &Rc<Classifier>| match judge.embedder() {
            None => judge.probabilities(&images),
            Some(clip) if clip.hash() == self.clip.hash() => judge.probabilities(&features),
            Some(clip) => judge.probabilities(&clip.embeddings(pictures)),
        };
        let mut judged: Vec<Tensor> = self.judges.iter().map(judged).collect();
        let probabilities = judged.remove(0);
        let mut observed = Observed::new((&images + 1.0) / 2.0, probabilities, features);
        observed.further = judged;
        observed.inception = self.inception.as_ref().map(|network| network.features(&observed.images));
        observed
    }

    /// ΔT: the mean over templates of target minus source, scaled to length 1; (1, p).
    pub fn text_direction(&self, templates: &[Template], emotion: Emotion) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let fill = |text: &str| template::fill(text, emotion, None).expect("checked with the recipe");
        let targets: Vec<String> = templates.iter().map(|t| fill(&t.target)).collect();
        let sources: Vec<String> = templates.iter().map(|t| fill(&t.source)).collect();
        unit(&(self.mean_text(&targets) - self.mean_text(&sources)))
    }

    fn mean_text(&self, prompts: &[String]) -> Tensor {
        let ids: Vec<i64> = prompts.iter().flat_map(|p| self.tokenizer.encode(p)).collect();
        let ids = Tensor::from_slice(&ids).view([prompts.len() as i64, -1]).to_device(self.device);
        unit(&self.clip.clip().text_embeds(&ids)).mean_dim(0, true, Kind::Float)
    }
}
