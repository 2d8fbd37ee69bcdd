//! The metrics, one file each, with one of two signatures. [`Metric`] takes source and edit and gives one value for
//! each image. [`SetMetric`] takes the sums over a set of edits and over the target's own images and gives one value.
//!
//! To add one, add a file and a line in [`all`] or [`all_of_sets`]. NaN means "undefined for this image" and is left
//! out of means; infinity (the PSNR of equal images) is kept.
//!
//! Shapes: b batch, h height, w width, p CLIP's projection.

pub mod change_outside;
pub mod clarity;
pub mod clip;
pub mod emoedit;
pub mod emotion;
pub mod esmi;
pub mod lpips;
pub mod nearest_truth;
pub mod psnr;
pub mod sets;
pub mod sharpness;
pub mod ssim;
pub mod statistics;
pub mod truth_gain;
pub mod truth_psnr;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use diffusion::networks::lpips::{Backbone, Lpips};
use emotions::Emotion;
use judge::classifier::Classifier;
use judge::embedder::unit;
use serde::Serialize;
use tch::{Kind, Tensor};

use self::nearest_truth::NearestTruth;
use self::sets::population::Population;

/// What the metrics need of a batch of images: the pixels as a user gets them, and the networks' outputs.
#[derive(Debug)]
pub struct Observed {
    /// Pixels that were quantised to 8 bits, in [0, 1].
    pub images: Tensor, // (b, 3, h, w)
    /// The first judge's softmax over [`Emotion::ALL`] and any further classes.
    pub probabilities: Tensor, // (b, 8 or more)
    /// The other judges'.
    pub further: Vec<Tensor>, // (b, 8 or more) each
    /// CLIP's image embeddings before normalisation.
    pub features: Tensor, // (b, p)
    /// The same with length 1.
    pub embeddings: Tensor, // (b, p)
    /// InceptionV3's features, if its weights were given.
    pub inception: Option<Tensor>, // (b, 2048)
    kept: RefCell<BTreeMap<&'static str, Rc<Vec<Tensor>>>>,
}

impl Observed {
    /// Takes images in [0, 1], the first judge's softmax and CLIP's embeddings before normalisation.
    pub fn new(images: Tensor, probabilities: Tensor, features: Tensor) -> Self {
        let (embeddings, kept) = (unit(&features), RefCell::default());
        Self { images, probabilities, further: Vec::new(), embeddings, features, inception: None, kept }
    }

    /// The number of judges.
    pub fn num_judges(&self) -> usize {
        1 + self.further.len()
    }

    /// The softmax of one judge, counted from 0, (b, 8 or more).
    pub fn judged(&self, judge: usize) -> &Tensor {
        judge.checked_sub(1).map_or(&self.probabilities, |place| &self.further[place])
    }

    /// What a metric computed from these images under `key`, computed once: a source is compared with many edits.
    pub fn kept(&self, key: &'static str, make: impl FnOnce() -> Vec<Tensor>) -> Rc<Vec<Tensor>> {
        if let Some(tensors) = self.kept.borrow().get(key) {
            return tensors.clone();
        }
        let tensors = Rc::new(make());
        self.kept.borrow_mut().insert(key, tensors.clone());
        tensors
    }

    /// The most probable class for the first judge, per image; none if it is none of the eight emotions.
    pub fn predicted(&self) -> Vec<Option<Emotion>> {
        self.predicted_by(0)
    }

    /// The most probable class for a judge, per image; none if it is none of the eight emotions.
    pub fn predicted_by(&self, judge: usize) -> Vec<Option<Emotion>> {
        let classes = self.judged(judge).argmax(1, false);
        (0..classes.size()[0]).map(|i| Emotion::ALL.get(classes.int64_value(&[i]) as usize).copied()).collect()
    }

    /// The first judge's p(emotion) of each image for that image's emotion.
    pub fn probability_of(&self, emotions: &[Emotion]) -> Vec<f64> {
        self.probability_by(0, emotions)
    }

    /// A judge's p(emotion) of each image for that image's emotion.
    pub fn probability_by(&self, judge: usize, emotions: &[Emotion]) -> Vec<f64> {
        let judged = self.judged(judge);
        let of = |(row, emotion): (usize, &Emotion)| judged.double_value(&[row as i64, emotion.index() as i64]);
        emotions.iter().enumerate().map(of).collect()
    }
}

/// A batch of sources, a method's edits of them, and the emotions that were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The sources.
    pub source: &'a Observed,
    /// The edits.
    pub edit: &'a Observed,
    /// The emotion asked for, per image.
    pub targets: &'a [Emotion],
    /// ΔT towards that emotion, of length 1, per image.
    pub text_directions: &'a Tensor, // (b, p)
    /// The true picture of each source in that emotion, if the data set has pairs.
    pub truth: Option<&'a NearestTruth>,
}

/// Which way a metric improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Larger is better.
    Higher,
    /// Smaller is better.
    Lower,
    /// Nearer to 1 is better.
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
    /// Which way it improves.
    pub better: Better,
    /// The unit, empty where there is none.
    pub unit: &'static str,
    /// Decimals in tables.
    pub decimals: usize,
    /// Whether tables show 100 times the value with a percent sign.
    pub percent: bool,
    /// The table that it stands in.
    pub family: Family,
}

/// The tables of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// The deciding metrics: emotion against identity.
    Headline,
    /// The explaining metrics: whole sets, structure, other backbones.
    Further,
    /// EmoEdit's arithmetic, for comparison with its table.
    EmoEdit,
}

/// One number per edited image.
pub trait Metric {
    /// Name and definition.
    fn about(&self) -> About;

    /// One value for each image, in order.
    fn values(&self, pair: &Pair<'_>) -> Vec<f64>;

    /// The value of a failed edit at `row`: none by default. Metrics that count hits count it as a miss.
    fn of_failed(&self, _pair: &Pair<'_>, _row: usize) -> f64 {
        f64::NAN
    }
}

/// One number for all edits of a method towards one emotion.
pub trait SetMetric {
    /// Name and definition.
    fn about(&self) -> About;

    /// The number from the edits' sums and the sums over the target's own images; none if it is undefined.
    fn value(&self, edits: &Population, references: &Population) -> Option<f64>;
}

/// The networks that the metrics use themselves.
#[derive(Debug)]
pub struct Networks {
    /// LPIPS over AlexNet.
    pub lpips: Rc<Lpips>,
    /// LPIPS over VGG-16, if its weights were given.
    pub lpips_vgg: Option<Rc<Lpips>>,
    /// The report's classifier.
    pub classifier: Rc<Classifier>,
    /// The scene and object classifiers of Sem-C, if their weights were given.
    pub clarity: Option<clarity::Clarity>,
}

/// What a recipe asks for beyond what every report has.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Judges, at least one.
    pub judges: usize,
    /// Whether there are true pictures.
    pub truth: bool,
    /// Whether to add EmoEdit's own arithmetic.
    pub emoedit: bool,
}

impl Default for Asked {
    fn default() -> Self {
        Self { judges: 1, truth: false, emoedit: false }
    }
}

/// Every metric of single images, in the order of the report's columns.
pub fn all(networks: Networks, asked: Asked) -> Vec<Box<dyn Metric>> {
    let distance = |network: &Rc<Lpips>, backbone| Box::new(lpips::Distance::new(network.clone(), backbone));
    let mut metrics: Vec<Box<dyn Metric>> = Vec::new();
    metrics.extend((0..asked.judges).map(|judge| Box::new(emotion::Accuracy { judge }) as Box<dyn Metric>));
    metrics.push(Box::new(emotion::Polarity));
    metrics.extend((0..asked.judges).map(|judge| Box::new(emotion::Shift { judge }) as Box<dyn Metric>));
    metrics.push(distance(&networks.lpips, Backbone::Alex));
    if asked.truth {
        metrics.push(Box::new(truth_gain::TruthGain));
        metrics.push(Box::new(change_outside::ChangeOutside));
        metrics.push(Box::new(truth_psnr::TruthPsnr));
    }
    metrics.extend([
        Box::new(psnr::Psnr) as Box<dyn Metric>,
        Box::new(ssim::Ssim),
        Box::new(clip::Identity),
        Box::new(clip::Direction),
        Box::new(sharpness::Ratio),
        Box::new(esmi::Esmi::new(networks.classifier.clone())),
    ]);
    metrics.extend(networks.lpips_vgg.iter().map(|n| distance(n, Backbone::Vgg) as Box<dyn Metric>));
    metrics.extend(networks.clarity.map(|clarity| Box::new(clarity) as Box<dyn Metric>));
    if asked.emoedit {
        metrics.extend(emoedit::all(&networks.lpips));
    }
    metrics
}

/// Every metric of whole sets; their columns follow those of [`all`]. `inception` says whether its features are
/// there.
pub fn all_of_sets(inception: bool) -> Vec<Box<dyn SetMetric>> {
    let mut metrics: Vec<Box<dyn SetMetric>> = vec![Box::new(sets::fid::ClipFid)];
    if inception {
        metrics.push(Box::new(sets::fid::Fid));
    }
    metrics.push(Box::new(sets::kld::Divergence));
    metrics.push(Box::new(sets::diversity::Edits));
    metrics.push(Box::new(sets::diversity::Changes));
    metrics
}

/// A one-dimensional tensor as numbers.
pub(crate) fn numbers(values: &Tensor) -> Vec<f64> {
    let values = values.to_device(tch::Device::Cpu).to_kind(Kind::Double).contiguous();
    Vec::<f64>::try_from(&values).expect("a metric yields a vector of numbers")
}
