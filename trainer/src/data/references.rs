//! E_I(decode(P_t(ε))): the target form of the directional loss compares an edit with it. If P_t(ε) is the
//! inversion's own record, it depends on source and timestep alone. Then it is computed once ([`crate::precompute::references`])
//! and shared by every run on the same networks.
//!
//! Shapes: b batch, p CLIP's projection.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tch::Tensor;

use crate::checkpoint::tensor_file;
use crate::config::resolved::Resolved;
use crate::data::trajectories::Trajectories;
use crate::run::models::Models;

const TENSOR: &str = "embedding";

/// A source by its image id, at a timestep index.
pub type Place<'a> = (&'a str, usize);

/// The cache for one set of networks, one file for each source and timestep.
#[derive(Clone, Debug)]
pub struct References {
    folder: PathBuf,
    block: usize,
}

impl References {
    /// The cache for these inversions and networks; none if the recipe compares with something else.
    pub fn open(recipe: &Resolved, models: &Models, trajectories: &Trajectories) -> anyhow::Result<Option<Self>> {
        if !recipe.uses_references() {
            return Ok(None);
        }
        let block = recipe.micro_batch_size();
        let precision = recipe.config.train.mixed_precision.name();
        let clip = &models.loss_clip().hash;
        let key = serde_json::json!([clip, models.preview_hash, recipe.config.model.preview_scale, precision, block]);
        let hash = blake3::hash(key.to_string().as_bytes()).to_hex();
        let folder = trajectories.folder().join(format!("references-{}", &hash[..16]));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Some(Self { folder, block }))
    }

    /// Stores the embedding (p) of a source at a timestep.
    pub fn keep(&self, place: Place<'_>, embedding: &Tensor) -> anyhow::Result<()> {
        let tensors = BTreeMap::from([(TENSOR.to_string(), embedding.shallow_clone())]);
        tensor_file::write_whole(&self.path(place), &tensor_file::to_bytes(&tensors)?)
    }

    /// Whether the embedding of a source at a timestep is stored and whole.
    pub fn has(&self, place: Place<'_>) -> bool {
        self.read(place).is_ok()
    }

    /// Images embedded at once; the number is fixed because a network's rounding may depend on it.
    pub fn block(&self) -> usize {
        self.block
    }

    /// The embeddings of `places`, (b, p).
    pub fn rows(&self, places: &[Place<'_>]) -> anyhow::Result<Tensor> {
        Ok(Tensor::stack(&places.iter().map(|&place| self.read(place)).collect::<anyhow::Result<Vec<_>>>()?, 0))
    }

    fn read(&self, place: Place<'_>) -> anyhow::Result<Tensor> {
        read(&self.path(place))
    }

    fn path(&self, (id, timestep_index): Place<'_>) -> PathBuf {
        self.folder.join(format!("{id}-{timestep_index}.safetensors"))
    }
}

fn read(path: &Path) -> anyhow::Result<Tensor> {
    let hint = || format!("{}: cannot read this embedding; delete the file, it is made again", path.display());
    let bytes = std::fs::read(path).with_context(hint)?;
    let mut tensors = tensor_file::from_bytes(path, &bytes).with_context(hint)?;
    let embedding =
        tensors.remove(TENSOR).filter(|e| e.dim() == 1 && bool::try_from(e.isfinite().all()).unwrap_or(false));
    embedding.with_context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_come_back_and_damage_is_an_error() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let references = References { folder: dir.path().to_path_buf(), block: 2 };
        let embedding = Tensor::from_slice(&[1.0f32, -2.0, 3.0]);
        references.keep(("a", 3), &embedding)?;
        assert_eq!(references.rows(&[("a", 3), ("a", 3)])?, Tensor::stack(&[&embedding, &embedding], 0));
        let error = format!("{:#}", references.rows(&[("a", 4)]).expect_err("never made"));
        assert!(error.contains("a-4.safetensors") && error.contains("delete"), "{error}");
        references.keep(("a", 3), &(&embedding * f64::NAN))?;
        assert!(!references.has(("a", 3)));
        let whole = std::fs::read(references.path(("a", 3)))?;
        std::fs::write(references.path(("a", 3)), &whole[..whole.len() - 1])?;
        assert!(!references.has(("a", 3)));
        Ok(())
    }
}
