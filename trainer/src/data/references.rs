//! E_I(decode(P_t(ε))): the target form of the directional loss compares an edit with it. If P_t(ε) is the
//! inversion's own record, it depends on source and timestep alone. Then it is computed once ([`crate::precompute::references`])
//! and shared by every run on the same networks.
//!
//! Shapes: b batch, p CLIP's projection.

use std::sync::Arc;

use dataloader::inversions::columns::{check, references_batch, Reference, CHECKS, EMBEDDING};
use dataloader::inversions::pool::{Key, Layout, Pool};
use tch::{Device, Kind, Tensor};

use crate::config::resolved::Resolved;
use crate::data::trajectories::Trajectories;
use crate::run::models::Models;

/// A source by its image id, at a timestep index.
pub type Place<'a> = (&'a str, usize);

/// The embeddings for one set of networks, a row for each source and timestep.
#[derive(Clone, Debug)]
pub struct References {
    pool: Arc<Pool>,
    timesteps: Arc<[i64]>,
    width: usize,
}

impl References {
    /// Those for these inversions, over `timesteps`, and networks; none if the recipe compares with something else.
    pub fn open(
        recipe: &Resolved, models: &Models, trajectories: &Trajectories, timesteps: &[i64],
    ) -> anyhow::Result<Option<Self>> {
        if !recipe.uses_references() {
            return Ok(None);
        }
        let (clip, precision) = (models.loss_clip(), recipe.config.train.mixed_precision.name());
        let key = serde_json::json!([clip.hash, models.preview_hash, recipe.config.model.preview_scale, precision]);
        let hash = blake3::hash(key.to_string().as_bytes()).to_hex();
        let folder = trajectories.folder().join(format!("references-{}", &hash[..16]));
        let width = clip.width();
        let pool = Arc::new(Pool::open(&folder, Layout::references(width))?);
        Ok(Some(Self { pool, timesteps: timesteps.into(), width }))
    }

    /// The rows.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Stores the embeddings (b, p) of sources at timesteps.
    pub fn keep(&self, places: &[Place<'_>], embeddings: &Tensor) -> anyhow::Result<()> {
        let embeddings = embeddings.to_device(Device::Cpu).to_kind(Kind::Float);
        let row = |(i, &(id, k)): (usize, &Place<'_>)| {
            let mut embedding = vec![0.0; self.width];
            embeddings.get(i as i64).contiguous().copy_data(&mut embedding, self.width);
            Reference { image_id: id.into(), timestep: self.timesteps[k], embedding }
        };
        let rows: Vec<Reference> = places.iter().enumerate().map(row).collect();
        Ok(self.pool.publish(&references_batch(self.pool.schema(), &rows)?)?)
    }

    /// Whether the embedding of a source at a timestep was there when this process last looked.
    pub fn has(&self, place: Place<'_>) -> bool {
        self.pool.has(&self.key(place))
    }

    /// The embeddings of `places`, (b, p).
    pub fn rows(&self, places: &[Place<'_>]) -> anyhow::Result<Tensor> {
        let mut all = Vec::with_capacity(places.len() * self.width);
        for &place in places {
            all.extend(self.pool.read(&self.key(place), |file, row| {
                let (group, row) = file.locate(row)?;
                let (mut embedding, mut stated) = (vec![0f32; self.width], [0u32]);
                file.start_of(EMBEDDING, group, row, &mut embedding)?;
                file.start_of(CHECKS, group, row, &mut stated)?;
                Ok(match check(&embedding) == stated[0] {
                    true => Ok(embedding),
                    false => Err(format!("row {row} of group {group} is not what was written")),
                })
            })?);
        }
        Ok(Tensor::from_slice(&all).view([places.len() as i64, self.width as i64]))
    }

    fn key(&self, (id, k): Place<'_>) -> Key {
        Key { image_id: id.into(), timestep: Some(self.timesteps[k] as i32) }
    }
}
