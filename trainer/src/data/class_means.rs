//! The means of image embeddings: of each emotion's images, and of the sources.
//!
//! Shapes: k emotions, p CLIP's projection.

use dataloader::{Filter, RowRef, Stream};
use emotions::Emotion;
use tch::{Kind, Tensor};

use super::{photo_embedding, Data};

impl Data {
    /// Mean of the emotion's image embeddings minus mean of its sources' embeddings (p); each embedding is normalised
    /// first.
    pub fn prototype(&self, k: usize, clip_hash: &str) -> anyhow::Result<Tensor> {
        let images = &self.images[k];
        let of_emotion = mean_embedding(images.rows().iter().map(|row| (images.as_ref(), row)), clip_hash, self)?;
        let of_sources = mean_embedding(self.sources[k].rows().into_iter(), clip_hash, self)?;
        Ok(of_emotion - of_sources)
    }

    /// The mean embedding of every emotion that has images (k, p), and the row of each of `emotions` in it.
    pub fn class_means(&self, emotions: &[Emotion], clip_hash: &str) -> anyhow::Result<(Tensor, Vec<i64>)> {
        let (present, means) = self.means(clip_hash)?;
        let row = |e: &Emotion| present.iter().position(|p| p == e).expect("opened: each emotion has images") as i64;
        Ok((means, emotions.iter().map(row).collect()))
    }

    /// Every emotion that has images, and the mean of its embeddings minus that of the sources' (k, p), not normalised.
    pub fn prototypes(&self, clip_hash: &str) -> anyhow::Result<(Vec<Emotion>, Tensor)> {
        let (present, means) = self.means(clip_hash)?;
        let of_sources = mean_embedding(self.sources[0].rows().into_iter(), clip_hash, self)?;
        Ok((present, means - of_sources))
    }

    /// Every emotion that has images, and the mean of its embeddings (k, p).
    fn means(&self, clip_hash: &str) -> anyhow::Result<(Vec<Emotion>, Tensor)> {
        let (set, filter) = self.image_set.as_ref().expect("resolved: the terms that ask have emotion images");
        let (mut means, mut present) = (Vec::new(), Vec::new());
        for emotion in Emotion::ALL {
            let filter = Filter { emotions: vec![emotion], ..filter.clone() };
            if set.rows(&filter)?.is_empty() {
                continue;
            }
            let stream = Stream::new(set.clone(), &filter, 0)?;
            means.push(mean_embedding(stream.rows().iter().map(|row| (&stream, row)), clip_hash, self)?);
            present.push(emotion);
        }
        Ok((present, Tensor::stack(&means, 0)))
    }
}

fn mean_embedding<'a>(
    rows: impl Iterator<Item = (&'a Stream, &'a RowRef)>, clip_hash: &str, data: &Data,
) -> anyhow::Result<Tensor> {
    data.check_clip(clip_hash)?;
    let mut sum: Option<Tensor> = None;
    let mut count = 0;
    for (stream, row) in rows {
        let embedding = photo_embedding(stream, row)?.to_kind(Kind::Double);
        count += 1;
        sum = Some(sum.map_or(embedding.shallow_clone(), |sum| sum + embedding));
    }
    let sum = sum.expect("a stream has rows");
    Ok((sum / f64::from(count)).to_kind(Kind::Float))
}
