//! The strengths that a method is run at; they give the points of its Emo-A–LPIPS curve.

use std::collections::BTreeMap;

/// The strengths that a method is run at.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// Ascending, the headline's among them.
    pub strengths: Vec<f64>,
    /// The strength of the headline table.
    pub headline: f64,
}

impl Sweep {
    /// `strengths` and the headline's: the one that `per_method` names for the method `key`, otherwise `headline`.
    pub fn new(per_method: &BTreeMap<String, f64>, key: &str, strengths: &[f64], headline: f64) -> Self {
        let headline = per_method.get(key).copied().unwrap_or(headline);
        let mut strengths: Vec<f64> = strengths.iter().copied().chain([headline]).collect();
        strengths.sort_by(f64::total_cmp);
        strengths.dedup();
        Self { strengths, headline }
    }
}
