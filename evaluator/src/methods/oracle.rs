//! Control: the true picture through the same autoencoder, with detail restored in the same way.

use std::rc::Rc;

use diffusion::detail::Detail;
use diffusion::pipeline::Pipeline;
use emotions::Emotion;
use image::RgbImage;
use tch::{no_grad, Tensor};

use super::{decoded, About, Method};
use crate::error::Result;
use crate::evaluation::batch::{tensor_of, Batch};

/// Returns the same subject in the target's state, as well as the autoencoder can show it.
#[derive(Debug)]
pub struct Oracle {
    pipeline: Rc<Pipeline>,
    emotion: Emotion,
    detail: Detail,
}

impl Oracle {
    /// Towards `emotion`; `detail` says how the sources' detail is restored.
    pub fn new(pipeline: Rc<Pipeline>, emotion: Emotion, detail: Detail) -> Self {
        Self { pipeline, emotion, detail }
    }
}

impl Method for Oracle {
    fn about(&self) -> About {
        About {
            key: "oracle",
            name: "Oracle",
            definition: "The true picture of the same subject through the same autoencoder and the featured method's \
                         detail: the best that any edit of this model can score. Of several true pictures the first; \
                         sources without one are left out of this row.",
            control: true,
        }
    }

    fn looks_at_emotion(&self) -> bool {
        true
    }

    fn takes(&self, batch: &Batch) -> Vec<bool> {
        let truth = batch.truth.get(&self.emotion);
        (0..batch.pictures.len()).map(|row| truth.is_some_and(|truth| truth.first_of(row).is_some())).collect()
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let truth = batch.truth.get(&self.emotion);
        let of =
            |(row, source): (usize, &RgbImage)| truth.and_then(|truth| truth.first_of(row)).unwrap_or(source).clone();
        let pictures: Vec<RgbImage> = batch.pictures.iter().enumerate().map(of).collect();
        let source = batch.encoded(&self.pipeline);
        let edit = no_grad(|| {
            let latents = self.pipeline.latents_from_images(&tensor_of(&pictures).to_device(source.images.device()));
            decoded(&self.pipeline, source, &latents, self.detail)
        });
        Ok(vec![edit])
    }
}
