//! What the judges see in pictures: pixels, the classifier's probabilities, CLIP's embeddings.

use std::path::Path;
use std::rc::Rc;

use dataloader::Emotion;
use diffusion::text::tokenizer::Tokenizer;
use image::RgbImage;
use judge::classifier::Classifier;
use judge::embedder::{unit, Embedder};
use judge::networks::inception::Inception;
use tch::{Device, Kind, Tensor};

use crate::batch::tensor_of;
use crate::config::Template;
use crate::error::{Error, Result};
use crate::metrics::Observed;

/// The networks that look at pictures.
#[derive(Debug)]
pub struct Observer {
    classifier: Rc<Classifier>,
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
        let its_clip = || other.map_or_else(|| Ok(scoring.clone()), |f| Ok(Rc::new(Embedder::load(f, device)?)));
        let classifier = Classifier::load(classifier, device, its_clip).map_err(|error| match error {
            judge::Error::OtherClip { .. } => Error::config("models.classifier_clip", error.to_string()),
            other => other.into(),
        })?;
        Ok(Self { classifier: Rc::new(classifier), clip: scoring, inception: None, tokenizer, device })
    }

    /// Looks through InceptionV3 as well, if `weights` name its safetensors file.
    pub fn with_inception(mut self, weights: Option<&Path>) -> Result<Self> {
        self.inception = weights.map(|path| Inception::read(path, self.device)).transpose()?;
        Ok(self)
    }

    /// The classifier.
    pub fn classifier(&self) -> &Rc<Classifier> {
        &self.classifier
    }

    /// The scoring CLIP.
    pub fn clip(&self) -> &Embedder {
        &self.clip
    }

    /// Looks at pictures of one size as a user gets them: 8 bits a channel.
    pub fn observe(&self, pictures: &[RgbImage]) -> Observed {
        let _no_grad = tch::no_grad_guard();
        let images = tensor_of(pictures).to_device(self.device);
        let features = self.clip.embeddings(pictures);
        let probabilities = match self.classifier.embedder() {
            None => self.classifier.probabilities(&images),
            Some(clip) if clip.hash() == self.clip.hash() => self.classifier.probabilities(&features),
            Some(clip) => self.classifier.probabilities(&clip.embeddings(pictures)),
        };
        let mut observed = Observed::new((images + 1.0) / 2.0, probabilities, features);
        observed.inception = self.inception.as_ref().map(|network| network.features(&observed.images));
        observed
    }

    /// ΔT: the mean over templates of target minus source, of length 1; (1, p).
    pub fn text_direction(&self, templates: &[Template], emotion: Emotion) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let fill = |text: &str| text.replace("{emotion}", emotion.name());
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
