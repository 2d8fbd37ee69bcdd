//! When an edit counts as a failure, whatever class it landed in: the marks that a high Emo-A must not hide.

use serde::Serialize;

use crate::config::FailureLimits;

/// The edit is far from its source.
pub const LOST: &str = "source lost";
/// The edit is softer than its source.
pub const BLURRED: &str = "blurred";
/// The edit is rougher than its source.
pub const NOISY: &str = "noisy";

/// How many of a row's edits fail in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flag {
    /// Which way.
    pub reason: &'static str,
    /// How many edits.
    pub edits: usize,
    /// Of how many.
    pub of: usize,
}

/// What is wrong with an edit of this LPIPS and this sharpness ratio.
pub fn reasons(limits: &FailureLimits, lpips: f64, sharpness: f64) -> Vec<&'static str> {
    let checks = [
        (lpips > limits.lpips_above, LOST),
        (sharpness < limits.sharpness_below, BLURRED),
        (sharpness > limits.sharpness_above, NOISY),
    ];
    checks.into_iter().filter_map(|(fails, reason)| fails.then_some(reason)).collect()
}

/// The ways in which most of a row's edits fail, from (LPIPS, sharpness ratio) of each.
pub fn flags(limits: &FailureLimits, edits: &[(f64, f64)]) -> Vec<Flag> {
    let count = |reason| edits.iter().filter(|(l, s)| reasons(limits, *l, *s).contains(&reason)).count();
    let flag = |reason| Flag { reason, edits: count(reason), of: edits.len() };
    [LOST, BLURRED, NOISY].map(flag).into_iter().filter(|flag| 2 * flag.edits > flag.of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FailureLimits = FailureLimits { lpips_above: 0.3, sharpness_below: 0.5, sharpness_above: 2.0 };

    #[test]
    fn failures_are_named_by_their_limits() {
        assert!(reasons(&LIMITS, 0.2, 1.0).is_empty());
        assert_eq!(reasons(&LIMITS, 0.4, 0.2), [LOST, BLURRED]);
        assert_eq!(reasons(&LIMITS, 0.1, 3.0), [NOISY]);
        assert!(reasons(&LIMITS, 0.1, f64::NAN).is_empty(), "an undefined ratio is no failure");
    }

    #[test]
    fn a_row_is_flagged_where_most_of_its_edits_fail() {
        assert!(flags(&LIMITS, &[]).is_empty());
        assert!(flags(&LIMITS, &[(0.4, 1.0), (0.1, 1.0)]).is_empty(), "half is not most");
        let lost = Flag { reason: LOST, edits: 2, of: 3 };
        assert_eq!(flags(&LIMITS, &[(0.4, 1.0), (0.5, 0.1), (0.1, 1.0)]), [lost]);
    }
}
