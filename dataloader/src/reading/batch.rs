//! Rows as they go to a device: one array for each column; each row's numbers are read from its page to their place
//! in it.

use std::sync::Arc;

use bytes::Bytes;
use half::f16;

use crate::format::row::Entry;
use crate::format::schema::Widths;

/// Several whole rows. A batch that is filled again reuses its memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The light columns of each row.
    pub entries: Vec<Arc<Entry>>,
    /// The training images, compressed.
    pub images: Vec<Bytes>,
    /// What the models say of them.
    pub encodings: Encodings,
}

/// What the models say of several images, row after row: [`crate::Encoding`] with b rows in each array.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encodings {
    /// Posterior means, (b, c, h, w).
    pub latent_mean: Vec<f16>,
    /// Posterior standard deviations.
    pub latent_std: Vec<f16>,
    /// Posterior means of the mirrored images.
    pub flip_mean: Vec<f16>,
    /// Posterior standard deviations of the mirrored images.
    pub flip_std: Vec<f16>,
    /// CLIP's image embeddings before normalisation, (b, p), if the data set has them.
    pub clip_embedding: Option<Vec<f16>>,
}

/// Where one row's numbers go.
pub struct Slot<'a> {
    /// In the order of [`crate::format::schema::LATENTS`].
    pub latents: [&'a mut [f16]; 4],
    /// The embedding, if the data set has one.
    pub clip_embedding: Option<&'a mut [f16]>,
}

impl Encodings {
    /// Room for `rows` rows, one slot each. Old values are overwritten, not cleared.
    pub(crate) fn slots(&mut self, rows: usize, widths: Widths) -> Vec<Slot<'_>> {
        let Self { latent_mean, latent_std, flip_mean, flip_std, clip_embedding } = self;
        *clip_embedding = widths.clip.map(|_| clip_embedding.take().unwrap_or_default());
        let mut latents =
            [latent_mean, latent_std, flip_mean, flip_std].map(|column| split(column, rows, widths.latent));
        let mut embeddings = clip_embedding.as_mut().zip(widths.clip).map(|(column, width)| split(column, rows, width));
        let slot = |_| Slot {
            latents: latents.each_mut().map(|rows| rows.next().expect("as many as rows")),
            clip_embedding: embeddings.as_mut().map(|rows| rows.next().expect("as many as rows")),
        };
        (0..rows).map(slot).collect()
    }
}

fn split(column: &mut Vec<f16>, rows: usize, width: usize) -> std::slice::ChunksExactMut<'_, f16> {
    column.resize(rows * width, f16::ZERO);
    column.chunks_exact_mut(width.max(1))
}
