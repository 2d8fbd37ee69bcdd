//! E_I(decode(P_t(ε))), what the target form of the directional loss compares an edit with. Where P_t(ε) is the
//! inversion's own record it is a function of source and rung alone: made once, before the first step, for the pairs that
//! the run will visit, and shared by every run on the same networks.
//!
//! Shapes: b batch, p CLIP's projection, (c, h, w) a latent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use diffusion::process::ddim::{alpha_bars, predicted_clean, Ladder};
use tch::{Device, Tensor};

use crate::ground::Ground;
use crate::models::Models;
use crate::progress::Progress;
use crate::resolved::Resolved;
use crate::tensor_file;
use crate::trajectories::Trajectories;

const TENSOR: &str = "embedding";

/// A source by its image id, on a rung.
pub type Place<'a> = (&'a str, usize);

/// The cache under one set of networks, one file a source and rung.
#[derive(Clone, Debug)]
pub struct References {
    folder: PathBuf,
    /// Images embedded at once, always: a network's rounding may depend on it.
    block: usize,
}

impl References {
    /// Those for these inversions and networks; none where the recipe compares with something else.
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

    /// Makes what is missing of `places` and remakes what is damaged; the processes of each machine share the work.
    pub fn fill(&self, ground: &Ground<'_>, places: &[Place<'_>]) -> anyhow::Result<()> {
        let world = ground.world;
        let mut places = places.to_vec();
        places.sort_unstable();
        places.dedup();
        let missing: Vec<Place<'_>> = places.into_iter().filter(|place| self.read(*place).is_err()).collect();
        // What is missing must be the same to all before anyone begins to fill it.
        world.barrier()?;
        let blocks: Vec<_> = missing.chunks(self.block).collect();
        let rounds = world.max(blocks.len().div_ceil(world.local_size) as u64)? as usize;
        let visible = world.is_first() && !missing.is_empty();
        let mut progress = Progress::new("embedding sources", "images", 0, missing.len() as u64, visible);
        for round in 0..rounds {
            ground.stop.check()?;
            if let Some(block) = blocks.get(round * world.local_size + world.local_rank) {
                self.make(ground, block)?;
            }
            world.barrier()?;
            progress.set(((round + 1) * world.local_size * self.block).min(missing.len()) as u64, "");
        }
        Ok(())
    }

    fn make(&self, ground: &Ground<'_>, block: &[Place<'_>]) -> anyhow::Result<()> {
        let _no_grad = tch::no_grad_guard();
        let Ground { models, ladder, trajectories, .. } = *ground;
        // A block that is not full is filled up with its first place.
        let full = (0..self.block).map(|k| block.get(k).unwrap_or(&block[0]));
        let (ids, rungs): (Vec<&str>, Vec<usize>) = full.copied().unzip();
        let [latent, _, noise] = trajectories.rungs(&ids, &rungs)?.map(|t| t.to_device(models.device));
        let embed = || embeddings(models, ladder, &rungs, &latent, &noise);
        let made = collective::autocast(models.device, models.kind, embed).to_device(Device::Cpu);
        for (k, &place) in block.iter().enumerate() {
            let path = self.path(place);
            let tensors = BTreeMap::from([(TENSOR.to_string(), made.get(k as i64))]);
            let aside = path.with_extension(format!("writing-{}", std::process::id()));
            std::fs::write(&aside, tensor_file::to_bytes(&tensors)?).with_context(|| aside.display().to_string())?;
            std::fs::rename(&aside, &path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// The embeddings of `places`, (b, p).
    pub fn rows(&self, places: &[Place<'_>]) -> anyhow::Result<Tensor> {
        Ok(Tensor::stack(&places.iter().map(|&place| self.read(place)).collect::<anyhow::Result<Vec<_>>>()?, 0))
    }

    fn read(&self, place: Place<'_>) -> anyhow::Result<Tensor> {
        read(&self.path(place))
    }

    fn path(&self, (id, rung): Place<'_>) -> PathBuf {
        self.folder.join(format!("{id}-{rung}.safetensors"))
    }
}

/// P_t of the inversion's own ε, decoded and embedded before normalisation, (b, p).
fn embeddings(models: &Models, ladder: &Ladder, rungs: &[usize], latent: &Tensor, noise: &Tensor) -> Tensor {
    let timesteps: Vec<i64> = rungs.iter().map(|&k| ladder.timesteps()[k]).collect();
    let here = alpha_bars(&models.pipeline.schedule, &timesteps, models.device);
    models.embed_preview(&predicted_clean(latent, noise, &here))
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
        let write = |tensor: &Tensor| -> anyhow::Result<()> {
            let tensors = BTreeMap::from([(TENSOR.to_string(), tensor.shallow_clone())]);
            Ok(std::fs::write(references.path(("a", 3)), tensor_file::to_bytes(&tensors)?)?)
        };
        write(&embedding)?;
        assert_eq!(references.rows(&[("a", 3), ("a", 3)])?, Tensor::stack(&[&embedding, &embedding], 0));
        let error = format!("{:#}", references.rows(&[("a", 4)]).expect_err("never made"));
        assert!(error.contains("a-4.safetensors") && error.contains("delete"), "{error}");
        write(&(&embedding * f64::NAN))?;
        assert!(references.read(("a", 3)).is_err());
        let whole = std::fs::read(references.path(("a", 3)))?;
        std::fs::write(references.path(("a", 3)), &whole[..whole.len() - 1])?;
        assert!(references.read(("a", 3)).is_err());
        Ok(())
    }
}
