//! Learning-rate schedules: what each step's rate is multiplied by. Names as in diffusers' `get_scheduler`.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrScheduler {
    /// It does not.
    Constant,
    /// The same, named as diffusers names it where there is a warm-up.
    ConstantWithWarmup,
    /// In a straight line.
    Linear,
    /// Along half a cosine.
    Cosine,
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
            LrScheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.final_fraction + (1.0 - self.final_fraction) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: LrScheduler) -> LrSchedule {
        LrSchedule { kind, warmup_steps: 4, max_train_steps: 14, final_fraction: 0.1 }
    }

    #[test]
    fn every_shape_warms_up_to_one() {
        for kind in [LrScheduler::Constant, LrScheduler::ConstantWithWarmup, LrScheduler::Linear, LrScheduler::Cosine] {
            let factors: Vec<f64> = (0..5).map(|s| schedule(kind).factor(s)).collect();
            assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0], "{kind:?}");
        }
    }

    #[test]
    fn decay_ends_at_the_final_fraction() {
        for kind in [LrScheduler::Linear, LrScheduler::Cosine] {
            let schedule = schedule(kind);
            assert!((schedule.factor(9) - 0.55).abs() < 1e-12, "{kind:?} half-way");
            assert!((schedule.factor(14) - 0.1).abs() < 1e-12, "{kind:?} at the end");
            assert!((schedule.factor(1000) - 0.1).abs() < 1e-12, "{kind:?} after the end");
        }
        assert_eq!(schedule(LrScheduler::Constant).factor(13), 1.0);
    }

    #[test]
    fn no_warm_up_and_no_steps_are_not_a_division_by_zero() {
        let schedule =
            LrSchedule { kind: LrScheduler::Linear, warmup_steps: 0, max_train_steps: 0, final_fraction: 0.0 };
        assert_eq!(schedule.factor(0), 1.0);
    }
}
