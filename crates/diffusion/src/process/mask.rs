//! Where an edit acts: DiffEdit's mask (Couairon et al. 2023, sec. 3.2), read off the source's recorded inversion.
//!
//! At some timesteps the edit's P_t is compared with the source's, both at the source's own latent. Where they differ
//! much, the edit wants to act; everywhere else the change is set to exactly 0, so that the source stays.
//!
//! Shapes: b batch, (c, h, w) a latent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::networks::unet::Checkpointing;
use crate::process::asyrp::Branch;
use crate::process::ddim::{InversionSchedule, Trajectory};

/// The timesteps that are looked at: below them the pictures are settled, above them the difference has no place.
const TIMESTEPS: std::ops::RangeInclusive<i64> = 250..=700;
/// At most as many timesteps are looked at.
const MOST: usize = 5;
/// The share of a latent's side over which the difference is averaged.
const REACH: i64 = 24;

/// How much of the difference counts as a change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskSettings {
    /// The share of the largest difference at which the mask is one half, above 0 and below 2/3. It rises from 0 at half
    /// of it to 1 at one and a half.
    pub threshold: f64,
}

impl MaskSettings {
    /// What is wrong with the values, if anything is.
    pub fn problem(&self) -> Option<String> {
        let ok = self.threshold > 0.0 && self.threshold < 2.0 / 3.0;
        (!ok).then(|| format!("threshold: {} is not above 0 and below 2/3", self.threshold))
    }

    /// The mask (b, 1, h, w) of `branch`'s edit at strength 1, from 0 to 1, for the sources whose inversion is `source`.
    /// Where source and edit do not differ at all it is 0.
    pub fn measure(&self, branch: &Branch<'_>, inversion_schedule: &InversionSchedule, source: &Trajectory) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let difference = looked_at(inversion_schedule.timesteps())
            .into_iter()
            .map(|k| relative(&difference(branch, inversion_schedule.timesteps()[k], source, k)))
            .reduce(|sum, part| sum + part)
            .expect("invariant: an inversion has timesteps");
        let relative = relative_to_largest(&smooth(&difference));
        // The cubic that rises from 0 to 1 without a corner.
        let x = ((relative / self.threshold) - 0.5).clamp(0.0, 1.0);
        x.square() * (3.0 - 2.0 * x)
    }
}

/// The indices of at most [`MOST`] timesteps inside [`TIMESTEPS`], spread evenly; the middle one if none lies inside.
fn looked_at(timesteps: &[i64]) -> Vec<usize> {
    let inside: Vec<usize> = (1..timesteps.len()).filter(|&k| TIMESTEPS.contains(&timesteps[k])).collect();
    match inside.len() {
        0 => vec![timesteps.len() / 2],
        n if n <= MOST => inside,
        n => (0..MOST).map(|i| inside[i * (n - 1) / (MOST - 1)]).collect(),
    }
}

/// |P_t(ε̃) − P_t(ε)| at the source's own latent, averaged over channels, (b, 1, h, w).
fn difference(branch: &Branch<'_>, timestep: i64, source: &Trajectory, k: usize) -> Tensor {
    let latent = source.latent(k);
    let timesteps = vec![timestep; latent.size()[0] as usize];
    let pass = branch.edited_pass(&branch.source_pass(&latent, &timesteps), 1.0, Checkpointing::Off);
    let edited = branch.clean(&latent, &timesteps, pass.output());
    let own = branch.clean(&latent, &timesteps, &source.output(k));
    (edited - own).abs().mean_dim([1i64].as_slice(), true, Kind::Float)
}

/// Divided by each image's mean, so that every timestep counts alike.
fn relative(map: &Tensor) -> Tensor {
    map / map.mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float).clamp_min(1e-12)
}

fn relative_to_largest(map: &Tensor) -> Tensor {
    map / map.amax([1i64, 2, 3].as_slice(), true).clamp_min(1e-12)
}

/// The mean over a square around each place, of the places inside the picture.
fn smooth(map: &Tensor) -> Tensor {
    let (_, _, height, width) = map.size4().expect("a map has four dimensions");
    let reach = (height.min(width) / REACH).max(1);
    let side = 2 * reach + 1;
    map.avg_pool2d([side, side], [1, 1], [reach, reach], false, false, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_timesteps_are_looked_at() {
        let forty: Vec<i64> = (0..=40).map(|k| k * 999 / 40).collect();
        let chosen: Vec<i64> = looked_at(&forty).into_iter().map(|k| forty[k]).collect();
        assert_eq!((chosen.len(), chosen[0], chosen[4]), (5, 274, 699));
        assert_eq!(looked_at(&[0, 500, 999]), [1]);
        assert_eq!(looked_at(&[0, 100, 999]), [1]);
    }

    #[test]
    fn thresholds_leave_room_for_the_rise() {
        for (threshold, fits) in [(0.35, true), (0.0, false), (0.7, false), (f64::NAN, false)] {
            assert_eq!(MaskSettings { threshold }.problem().is_none(), fits, "{threshold}");
        }
    }
}
