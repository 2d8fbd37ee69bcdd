//! Dynamic loss scaling (Micikevicius et al. 2018, *Mixed Precision Training*, §3.2): in f16 the loss is multiplied so
//! that small gradients do not round to zero, and the gradient divided again. Constants of torch.amp.GradScaler.

use collective::MixedPrecision;

const INITIAL: f64 = 65536.0;
const GROWTH: f64 = 2.0;
const BACKOFF: f64 = 0.5;
const GROWTH_INTERVAL: u64 = 2000;
/// Below this a smaller scale no longer helps: if a gradient is not finite here, scaling is not the cause.
const LEAST: f64 = 1.0;

/// The factor, and for how many steps it has been in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// A power of two; 1 where nothing is scaled.
    pub factor: f64,
    /// Finite steps since the factor last changed.
    pub steps_held: u64,
    dynamic: bool,
}

impl LossScale {
    /// Scales in f16, and leaves the loss as it is in wider kinds.
    pub fn new(precision: MixedPrecision) -> Self {
        let dynamic = precision == MixedPrecision::Fp16;
        Self { factor: if dynamic { INITIAL } else { 1.0 }, steps_held: 0, dynamic }
    }

    /// Whether a step's gradient may change the factor.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// Restores what a checkpoint kept; a scale that is not dynamic stays 1.
    pub fn restore(&mut self, factor: f64, steps_held: u64) {
        if self.dynamic {
            (self.factor, self.steps_held) = (factor.max(LEAST), steps_held);
        }
    }

    /// Adapts to a step. Returns whether the scale may be the cause of a gradient that was not finite.
    pub fn update(&mut self, finite: bool) -> bool {
        if !self.dynamic {
            return false;
        }
        if !finite {
            let blamed = self.factor > LEAST;
            (self.factor, self.steps_held) = ((self.factor * BACKOFF).max(LEAST), 0);
            return blamed;
        }
        self.steps_held += 1;
        if self.steps_held == GROWTH_INTERVAL {
            (self.factor, self.steps_held) = (self.factor * GROWTH, 0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// tests/fixtures/trainer/make.py: which steps overflowed, and torch.amp.GradScaler's scale after each.
    #[test]
    fn the_factor_is_that_of_gradscaler() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/trainer/loss_scale.json");
        let text = std::fs::read_to_string(path).expect("the fixture is readable");
        let fixture: Vec<(u64, bool, f64)> = serde_json::from_str(&text).expect("the fixture is JSON");
        let mut scale = LossScale::new(MixedPrecision::Fp16);
        for (steps, finite, expected) in fixture {
            (0..steps).for_each(|_| {
                scale.update(finite);
            });
            assert_eq!(scale.factor, expected);
        }
    }

    #[test]
    fn only_f16_is_scaled_and_never_below_one() {
        let mut none = LossScale::new(MixedPrecision::Bf16);
        assert!(!none.update(false));
        assert_eq!(none.factor, 1.0);
        let mut scale = LossScale::new(MixedPrecision::Fp16);
        let blamed: Vec<bool> = (0..18).map(|_| scale.update(false)).collect();
        assert_eq!(blamed.iter().filter(|b| **b).count(), 16, "65536 = 2^16");
        assert_eq!(scale.factor, 1.0);
    }
}
