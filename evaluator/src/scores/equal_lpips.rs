//! Methods compared where they change the photo equally: each at the LPIPS of one reference method.
//!
//! Between two strengths that were run, every number is interpolated linearly. A user can reach such a point: it is
//! the mean of edits of which one share is made at the upper strength and the rest at the lower, or not at all.

use std::collections::BTreeMap;

use crate::scores::by_metric::ByMetric;
use crate::scores::failures::Flag;
use crate::scores::rows::{Measure, Row, Summariser};
use crate::scores::{Case, Series};

/// A method at the reference's LPIPS.
#[derive(Clone, Debug)]
pub struct EqualLpips {
    /// The reference method's key.
    pub reference: &'static str,
    /// Which strengths, in which proportion.
    pub mix: Mix,
    /// Number of edits counted.
    pub n: usize,
    /// The metrics of single images; the intervals take the proportion as given.
    pub measures: ByMetric<Measure>,
    /// The ways in which most of its edits fail.
    pub flags: Vec<Flag>,
}

/// Two strengths and the upper one's share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The lower strength; none for the unedited photo.
    pub lower: Option<f64>,
    /// The upper strength.
    pub upper: f64,
    /// The share of the upper strength, 0 to 1.
    pub share: f64,
    /// Whether the largest strength that was run is still below the reference, so that a larger one would come
    /// nearer.
    pub at_the_end: bool,
}

impl Mix {
    /// The point where a curve of (strength, LPIPS), strengths ascending, has LPIPS `bound`. Negative strengths lead
    /// in another direction and are ignored. None for a curve without positive strengths.
    ///
    /// If a curve crosses `bound` several times, the last crossing counts.
    fn at(curve: &[(f64, f64)], bound: f64) -> Option<Self> {
        let curve: Vec<(f64, f64)> = curve.iter().copied().filter(|(strength, _)| *strength > 0.0).collect();
        let below = curve.iter().rposition(|(_, lpips)| *lpips <= bound);
        let (lower, upper) = match below {
            None => (None, *curve.first()?),
            Some(k) if k + 1 == curve.len() => {
                return Some(Self { lower: Some(curve[k].0), upper: curve[k].0, share: 1.0, at_the_end: true });
            }
            Some(k) => (Some(curve[k]), curve[k + 1]),
        };
        let from = lower.map_or(0.0, |(_, lpips)| lpips);
        let share = ((bound - from) / (upper.1 - from)).clamp(0.0, 1.0);
        Some(Self { lower: lower.map(|(strength, _)| strength), upper: upper.0, share, at_the_end: false })
    }

    fn of(self, lower: f64, upper: f64) -> f64 {
        match self.share {
            0.0 => lower, // 0 times an infinite PSNR would be NaN
            1.0 => upper,
            share => (1.0 - share) * lower + share * upper,
        }
    }
}

/// Every method of `curves` except the reference itself, at the LPIPS of the reference's row, by the method's key.
pub(crate) fn compare(
    maker: &Summariser<'_>, rows: &[&Row], curves: &[Vec<Row>], reference: &str,
) -> BTreeMap<&'static str, EqualLpips> {
    let lpips = |row: &Row| row.measures["lpips"].value;
    let row_of = |key: &str| rows.iter().find(|row| row.about.key == key);
    let Some((reference, bound)) = row_of(reference).and_then(|row| Some((row.about.key, lpips(row)?))) else {
        return BTreeMap::new();
    };
    let compared = |curve: &Vec<Row>| {
        let key = curve.first().map(|row| row.about.key).filter(|key| *key != reference)?;
        let points: Vec<(f64, f64)> = curve.iter().filter_map(|row| row.strength.zip(lpips(row))).collect();
        let mix = Mix::at(&points, bound)?;
        let measures =
            maker.scores.metrics.iter().map(|about| (about.key, measure(maker, key, mix, about.key))).collect();
        let (lower, upper) = (maker.failures(key, mix.lower), maker.failures(key, Some(mix.upper)));
        let flags = upper.mixed_with(&lower, mix.share);
        Some((key, EqualLpips { reference, mix, n: row_of(key)?.n, measures, flags }))
    };
    curves.iter().filter_map(compared).collect()
}

/// One metric of the mix, source by source, so that the sources can be resampled.
fn measure(maker: &Summariser<'_>, key: &str, mix: Mix, metric: &str) -> Measure {
    let at = |strength: Option<f64>, emotion| match strength {
        Some(_) => maker.scores.find(key, emotion, strength),
        None => maker.scores.find("no_edit", emotion, None),
    };
    let stratum = |(lower, upper): (&Series, &Series)| {
        let mut values = vec![f64::NAN; maker.sources];
        for (lower, upper) in lower.cases.iter().zip(&upper.cases).filter(|(case, _)| maker.counts(case)) {
            let value = |case: &Case| case.values[metric];
            values[upper.source] = mix.of(value(lower), value(upper));
        }
        values
    };
    let pairs = maker.emotions.iter().filter_map(|&e| at(mix.lower, e).zip(at(Some(mix.upper), e)));
    maker.measure(&pairs.map(stratum).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_met_between_its_strengths() {
        let curve = [(-1.0, 0.2), (0.5, 0.1), (1.0, 0.3), (1.5, 0.2)];
        let mix = |bound| Mix::at(&curve, bound).expect("positive strengths");
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        near(mix(0.05).share, 0.5);
        assert_eq!((mix(0.05).lower, mix(0.05).upper), (None, 0.5), "between no edit and the smallest strength");
        near(mix(0.15).share, 0.25);
        assert_eq!((mix(0.15).lower, mix(0.15).upper), (Some(0.5), 1.0));
        let end = mix(0.25);
        assert_eq!(end, Mix { lower: Some(1.5), upper: 1.5, share: 1.0, at_the_end: true });
        assert_eq!(mix(0.0).share, 0.0, "a reference that changes nothing");
        assert_eq!(Mix::at(&[(-1.0, 0.2)], 0.1), None);
        assert_eq!(Mix::at(&[], 0.1), None);
    }

    #[test]
    fn infinite_values_stay_out_of_what_has_no_share_of_them() {
        let mix = |share| Mix { lower: None, upper: 1.0, share, at_the_end: false };
        assert_eq!(mix(1.0).of(f64::INFINITY, 20.0), 20.0);
        assert_eq!(mix(0.5).of(f64::INFINITY, 20.0), f64::INFINITY);
        assert_eq!(mix(0.25).of(10.0, 20.0), 12.5);
    }
}
