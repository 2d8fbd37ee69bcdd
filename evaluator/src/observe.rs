//! What the judges see in pictures: pixels, the classifier's probabilities, CLIP's embeddings.

use std::path::Path;

use dataloader::Emotion;
use diffusion::images::ClipPreprocess;
use diffusion::networks::clip::Clip;
use diffusion::text::tokenizer::Tokenizer;
use image::RgbImage;
use tch::{Device, Kind, Tensor};

use crate::classifier::Classifier;
use crate::config::Template;
use crate::error::Result;
use crate::metrics::Observed;
use crate::sources::tensor_of;

/// The networks that look at pictures.
#[derive(Debug)]
pub struct Observer {
    classifier: Classifier,
    clip: Clip,
    tokenizer: Tokenizer,
    preprocess: ClipPreprocess,
    device: Device,
}

impl Observer {
    /// Loads the classifier and the scoring CLIP.
    pub fn load(classifier: &Path, clip: &Path, device: Device) -> Result<Self> {
        Ok(Self {
            classifier: Classifier::load(classifier, device)?,
            clip: Clip::load(clip, device, Kind::Float)?,
            tokenizer: Tokenizer::load(clip)?,
            preprocess: ClipPreprocess::read(clip)?,
            device,
        })
    }

    /// The classifier.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// Looks at pictures of one size as a user gets them: 8 bits a channel.
    pub fn observe(&self, pictures: &[RgbImage]) -> Observed {
        let _no_grad = tch::no_grad_guard();
        let images = tensor_of(pictures).to_device(self.device);
        let pixel_values: Vec<Tensor> = pictures.iter().map(|p| self.preprocess.from_image(p)).collect();
        let pixel_values = Tensor::cat(&pixel_values, 0).to_device(self.device);
        Observed {
            probabilities: self.classifier.probabilities(&images),
            embeddings: unit(&self.clip.image_embeds(&pixel_values)),
            images: (images + 1.0) / 2.0,
        }
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
        unit(&self.clip.text_embeds(&ids)).mean_dim(0, true, Kind::Float)
    }
}

/// Rows of length 1.
fn unit(rows: &Tensor) -> Tensor {
    rows / rows.square().sum_dim_intlist(-1, true, Kind::Float).sqrt().clamp_min(1e-12)
}
