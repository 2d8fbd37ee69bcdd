//! The statistics of a stream of pictures: sums, never the pictures.
//!
//! Shapes: b batch, p CLIP's projection.

use judge::networks::inception::FEATURES;
use tch::{Device, Kind, Tensor};

use crate::metrics::sets::moments::Moments;
use crate::metrics::sets::seen::Seen;

/// Changes of an embedding shorter than this have no direction.
const SHORTEST: f64 = 1e-6;

/// The sums over one set: the edits of a method towards one emotion, or an emotion's own images.
#[derive(Debug)]
pub struct Population {
    /// CLIP's image embeddings before normalisation.
    pub features: Moments,
    /// InceptionV3's features, if they are wanted.
    pub inception: Option<Moments>,
    /// CLIP's image embeddings with length 1.
    pub embeddings: UnitSum,
    /// The changes from source to edit between embeddings of length 1, each scaled to length 1.
    pub changes: UnitSum,
    probabilities: Tensor, // (8)
}

/// Sum and number of vectors of length 1.
#[derive(Debug)]
pub struct UnitSum {
    sums: Tensor, // (1 + p), f64 on the CPU: the count, then Σ e
}

impl Population {
    /// Empty sums, for a CLIP with `projection` features; `inception` says whether its features are there too.
    pub fn new(projection: i64, inception: bool) -> Self {
        Self {
            inception: inception.then(|| Moments::new(FEATURES)),
            features: Moments::new(projection),
            embeddings: UnitSum::new(projection),
            changes: UnitSum::new(projection),
            probabilities: Tensor::zeros([8], (Kind::Double, Device::Cpu)),
        }
    }

    /// Adds pictures.
    pub fn add(&mut self, seen: &Seen) {
        let features = seen.features.to_kind(Kind::Double);
        self.features.add(&features);
        if let (Some(moments), Some(features)) = (&mut self.inception, &seen.inception) {
            moments.add(features);
        }
        self.probabilities += seen.probabilities.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        self.changes.add(&seen.changes.to_kind(Kind::Double));
        self.embeddings.add(&features);
    }

    /// How many pictures were added.
    pub fn count(&self) -> f64 {
        self.features.count()
    }

    /// The classifier's mean softmax; none without pictures.
    pub fn mean_probabilities(&self) -> Option<Vec<f64>> {
        let mean = || crate::metrics::numbers(&(&self.probabilities / self.count()));
        (self.count() > 0.0).then(mean)
    }
}

impl UnitSum {
    fn new(features: i64) -> Self {
        Self { sums: Tensor::zeros([1 + features], (Kind::Double, Device::Cpu)) }
    }

    /// Adds vectors (b, p) of any length; vectors of length 0 are left out.
    pub fn add(&mut self, rows: &Tensor) {
        let lengths = rows.square().sum_dim_intlist([1i64].as_slice(), true, Kind::Double).sqrt(); // (b, 1)
        let defined = lengths.ge(SHORTEST).to_kind(Kind::Double);
        let units = rows / lengths.clamp_min(SHORTEST) * &defined;
        let sum = units.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        self.sums += Tensor::cat(&[defined.sum(Kind::Double).view([1]), sum], 0);
    }

    /// How many vectors there are.
    pub fn count(&self) -> f64 {
        self.sums.double_value(&[0])
    }

    /// |Σ e|²
    pub fn squared_length(&self) -> f64 {
        self.sums.narrow(0, 1, self.sums.size()[0] - 1).square().sum(Kind::Double).double_value(&[])
    }
}

impl From<&Tensor> for UnitSum {
    /// The sum over the rows of (b, p).
    fn from(rows: &Tensor) -> Self {
        let mut sum = Self::new(rows.size()[1]);
        sum.add(&rows.to_device(Device::Cpu).to_kind(Kind::Double));
        sum
    }
}
