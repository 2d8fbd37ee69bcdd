//! Percentile bootstrap intervals: Efron & Tibshirani, *An Introduction to the Bootstrap* (1993), section 13.3.
//!
//! Sources are resampled, not edits: where one source is edited towards several emotions, its edits stay together.

use rand::Rng;

/// How often to resample, and the seed that makes the interval repeatable.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    /// Number of resamples.
    pub samples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// The share of resamples inside an interval.
pub const CONFIDENCE: f64 = 0.95;

impl Bootstrap {
    /// The 95 % interval of [`mean`] over `strata`: one row for each emotion, one column for each source, NaN for no
    /// value.
    ///
    /// None if nothing was measured or a value is infinite.
    pub fn interval(&self, strata: &[Vec<f64>]) -> Option<[f64; 2]> {
        let mut means = self.means(strata)?;
        means.sort_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        (!means.is_empty()).then(|| [percentile(&means, tail), percentile(&means, 1.0 - tail)])
    }

    /// [`mean`] of each resample of `strata`, in the order of the draws; resamples without a value are left out.
    ///
    /// None if nothing was measured or a value is infinite.
    pub fn means(&self, strata: &[Vec<f64>]) -> Option<Vec<f64>> {
        let sources = strata.iter().map(Vec::len).max().unwrap_or(0);
        if sources == 0 || self.samples == 0 || strata.iter().flatten().any(|v| v.is_infinite()) {
            return None;
        }
        let mut generator = diffusion::noise::generator(self.seed, "bootstrap", 0);
        let mut means = Vec::with_capacity(self.samples);
        let mut chosen = vec![0; sources];
        for _ in 0..self.samples {
            chosen.fill_with(|| generator.random_range(0..sources));
            means.extend(mean_of(strata, &chosen));
        }
        Some(means)
    }
}

/// The mean over emotions of the mean over sources; NaN values are left out. None if nothing is left.
pub fn mean(strata: &[Vec<f64>]) -> Option<f64> {
    let sources: Vec<usize> = (0..strata.iter().map(Vec::len).max().unwrap_or(0)).collect();
    mean_of(strata, &sources)
}

fn mean_of(strata: &[Vec<f64>], chosen: &[usize]) -> Option<f64> {
    let (mut total, mut count) = (0.0, 0);
    for stratum in strata {
        let (mut sum, mut n) = (0.0, 0);
        for value in chosen.iter().filter_map(|&i| stratum.get(i)).filter(|v| !v.is_nan()) {
            sum += value;
            n += 1;
        }
        if n > 0 {
            total += sum / f64::from(n);
            count += 1;
        }
    }
    (count > 0).then(|| total / f64::from(count))
}

/// numpy's default percentile (linear interpolation) of sorted values, `share` in [0, 1].
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap { samples: 500, seed: 0 };

    #[test]
    fn the_interval_holds_the_mean_and_is_repeatable() {
        let strata = vec![(0..50).map(|i| f64::from(i % 7)).collect::<Vec<f64>>()];
        let [low, high] = BOOTSTRAP.interval(&strata).expect("there are values");
        let mean = mean(&strata).expect("there are values");
        assert!(low < mean && mean < high, "{low} {mean} {high}");
        assert_eq!(BOOTSTRAP.interval(&strata), Some([low, high]));
    }

    #[test]
    fn missing_values_are_left_out_and_infinite_ones_have_no_interval() {
        assert_eq!(mean(&[vec![1.0, f64::NAN, 3.0]]), Some(2.0));
        assert_eq!(mean(&[vec![f64::NAN], vec![4.0]]), Some(4.0));
        assert_eq!(mean(&[vec![f64::NAN]]), None);
        assert_eq!(mean(&[]), None);
        assert_eq!(BOOTSTRAP.interval(&[vec![1.0, f64::INFINITY]]), None);
        assert_eq!(BOOTSTRAP.interval(&[vec![2.0]]), Some([2.0, 2.0]));
    }

    #[test]
    fn emotions_weigh_the_same_whatever_their_number_of_sources() {
        assert_eq!(mean(&[vec![0.0, 0.0, 0.0, 0.0], vec![1.0]]), Some(0.5));
    }
}
