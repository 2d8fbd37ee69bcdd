//! What validation measures on the edits: distance, direction, and the answer of a judge that took part in no loss.
//!
//! Shapes: b images, (h, w) pixels.

use std::rc::Rc;

use diffusion::images;
use diffusion::losses::directional::{cosine, normalise};
use diffusion::networks::lpips::{Backbone, Lpips};
use diffusion::weights::Placement;
use emotions::Emotion;
use judge::{Classifier, Embedder};
use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::failure::{input, refuse};
use crate::run::models::{Folders, Models};
use crate::validation::tags::{CLIP_DIRECTION, EMO_A, EMO_S, LPIPS};

/// The networks that measure the edits.
pub struct ValidationMetrics {
    lpips: Option<Lpips>,
    classifier: Option<Classifier>,
}

/// Sources and their edits towards one emotion.
pub struct Pairs<'a> {
    /// The photos, (b, 3, h, w) in [−1, 1].
    pub sources: &'a Tensor,
    /// The edits as shown, (b, 3, h, w).
    pub edited: &'a Tensor,
    /// The target emotion.
    pub emotion: Emotion,
    /// ΔT (p), if the directional loss is trained.
    pub direction: Option<&'a Tensor>,
}

impl ValidationMetrics {
    /// Loads what the recipe names. A classifier that reads the embeddings of the loss's CLIP is refused: the run is
    /// trained to please that CLIP.
    pub fn load(config: &Config, folders: &Folders, models: &Models) -> anyhow::Result<Self> {
        let validation = &config.validation;
        let placement = Placement { contents: models.contents, ..Placement::new(models.device, Kind::Float) };
        let lpips = validation.lpips.as_ref();
        let lpips = lpips.map(|path| input(Lpips::load_with(path, Backbone::Alex, placement))).transpose()?;
        let clip = || {
            let folder = folders.classifier_clip.as_ref().expect("invariant: found for each classifier that needs one");
            Ok(Rc::new(Embedder::load_with(folder, placement)?))
        };
        let classifier = validation.classifier.as_ref().map(|folder| Classifier::load_with(folder, placement, clip));
        let classifier = input(classifier.transpose())?;
        if let (Some(eyes), Some(loss)) = (classifier.as_ref().and_then(Classifier::embedder), &models.clip) {
            if eyes.hash() == loss.hash {
                return Err(refuse(
                    "validation.classifier: reads the embeddings of model.clip, which is part of the loss; a judge that \
                     shares the loss's eyes cannot judge, use another",
                ));
            }
        }
        Ok(Self { lpips, classifier })
    }

    /// Means over the images, by tag: LPIPS, Emo-A and Emo-S (Yang et al. 2025, *EmoEdit*, section 5.1), and cos(ΔI, ΔT)
    /// by the loss's own CLIP.
    pub fn of(&self, models: &Models, pairs: &Pairs<'_>) -> anyhow::Result<Vec<(&'static str, f64)>> {
        let mean = |values: Tensor| values.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        let mut found = Vec::new();
        if let Some(lpips) = &self.lpips {
            found.push((LPIPS, mean(lpips.distance(pairs.edited, pairs.sources))));
        }
        if let Some(classifier) = &self.classifier {
            let target =
                Emotion::ALL.iter().position(|e| *e == pairs.emotion).expect("invariant: one of the eight") as i64;
            let [before, after] = [pairs.sources, pairs.edited].map(|images| probabilities(classifier, images));
            let (before, after) = (before?, after?);
            found.push((EMO_A, mean(after.argmax(1, false).eq(target))));
            found.push((EMO_S, mean((after - before).select(1, target))));
        }
        if let Some(direction) = pairs.direction {
            let embed = |images| normalise(&models.loss_clip().embed_images(images));
            let turned = normalise(&(embed(pairs.edited) - embed(pairs.sources)));
            found.push((CLIP_DIRECTION, mean(cosine(&turned, direction))));
        }
        Ok(found)
    }
}

/// The classifier's probabilities (b, 8) for the pictures as a user gets them, with 8 bits a channel.
fn probabilities(classifier: &Classifier, shown: &Tensor) -> anyhow::Result<Tensor> {
    let pictures = shown
        .to_device(Device::Cpu)
        .unbind(0)
        .iter()
        .map(images::from_tensor)
        .collect::<diffusion::Result<Vec<_>>>()?;
    let seen = match classifier.embedder() {
        Some(clip) => clip.embeddings(&pictures),
        None => {
            let images: Vec<Tensor> = pictures.iter().map(images::to_tensor).collect();
            Tensor::cat(&images, 0).to_device(shown.device())
        }
    };
    Ok(classifier.probabilities(&seen))
}
