//! The measured thresholds: where the edit begins and where boosting ends. Asyrp (Kwon et al. 2023), sec. 4.2–4.3 and
//! appendix.
//!
//! The paper tuned both on pixel models of 256 px; here they are measured on decoded latents.

use tch::Tensor;

use crate::networks::decoder::LatentDecoder;
use crate::networks::lpips::Lpips;
use crate::process::ddim::{InversionSchedule, Trajectory};
use crate::process::schedule::Schedule;

/// The share of the text cosine that LPIPS must reach at t_edit.
pub const EDIT_SHARE: f64 = 0.33;
/// The LPIPS that z_t must reach at t_boost.
pub const BOOST_LPIPS: f64 = 1.2;

/// What the measurements need.
pub struct Probe<'a> {
    /// Measures the distance.
    pub lpips: &'a Lpips,
    /// Decodes latents for it.
    pub decoder: &'a dyn LatentDecoder,
    /// The schedule of the trajectory.
    pub schedule: &'a Schedule,
    /// Its timesteps.
    pub inversion_schedule: &'a InversionSchedule,
}

impl Probe<'_> {
    /// The smallest t with LPIPS(decode(z_0), decode(P_t)) ≥ 0.33·cos(E_T(source), E_T(target)); the last timestep if
    /// there is none.
    pub fn t_edit(&self, sources: &Trajectory, text_cosine: f64) -> i64 {
        self.first_timestep(sources, EDIT_SHARE * text_cosine, |k, z| {
            self.schedule.clean_from_output(&sources.output(k), z, &[self.inversion_schedule.timesteps()[k]])
        })
    }

    /// The smallest t with LPIPS(decode(z_0), decode(z_t)) ≥ 1.2; 0 (no boosting) if there is none.
    pub fn t_boost(&self, sources: &Trajectory) -> i64 {
        let t = self.first_timestep(sources, BOOST_LPIPS, |_, z| z.shallow_clone());
        if self.inversion_schedule.timesteps().last() == Some(&t) {
            0
        } else {
            t
        }
    }

    fn first_timestep(&self, sources: &Trajectory, bound: f64, view: impl Fn(usize, &Tensor) -> Tensor) -> i64 {
        let _no_grad = tch::no_grad_guard();
        let timesteps = self.inversion_schedule.timesteps();
        let clean = self.decoder.decode_scaled(&sources.latent(0));
        let reached = (0..timesteps.len()).find(|&k| {
            let seen = self.decoder.decode_scaled(&view(k, &sources.latent(k)));
            self.lpips.distance(&clean, &seen).mean(tch::Kind::Double).double_value(&[]) >= bound
        });
        reached.map_or(timesteps[timesteps.len() - 1], |k| timesteps[k])
    }
}
