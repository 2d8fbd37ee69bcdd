//! Learning-rate schedules: the factor of each step's rate. Names as in diffusers' `get_scheduler`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// It does not.
    Constant,
    /// The same; diffusers has this name for a constant rate with a warm-up.
    ConstantWithWarmup,
    /// Linearly.
    Linear,
    /// Along half a cosine.
    Cosine,
    /// Along half a cosine, `lr_num_cycles` times, each from the full rate.
    CosineWithRestarts,
    /// As the power `lr_power` of the remaining share of the run.
    Polynomial,
}

/// A schedule over a run of `max_train_steps`.
#[derive(Clone, Copy, Debug)]
pub struct LrSchedule {
    /// The shape after the warm-up.
    pub kind: LrScheduler,
    /// Steps over which the rate rises from 1/n to 1.
    pub warmup_steps: u64,
    /// Steps of the whole run.
    pub max_train_steps: u64,
    /// The share of the rate that is left at the end.
    pub final_fraction: f64,
    /// Cosines in the run, with restarts.
    pub num_cycles: u64,
    /// The polynomial's power.
    pub power: f64,
}

impl LrSchedule {
    /// The factor of step `step`, counted from 0; the first step of a warm-up of n has 1/n.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.max_train_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / span as f64).min(1.0);
        let left = match self.kind {
            LrScheduler::Constant | LrScheduler::ConstantWithWarmup => return 1.0,
            LrScheduler::Linear => 1.0 - progress,
            LrScheduler::Cosine => half_cosine(progress),
            LrScheduler::CosineWithRestarts if progress >= 1.0 => 0.0,
            LrScheduler::CosineWithRestarts => half_cosine((progress * self.num_cycles as f64).fract()),
            LrScheduler::Polynomial => (1.0 - progress).powf(self.power),
        };
        self.final_fraction + (1.0 - self.final_fraction) * left
    }
}

/// From 1 at 0 to 0 at 1.
fn half_cosine(progress: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [LrScheduler; 6] = [
        LrScheduler::Constant,
        LrScheduler::ConstantWithWarmup,
        LrScheduler::Linear,
        LrScheduler::Cosine,
        LrScheduler::CosineWithRestarts,
        LrScheduler::Polynomial,
    ];

    fn schedule(kind: LrScheduler) -> LrSchedule {
        LrSchedule { kind, warmup_steps: 4, max_train_steps: 14, final_fraction: 0.1, num_cycles: 3, power: 2.0 }
    }

    /// tests/fixtures/trainer/make_schedules.py: `get_scheduler` after a warm-up of 4 of 24 steps.
    #[test]
    fn rates_are_those_of_diffusers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/trainer/schedules.json");
        let text = std::fs::read_to_string(path).expect("the fixture");
        let expected: std::collections::BTreeMap<String, Vec<f64>> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(expected.len(), KINDS.len());
        for (name, rates) in expected {
            let kind: LrScheduler = serde_yaml::from_str(&name).expect("a name of ours");
            let schedule = LrSchedule { final_fraction: 0.0, max_train_steps: 24, ..schedule(kind) };
            for (step, rate) in (4..).zip(rates) {
                let found = schedule.factor(step);
                assert!((found - rate).abs() < 2e-7, "{name}, step {step}: {found}, diffusers says {rate}");
            }
        }
    }

    #[test]
    fn every_shape_warms_up_to_one() {
        for kind in KINDS {
            let factors: Vec<f64> = (0..5).map(|s| schedule(kind).factor(s)).collect();
            assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0], "{kind:?}");
        }
    }

    #[test]
    fn decay_ends_at_the_final_fraction() {
        for kind in [LrScheduler::Linear, LrScheduler::Cosine] {
            assert!((schedule(kind).factor(9) - 0.55).abs() < 1e-12, "{kind:?} half-way");
        }
        for kind in &KINDS[2..] {
            let schedule = schedule(*kind);
            assert!((schedule.factor(14) - 0.1).abs() < 1e-12, "{kind:?} at the end");
            assert!((schedule.factor(1000) - 0.1).abs() < 1e-12, "{kind:?} after the end");
        }
        assert_eq!(schedule(LrScheduler::Constant).factor(13), 1.0);
    }

    #[test]
    fn no_warm_up_and_no_steps_are_not_a_division_by_zero() {
        let schedule = LrSchedule { warmup_steps: 0, max_train_steps: 0, ..schedule(LrScheduler::Linear) };
        assert_eq!(schedule.factor(0), 1.0);
    }
}
