//! When an edit counts as a failure, whatever class it was found to be. A high Emo-A must not hide these.

use serde::Serialize;

use crate::config::FailureLimits;
use crate::scores::Case;

/// The edit is far from its source, or nearer to another one.
pub const LOST: &str = "source lost";
/// The edit is softer than its source.
pub const BLURRED: &str = "blurred";
/// The edit is rougher than its source.
pub const NOISY: &str = "noisy";
/// The method made no edit.
pub const FAILED: &str = "failed";

/// How many of a row's edits fail in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flag {
    /// Which way.
    pub reason: &'static str,
    /// How many edits.
    pub edits: usize,
    /// Out of how many.
    pub of: usize,
}

/// The values of one edit that the limits apply to.
#[derive(Clone, Copy, Debug)]
pub struct Symptoms {
    /// To its source.
    pub lpips: f64,
    /// Edit relative to source.
    pub sharpness: f64,
    /// Whether another source is nearer than its own.
    pub nearer_to_another: bool,
    /// Whether there is no edit.
    pub failed: bool,
}

impl Symptoms {
    /// Those of a case.
    pub fn of(case: &Case) -> Self {
        let (lpips, sharpness) = (case.values["lpips"], case.values["sharpness"]);
        Self { lpips, sharpness, nearer_to_another: case.nearer_to_another, failed: case.failed }
    }

    /// The ways in which it fails.
    pub fn reasons(&self, limits: &FailureLimits) -> Vec<&'static str> {
        let checks = [
            (self.nearer_to_another || self.lpips > limits.lpips_above, LOST),
            (self.sharpness < limits.sharpness_below, BLURRED),
            (self.sharpness > limits.sharpness_above, NOISY),
            (self.failed, FAILED),
        ];
        checks.into_iter().filter_map(|(fails, reason)| fails.then_some(reason)).collect()
    }
}

/// The ways to fail, in the order of their counts.
const REASONS: [&str; 4] = [LOST, BLURRED, NOISY, FAILED];

/// How many edits fail in each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures {
    counts: [usize; REASONS.len()],
    of: usize,
}

impl Failures {
    /// Counts them.
    pub fn count(limits: &FailureLimits, edits: &[Symptoms]) -> Self {
        let reasons: Vec<Vec<&str>> = edits.iter().map(|edit| edit.reasons(limits)).collect();
        let count = |reason| reasons.iter().filter(|reasons| reasons.contains(&reason)).count();
        Self { counts: REASONS.map(count), of: edits.len() }
    }

    /// The ways in which most edits fail.
    pub fn flags(&self) -> Vec<Flag> {
        self.mixed_with(&Self { of: self.of, ..Self::default() }, 1.0)
    }

    /// The ways in which most edits fail if `share` of them are these and the rest are `other`'s, to the nearest
    /// edit.
    pub fn mixed_with(&self, other: &Self, share: f64) -> Vec<Flag> {
        let mixed = |upper: usize, lower: usize| share * upper as f64 + (1.0 - share) * lower as f64;
        let edits = self.counts.iter().zip(other.counts).map(|(&upper, lower)| mixed(upper, lower));
        let most = |edits: &f64| 2.0 * edits > self.of as f64;
        let flags = REASONS.into_iter().zip(edits).filter(|(_, edits)| most(edits));
        flags.map(|(reason, edits)| Flag { reason, edits: edits.round() as usize, of: self.of }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FailureLimits = FailureLimits { lpips_above: 0.3, sharpness_below: 0.5, sharpness_above: 2.0 };

    fn edit(lpips: f64, sharpness: f64) -> Symptoms {
        Symptoms { lpips, sharpness, nearer_to_another: false, failed: false }
    }

    #[test]
    fn failures_are_named_by_their_limits() {
        assert!(edit(0.2, 1.0).reasons(&LIMITS).is_empty());
        assert_eq!(edit(0.4, 0.2).reasons(&LIMITS), [LOST, BLURRED]);
        assert_eq!(edit(0.1, 3.0).reasons(&LIMITS), [NOISY]);
        assert!(edit(0.1, f64::NAN).reasons(&LIMITS).is_empty(), "an undefined ratio is no failure");
        let failed = Symptoms { failed: true, ..edit(f64::NAN, f64::NAN) };
        assert_eq!(failed.reasons(&LIMITS), [FAILED]);
        assert_eq!(Symptoms { nearer_to_another: true, ..edit(0.1, 1.0) }.reasons(&LIMITS), [LOST]);
    }

    #[test]
    fn a_row_is_flagged_where_most_of_its_edits_fail() {
        let flags = |edits: &[Symptoms]| Failures::count(&LIMITS, edits).flags();
        assert!(flags(&[]).is_empty());
        assert!(flags(&[edit(0.4, 1.0), edit(0.1, 1.0)]).is_empty(), "half is not most");
        let lost = Flag { reason: LOST, edits: 2, of: 3 };
        assert_eq!(flags(&[edit(0.4, 1.0), edit(0.5, 0.1), edit(0.1, 1.0)]), [lost]);
    }

    #[test]
    fn a_mix_fails_as_its_shares_do() {
        let all_lost = Failures::count(&LIMITS, &[edit(0.4, 1.0); 4]);
        let none = Failures::count(&LIMITS, &[edit(0.1, 1.0); 4]);
        assert!(all_lost.mixed_with(&none, 0.5).is_empty(), "half is not most");
        assert_eq!(all_lost.mixed_with(&none, 0.75), [Flag { reason: LOST, edits: 3, of: 4 }]);
        assert_eq!(none.mixed_with(&all_lost, 0.25), [Flag { reason: LOST, edits: 3, of: 4 }]);
    }
}
