//! What the metrics of whole sets need of a picture: the networks' numbers, which can be stored beside a part.
//!
//! Shapes: n pictures, p CLIP's projection.

use judge::networks::inception::FEATURES;
use tch::{Device, Kind, Tensor};

use crate::metrics::Observed;

/// Emotions, the first columns of a softmax.
const CLASSES: i64 = 8;

/// Numbers of n pictures, f32 on the CPU.
#[derive(Debug)]
pub struct Seen {
    /// CLIP's image embeddings before normalisation.
    pub features: Tensor, // (n, p)
    /// The first judge's probabilities of the eight emotions.
    pub probabilities: Tensor, // (n, 8)
    /// The changes of embeddings of length 1 from source to edit; zero without a source.
    pub changes: Tensor, // (n, p)
    /// InceptionV3's features, if its weights were given.
    pub inception: Option<Tensor>, // (n, 2048)
}

impl Seen {
    /// The pictures of a batch at `rows`; with `sources`, also their changes from these.
    pub fn new(pictures: &Observed, sources: Option<&Observed>, rows: &[i64]) -> Self {
        let rows = Tensor::from_slice(rows).to_device(pictures.embeddings.device());
        let chosen = |tensor: &Tensor| tensor.index_select(0, &rows).to_device(Device::Cpu).to_kind(Kind::Float);
        let embeddings = chosen(&pictures.embeddings);
        Self {
            features: chosen(&pictures.features),
            probabilities: chosen(&pictures.probabilities.narrow(1, 0, CLASSES)),
            changes: sources.map_or_else(|| embeddings.zeros_like(), |from| &embeddings - chosen(&from.embeddings)),
            inception: pictures.inception.as_ref().map(chosen),
        }
    }

    /// Its tensors by name.
    pub fn named(&self) -> Vec<(&'static str, &Tensor)> {
        let mut named =
            vec![("features", &self.features), ("probabilities", &self.probabilities), ("changes", &self.changes)];
        named.extend(self.inception.as_ref().map(|features| ("inception", features)));
        named
    }

    /// The inverse of [`named`](Self::named), from what `take` gives for each name; none if one of them is missing.
    pub fn from_named(mut take: impl FnMut(&str) -> Option<Tensor>) -> Option<Self> {
        Some(Self {
            features: take("features")?,
            probabilities: take("probabilities")?,
            changes: take("changes")?,
            inception: take("inception"),
        })
    }

    /// Whether these are numbers of a CLIP with `projection` features, and with InceptionV3's if `inception`.
    pub fn fits(&self, projection: i64, inception: bool) -> bool {
        let pictures = self.features.size()[0];
        self.features.size() == [pictures, projection]
            && self.changes.size() == [pictures, projection]
            && self.probabilities.size() == [pictures, CLASSES]
            && self.inception.as_ref().map(Tensor::size) == inception.then(|| vec![pictures, FEATURES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use emotions::Emotion;

    /// A judge may know more classes than the eight emotions; the others are no emotions, and sets contain only the
    /// eight.
    #[test]
    fn classes_beside_the_emotions_are_none_of_them() {
        let probabilities = Tensor::zeros([2, 10], (Kind::Float, Device::Cpu));
        let _ = probabilities.get(0).get(9).fill_(0.8);
        let _ = probabilities.get(0).get(7).fill_(0.2);
        let _ = probabilities.get(1).get(2).fill_(0.6);
        let (images, features) =
            (Tensor::zeros([2, 3, 4, 4], (Kind::Float, Device::Cpu)), Tensor::eye(2, (Kind::Float, Device::Cpu)));
        let seen = Observed::new(images, probabilities, features);
        assert_eq!(seen.predicted(), [None, Some(Emotion::Awe)]);
        let rows = Seen::new(&seen, None, &[0, 1]);
        assert!(rows.fits(2, false) && !rows.fits(2, true) && !rows.fits(3, false));
        assert_eq!(rows.probabilities.get(0).double_value(&[7]) as f32, 0.2);
    }
}
