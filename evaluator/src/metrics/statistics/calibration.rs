//! How far a classifier's confidence is from its accuracy, and the temperature that brings them together: Guo et al.,
//! *On Calibration of Modern Neural Networks* (ICML 2017), eq. 3 and section 4.2.
//!
//! Shapes: n images, k classes.

use tch::{Kind, Tensor};

use crate::metrics::numbers;

/// Bins of equal width between confidence 0 and 1, as in the paper.
const BINS: usize = 15;
/// The range of the temperature search, as natural logarithms, and its precision.
const LOG_TEMPERATURES: [f64; 2] = [-3.0, 3.0];
const SEARCH_STEPS: usize = 60;

/// Expected calibration error of logits (n, k) for labels (n); 0 without images.
pub fn expected_error(logits: &Tensor, labels: &Tensor) -> f64 {
    let (confidences, found) = logits.to_kind(Kind::Double).softmax(-1, Kind::Double).max_dim(1, false);
    let hits = numbers(&found.eq_tensor(labels).to_kind(Kind::Double));
    let (mut sums, total) = ([(0.0, 0.0); BINS], hits.len().max(1) as f64);
    for (confidence, hit) in numbers(&confidences).into_iter().zip(hits) {
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        sums[bin].0 += confidence;
        sums[bin].1 += hit;
    }
    sums.iter().map(|(confidence, hits)| (confidence - hits).abs()).sum::<f64>() / total
}

/// Mean −ln p(label) of logits (n, k) for labels (n).
pub fn negative_log_likelihood(logits: &Tensor, labels: &Tensor) -> f64 {
    let logs = logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
    -logs.gather(1, &labels.unsqueeze(1), false).mean(Kind::Double).double_value(&[])
}

/// The temperature: dividing logits (n, k) by it makes the mean −ln p(label) least; 1 without images.
///
/// The sum is convex in 1/T and so has one minimum in ln T, which golden-section search finds.
pub fn temperature(logits: &Tensor, labels: &Tensor) -> f64 {
    if labels.numel() == 0 {
        return 1.0;
    }
    let loss = |log: f64| negative_log_likelihood(&(logits.to_kind(Kind::Double) / log.exp()), labels);
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let [mut low, mut high] = LOG_TEMPERATURES;
    let (mut left, mut right) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_left, mut at_right) = (loss(left), loss(right));
    for _ in 0..SEARCH_STEPS {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - golden * (high - low);
            at_left = loss(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + golden * (high - low);
            at_right = loss(right);
        }
    }
    ((low + high) / 2.0).exp()
}
