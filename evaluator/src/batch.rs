//! A few photos at once: their pixels, and what every method shares about them, computed by the first that needs it.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use diffusion::edit::Source;
use diffusion::images;
use diffusion::pipeline::Pipeline;
use image::RgbImage;
use tch::Tensor;

/// A few photos at once, and what the methods share about them.
#[derive(Debug)]
pub struct Batch {
    /// Index of the first among all sources.
    pub first: usize,
    /// The pictures.
    pub pictures: Vec<RgbImage>,
    /// Their pixels (b, 3, h, w) in [−1, 1].
    pub images: Tensor,
    encoded: OnceCell<Encoded>,
    inversions: RefCell<Vec<(InversionKey, Rc<Source>)>>,
}

/// What the autoencoder makes of a batch's photos.
#[derive(Debug)]
pub struct Encoded {
    /// The photos on the pipeline's device, (b, 3, h, w) in [−1, 1].
    pub images: Tensor,
    /// Their scaled latents: the posterior's mean × scaling_factor, (b, c, h/f, w/f).
    pub latents: Tensor,
    /// Their latents decoded, (b, 3, h, w).
    pub round_trip: Tensor,
}

/// What an inversion depends on beside the photos: the source prompt and the number of steps.
pub type InversionKey = (String, usize);

impl Batch {
    /// A batch over pictures that are already in memory, all of one size.
    pub fn new(first: usize, pictures: Vec<RgbImage>) -> Self {
        let images = tensor_of(&pictures);
        Self { first, pictures, images, encoded: OnceCell::new(), inversions: RefCell::default() }
    }

    /// The photos' latents and round trips, computed by the first method that needs them. An evaluation has one
    /// `pipeline`, so that every method and emotion shares them.
    pub fn encoded(&self, pipeline: &Pipeline) -> &Encoded {
        self.encoded.get_or_init(|| {
            let _no_grad = tch::no_grad_guard();
            let images = self.images.to_device(pipeline.unet.device());
            let latents = pipeline.latents_from_images(&images);
            Encoded { round_trip: pipeline.images_from_latents(&latents), images, latents }
        })
    }

    /// The photos' inversion under `key`, computed by the first method that needs it.
    pub fn inversion(&self, key: InversionKey, invert: impl FnOnce() -> Source) -> Rc<Source> {
        if let Some((_, source)) = self.inversions.borrow().iter().find(|(k, _)| *k == key) {
            return source.clone();
        }
        let source = Rc::new(invert());
        self.inversions.borrow_mut().push((key, source.clone()));
        source
    }
}

/// Pictures of one size as (b, 3, h, w) in [−1, 1].
pub fn tensor_of(pictures: &[RgbImage]) -> Tensor {
    Tensor::cat(&pictures.iter().map(images::to_tensor).collect::<Vec<_>>(), 0)
}
