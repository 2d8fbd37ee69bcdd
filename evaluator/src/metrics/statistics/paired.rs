//! The difference of two methods on the same sources: its paired bootstrap interval and p-value (Efron & Tibshirani,
//! *An Introduction to the Bootstrap*, 1993, sections 13.3 and 15.4), and the least difference that so many sources
//! can show.

use serde::Serialize;

use crate::metrics::statistics::bootstrap::{mean, Bootstrap};

/// The standard normal's 97.5 % point, for a two-sided test at 5 %.
const Z_TEST: f64 = 1.959_963_984_540_054;
/// Its 80 % point, for a power of 80 %.
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// A mean difference over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// How many sources have a pair.
    pub n: usize,
    /// The mean over emotions of the mean over sources.
    pub difference: f64,
    /// The 95 % bootstrap interval over sources.
    pub interval: Option<[f64; 2]>,
    /// Two-sided: twice the smaller share of resamples on either side of 0; 0 itself counts on both sides.
    pub p: Option<f64>,
    /// The smallest difference that a two-sided test at 5 % would find in 80 % of such evaluations.
    pub least: Option<f64>,
}

impl Difference {
    /// From `strata`: one row for each emotion, one column for each source, NaN if either has no value; none if no
    /// pair is left.
    pub fn of(strata: &[Vec<f64>], bootstrap: &Bootstrap) -> Option<Self> {
        let difference = mean(strata).filter(|mean| mean.is_finite())?;
        let by_source = by_source(strata);
        let means = bootstrap.means(strata);
        let p = means.as_ref().filter(|means| !means.is_empty()).map(|means| two_sided(means));
        Some(Self {
            n: by_source.len(),
            difference,
            interval: bootstrap.interval(strata),
            p,
            least: least_difference(&by_source),
        })
    }
}

/// Each source's mean over the emotions for which it has a pair.
fn by_source(strata: &[Vec<f64>]) -> Vec<f64> {
    let sources = strata.iter().map(Vec::len).max().unwrap_or(0);
    let column = |source: usize| strata.iter().filter_map(move |row| row.get(source)).filter(|v| !v.is_nan());
    let mean = |source: usize| column(source).sum::<f64>() / column(source).count() as f64;
    (0..sources).map(mean).filter(|mean| !mean.is_nan()).collect()
}

/// The p-value of resampled means. No finite number of resamples is certain, so one more is counted on each side.
fn two_sided(means: &[f64]) -> f64 {
    let share = |beyond: usize| (beyond + 1) as f64 / (means.len() + 1) as f64;
    let below = share(means.iter().filter(|&&mean| mean <= 0.0).count());
    let above = share(means.iter().filter(|&&mean| mean >= 0.0).count());
    (2.0 * below.min(above)).min(1.0)
}

/// (z₀.₉₇₅ + z₀.₈)·s/√n for paired differences with standard deviation s: Chow, Shao & Wang, *Sample Size
/// Calculations in Clinical Research* (2008), section 3.1. None for fewer than two.
pub fn least_difference(differences: &[f64]) -> Option<f64> {
    let n = differences.len() as f64;
    if n < 2.0 || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((Z_TEST + Z_POWER) * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_methods_do_not_differ_and_unpaired_sources_do_not_count() {
        let bootstrap = Bootstrap { samples: 200, seed: 0 };
        let same = Difference::of(&[vec![0.0; 9]], &bootstrap).expect("pairs");
        assert_eq!((same.n, same.difference, same.p, same.least), (9, 0.0, Some(1.0), Some(0.0)));
        let some = Difference::of(&[vec![1.0, f64::NAN, 1.0], vec![1.0, f64::NAN, f64::NAN]], &bootstrap);
        let some = some.expect("pairs");
        assert_eq!((some.n, some.difference), (2, 1.0));
        assert!(some.p.is_some_and(|p| p < 0.02));
        assert_eq!(Difference::of(&[vec![f64::NAN]], &bootstrap), None);
    }
}
