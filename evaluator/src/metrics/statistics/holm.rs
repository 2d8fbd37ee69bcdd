//! p-values of several tests at once: Holm, *A Simple Sequentially Rejective Multiple Test Procedure* (1979).

/// Holm's adjusted p-values, in the order of `values`. Those below α are significant; the chance that any of them is
/// so by mistake is at most α.
pub fn adjusted(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut adjusted, mut largest) = (vec![1.0; values.len()], 0.0_f64);
    for (rank, &place) in order.iter().enumerate() {
        largest = largest.max((values.len() - rank) as f64 * values[place]).min(1.0);
        adjusted[place] = largest;
    }
    adjusted
}
