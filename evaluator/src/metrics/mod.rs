//! The metrics, one file each, all with the signature of [`Metric`]: source and edit in, one value an image out.
//!
//! Adding one is adding a file and a line in [`all`]. NaN stands for "undefined for this image" and is left out of
//! means; infinity (the PSNR of equal images) is kept.
//!
//! Shapes: b batch, h height, w width, p CLIP's projection.

pub mod bootstrap;
pub mod clip;
pub mod confusion;
pub mod emotion;
pub mod lpips;
pub mod psnr;
pub mod sharpness;
pub mod ssim;

use dataloader::Emotion;
use serde::Serialize;
use tch::{Kind, Tensor};

/// What the metrics look at in one batch of images: the pixels as a user gets them and what the networks make of them.
#[derive(Debug)]
pub struct Observed {
    /// Pixels that were quantised to 8 bits, in [0, 1].
    pub images: Tensor, // (b, 3, h, w)
    /// The classifier's softmax over [`Emotion::ALL`].
    pub probabilities: Tensor, // (b, 8)
    /// CLIP's image embeddings, of length 1.
    pub embeddings: Tensor, // (b, p)
}

impl Observed {
    /// The class with the highest probability, per image.
    pub fn predicted(&self) -> Vec<Emotion> {
        let classes = self.probabilities.argmax(1, false);
        (0..classes.size()[0]).map(|i| Emotion::ALL[classes.int64_value(&[i]) as usize]).collect()
    }

    /// p(emotion) of each image for that image's emotion.
    pub fn probability_of(&self, emotions: &[Emotion]) -> Vec<f64> {
        let of =
            |(row, emotion): (usize, &Emotion)| self.probabilities.double_value(&[row as i64, emotion.index() as i64]);
        emotions.iter().enumerate().map(of).collect()
    }
}

/// A batch of sources, what a method made of them, and what it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Before.
    pub source: &'a Observed,
    /// After.
    pub edit: &'a Observed,
    /// The emotion asked for, per image.
    pub targets: &'a [Emotion],
    /// ΔT towards that emotion, of length 1, per image.
    pub text_directions: &'a Tensor, // (b, p)
}

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Larger is better.
    Higher,
    /// Smaller is better.
    Lower,
    /// The nearer to 1 the better.
    One,
}

/// How a report names and explains a metric.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct About {
    /// The key in report.json.
    pub key: &'static str,
    /// The column's heading.
    pub title: &'static str,
    /// The definition in one sentence, with its source.
    pub definition: &'static str,
    /// Which way is up.
    pub better: Better,
    /// The unit, empty where there is none.
    pub unit: &'static str,
    /// Decimals in tables.
    pub decimals: usize,
    /// Whether tables show 100 times the value with a percent sign.
    pub percent: bool,
}

/// One number per edited image.
pub trait Metric {
    /// Name and definition.
    fn about(&self) -> About;

    /// One value an image, in order.
    fn values(&self, pair: &Pair<'_>) -> Vec<f64>;
}

/// Every metric of the report, in the order of its columns.
pub fn all(lpips: diffusion::networks::lpips::Lpips) -> Vec<Box<dyn Metric>> {
    vec![
        Box::new(emotion::Accuracy),
        Box::new(emotion::Polarity),
        Box::new(emotion::Shift),
        Box::new(lpips::Distance::new(lpips)),
        Box::new(psnr::Psnr),
        Box::new(ssim::Ssim),
        Box::new(clip::Identity),
        Box::new(clip::Direction),
        Box::new(sharpness::Ratio),
    ]
}

/// A one-dimensional tensor as numbers.
fn numbers(values: &Tensor) -> Vec<f64> {
    let values = values.to_device(tch::Device::Cpu).to_kind(Kind::Double).contiguous();
    Vec::<f64>::try_from(&values).expect("a metric yields a vector of numbers")
}
