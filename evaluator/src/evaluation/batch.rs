//! A few photos at once: their pixels, and what the methods share about them. Whichever method needs a shared result
//! first computes it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Instant;

use diffusion::edit::{Editor, Source};
use diffusion::images;
use diffusion::pipeline::Pipeline;
use emotions::Emotion;
use image::RgbImage;
use tch::{Device, Tensor};

use crate::evaluation::true_pictures::TruePictures;

/// A few photos at once, and the results that the methods share.
#[derive(Debug)]
pub struct Batch {
    /// Index of the first among all sources.
    pub first: usize,
    /// The pictures.
    pub pictures: Vec<RgbImage>,
    /// Their pixels (b, 3, h, w) in [−1, 1].
    pub images: Tensor,
    /// The true pictures of their subjects, by emotion; empty if the data set has no pairs.
    pub truth: BTreeMap<Emotion, TruePictures>,
    encoded: OnceCell<Encoded>,
    inversions: RefCell<Vec<(InversionKey, Rc<Source>, usize)>>, // the last is the index on the stopwatch
    stopwatch: Stopwatch,
}

/// The time of shared results. Only the first method computes them, but every method that uses them is charged for
/// them.
#[derive(Debug, Default)]
struct Stopwatch {
    /// The seconds of each shared result.
    took: RefCell<Vec<f64>>,
    /// Those that the current method has used, and how many there were before.
    used: RefCell<BTreeSet<usize>>,
    known: Cell<usize>,
}

impl Stopwatch {
    fn begin(&self) {
        self.used.borrow_mut().clear();
        self.known.set(self.took.borrow().len());
    }

    fn took(&self, since: Instant) -> usize {
        self.took.borrow_mut().push(since.elapsed().as_secs_f64());
        self.took.borrow().len() - 1
    }
}

/// A batch's photos and their VAE round trip.
#[derive(Debug)]
pub struct Encoded {
    /// The photos on the pipeline's device, (b, 3, h, w) in [−1, 1].
    pub images: Tensor,
    /// Their scaled latents: the posterior's mean × scaling_factor, (b, c, h/f, w/f).
    pub latents: Tensor,
    /// Their latents decoded, (b, 3, h, w).
    pub round_trip: Tensor,
    place: usize, // the index on the stopwatch
}

/// What an inversion depends on beside the photos: the source prompt and the number of steps.
pub type InversionKey = (String, usize);

impl Batch {
    /// A batch over pictures that are already in memory, all of one size.
    pub fn new(first: usize, pictures: Vec<RgbImage>) -> Self {
        let images = tensor_of(&pictures);
        Self {
            first,
            pictures,
            images,
            truth: BTreeMap::new(),
            encoded: OnceCell::new(),
            inversions: RefCell::default(),
            stopwatch: Stopwatch::default(),
        }
    }

    /// The result of `edit`, and the seconds that it takes when one photo is edited alone at one of `strengths`.
    /// Shared results count as if they had been computed for this method.
    pub fn timed<T>(&self, strengths: usize, edit: impl FnOnce() -> T) -> (T, f64) {
        self.stopwatch.begin();
        let begun = Instant::now();
        let made = edit();
        let whole = begun.elapsed().as_secs_f64();
        let took = self.stopwatch.took.borrow();
        let paid: f64 = took[self.stopwatch.known.get()..].iter().sum();
        let shared: f64 = self.stopwatch.used.borrow().iter().map(|&place| took[place]).sum();
        let seconds = shared + (whole - paid).max(0.0) / strengths.max(1) as f64;
        (made, seconds / self.pictures.len().max(1) as f64)
    }

    /// The photos' latents and round trips, computed when a method first needs them. An evaluation has one
    /// `pipeline`, so every method and emotion shares them.
    pub fn encoded(&self, pipeline: &Pipeline) -> &Encoded {
        let encoded = self.encoded.get_or_init(|| {
            let _no_grad = tch::no_grad_guard();
            let begun = Instant::now();
            let images = self.images.to_device(pipeline.unet.device());
            let latents = pipeline.latents_from_images(&images);
            let round_trip = pipeline.images_from_latents(&latents);
            finish(&round_trip);
            Encoded { round_trip, images, latents, place: self.stopwatch.took(begun) }
        });
        self.stopwatch.used.borrow_mut().insert(encoded.place);
        encoded
    }

    /// The photos' inversion by `editor`, for all methods with its source prompt and number of steps.
    pub fn source(&self, editor: &Editor, pipeline: &Rc<Pipeline>) -> Rc<Source> {
        let config = editor.config();
        let key = (config.prompts.source.clone(), config.edit.num_inversion_steps);
        let encoded = self.encoded(pipeline);
        self.inversion(key, || editor.source_from_latents(&encoded.images, &encoded.latents, &encoded.round_trip))
    }

    /// The photos' inversion under `key`, computed when a method first needs it.
    fn inversion(&self, key: InversionKey, invert: impl FnOnce() -> Source) -> Rc<Source> {
        if let Some((_, source, place)) = self.inversions.borrow().iter().find(|(k, ..)| *k == key) {
            self.stopwatch.used.borrow_mut().insert(*place);
            return source.clone();
        }
        let begun = Instant::now();
        let source = Rc::new(invert());
        self.encoded.get().iter().for_each(|encoded| finish(&encoded.images));
        let place = self.stopwatch.took(begun);
        self.stopwatch.used.borrow_mut().insert(place);
        self.inversions.borrow_mut().push((key, source.clone(), place));
        source
    }
}

/// Waits for the device, so that its time is charged to the right work.
pub fn finish(on: &Tensor) {
    if let Device::Cuda(index) = on.device() {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Pictures of one size as (b, 3, h, w) in [−1, 1].
pub fn tensor_of(pictures: &[RgbImage]) -> Tensor {
    Tensor::cat(&pictures.iter().map(images::to_tensor).collect::<Vec<_>>(), 0)
}
