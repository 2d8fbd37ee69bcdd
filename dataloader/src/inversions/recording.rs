//! One image's inversion as it is read: the latents follow from the first of them and the outputs.
//!
//! A stored inversion has z_0 and the UNet's output at every timestep in half precision, and no other latent:
//! `z_{k+1} = a·z_k + b·output_k`, with the factors of DDIM's step (Song et al. 2021, eq. 12), gives back every z_k that
//! the UNet saw, bit for bit. ARCHITECTURE.md says why it is this way round.
//!
//! Shapes: b batch, n timesteps, (c·h·w) a latent.

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::columns::{check, CHECKS, LATENT, OUTPUTS};
use crate::error::{Error, Result};
use crate::format::manifest::Latent;
use crate::reading::shard_file::ShardFile;

/// What all inversions of a set have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Shape and scale of the latents.
    pub latent: Latent,
    /// `[a, b]` of each step up, n − 1.
    pub steps: Vec<[f32; 2]>,
}

/// An image's inversion up to some timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    latent: Vec<f16>,
    outputs: Vec<f16>,
}

/// Inversions of a batch, each at a timestep of its own; (b·c·h·w) each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AtTimesteps {
    /// z there.
    pub latent: Vec<f32>,
    /// z one timestep below.
    pub below: Vec<f32>,
    /// The UNet's output for z.
    pub output: Vec<f32>,
}

/// The whole inversion of an image, (n·c·h·w) each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole {
    /// Every z.
    pub latents: Vec<f32>,
    /// The UNet's output for each.
    pub outputs: Vec<f32>,
}

impl Recording {
    /// The number of timesteps, n.
    pub fn num_timesteps(&self) -> usize {
        self.steps.len() + 1
    }

    /// Reads a row of a file up to timestep index `last`, and checks it. The error of a damaged row says what is wrong.
    pub fn read(&self, file: &ShardFile, row: u64, last: usize) -> Result<std::result::Result<Recorded, String>> {
        let (group, row) = file.locate(row)?;
        let (width, mut checks) = (self.latent.len(), vec![0; last + 2]);
        let (mut latent, mut outputs) = (vec![f16::ZERO; width], bytemuck::zeroed_vec::<f16>(width * (last + 1)));
        let (stored, wanted) = (file.binary_width::<f16>(OUTPUTS)?, width * self.num_timesteps());
        if stored != wanted || file.binary_width::<f16>(LATENT)? != width {
            return Ok(Err(format!("{stored} numbers of outputs, {wanted} belong there")));
        }
        file.start_of(CHECKS, group, row, &mut checks)?;
        file.start_of(LATENT, group, row, &mut latent)?;
        file.start_of(OUTPUTS, group, row, &mut outputs)?;
        let mut found = std::iter::once(check(&latent)).chain(outputs.chunks(width).map(check));
        match checks.iter().position(|&stated| found.next() != Some(stated)) {
            None => Ok(Ok(Recorded { latent, outputs })),
            Some(part) => Ok(Err(format!("part {part} of row {row} of group {group} is not what was written"))),
        }
    }

    /// The inversions of a batch: of number `i`, which `read` reads up to the timestep that it is given, at timestep
    /// index `timestep_indices[i]`, which must be above 0.
    pub fn at_timesteps(
        &self, timestep_indices: &[usize], read: impl Fn(usize, usize) -> Result<Recorded> + Sync,
    ) -> Result<AtTimesteps> {
        let width = self.latent.len();
        let zeros = || vec![0.0; width * timestep_indices.len()];
        let mut all = AtTimesteps { latent: zeros(), below: zeros(), output: zeros() };
        let AtTimesteps { latent, below, output } = &mut all;
        let places = latent.par_chunks_mut(width).zip(below.par_chunks_mut(width)).zip(output.par_chunks_mut(width));
        places.zip(timestep_indices.par_iter().enumerate()).try_for_each(|(((latent, below), output), (i, &k))| {
            self.climb(&read(i, k)?, |at, z, found| {
                if at + 1 == k {
                    below.copy_from_slice(z);
                } else if at == k {
                    latent.copy_from_slice(z);
                    output.copy_from_slice(found);
                }
            });
            Ok::<_, Error>(())
        })?;
        Ok(all)
    }

    /// All that was read of an inversion.
    pub fn whole(&self, recorded: &Recorded) -> Whole {
        let mut whole = Whole::default();
        self.climb(recorded, |_, z, output| {
            whole.latents.extend_from_slice(z);
            whole.outputs.extend_from_slice(output);
        });
        whole
    }

    /// Goes up the timesteps; `see` gets each timestep's index, z and output.
    fn climb(&self, recorded: &Recorded, mut see: impl FnMut(usize, &[f32], &[f32])) {
        let (width, scale) = (self.latent.len(), self.latent.scaling_factor as f32);
        let (mut z, mut output) = (vec![0.0; width], vec![0.0; width]);
        recorded.latent.convert_to_f32_slice(&mut z);
        z.iter_mut().for_each(|value| *value *= scale);
        for (k, stored) in recorded.outputs.chunks(width).enumerate() {
            stored.convert_to_f32_slice(&mut output);
            see(k, &z, &output);
            if let Some(&[a, b]) = self.steps.get(k) {
                // As libtorch computes it, so that the latents are those that the UNet saw: no fused operation.
                z.iter_mut().zip(&output).for_each(|(z, output)| *z = *z * a + output * b);
            }
        }
    }
}
