//! True pictures: if a data set has pairs, an edit can be compared with the same subject in the target's state.
//! Several pictures of one subject and state are alternatives, each of them true; the one nearest to the edit by
//! LPIPS counts.
//!
//! Shapes: b batch, m true pictures of a batch, h height, w width.

use diffusion::networks::lpips::Lpips;
use image::RgbImage;
use tch::{no_grad, Kind, Tensor};

use crate::evaluation::batch::tensor_of;
use crate::evaluation::true_pictures::TruePictures;
use crate::metrics::lpips::{features, ALEX};
use crate::metrics::nearest_truth::NearestTruth;
use crate::metrics::{numbers, Observed};

/// True pictures as LPIPS sees them.
#[derive(Debug)]
pub struct SeenTruth {
    owners: Vec<usize>,
    rows: Tensor,          // (m), the owners
    images: Tensor,        // (m, 3, h, w) in [0, 1]
    features: Vec<Tensor>, // (m, …)
    from_source: Vec<f64>, // (m)
}

impl SeenTruth {
    /// Observes true pictures of `source`; none without any.
    pub fn new(truth: &TruePictures, source: &Observed, lpips: &Lpips) -> Option<Self> {
        if truth.pictures.is_empty() {
            return None;
        }
        let device = source.images.device();
        let owners: Vec<usize> = truth.pictures.iter().map(|(owner, _)| *owner).collect();
        let rows: Vec<i64> = owners.iter().map(|&owner| owner as i64).collect();
        let pictures: Vec<RgbImage> = truth.pictures.iter().map(|(_, picture)| picture.clone()).collect();
        let shifted = tensor_of(&pictures).to_device(device);
        let mut seen = Self {
            owners,
            rows: Tensor::from_slice(&rows).to_device(device),
            images: (&shifted + 1.0) / 2.0,
            features: no_grad(|| lpips.unit_features(&shifted)),
            from_source: Vec::new(),
        };
        seen.from_source = seen.distances(source, lpips);
        Some(seen)
    }

    /// LPIPS of each true picture to its own source's picture among `seen`.
    fn distances(&self, seen: &Observed, lpips: &Lpips) -> Vec<f64> {
        let found = features(lpips, ALEX, seen);
        let own: Vec<Tensor> = found.iter().map(|layer| layer.index_select(0, &self.rows)).collect();
        numbers(&no_grad(|| lpips.distance_of(&own, &self.features)))
    }

    /// The true pictures that are nearest to the edits of the batch.
    pub fn nearest(&self, edit: &Observed, lpips: &Lpips) -> NearestTruth {
        let count = edit.images.size()[0] as usize;
        let from_edit = self.distances(edit, lpips);
        let places = |row: usize| (0..self.owners.len()).filter(move |&place| self.owners[place] == row);
        let chosen: Vec<Option<usize>> =
            (0..count).map(|row| places(row).min_by(|&a, &b| from_edit[a].total_cmp(&from_edit[b]))).collect();
        let of = |values: &[f64]| chosen.iter().map(|place| place.map_or(f64::NAN, |place| values[place])).collect();
        let rows: Vec<i64> = chosen.iter().map(|place| place.unwrap_or(0) as i64).collect();
        let rows = Tensor::from_slice(&rows).to_kind(Kind::Int64).to_device(self.images.device());
        NearestTruth {
            images: self.images.index_select(0, &rows),
            from_edit: of(&from_edit),
            from_source: of(&self.from_source),
            drawings: (0..count).map(|row| places(row).count()).collect(),
            chosen,
        }
    }
}
