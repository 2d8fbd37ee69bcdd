//! Mean and covariance of vectors that stream by: sums of x and of x·xᵀ in f64, of one size however many there are.
//!
//! Sums add up, so that the parts of several processes are merged by adding them. Shapes: b batch, d features.

use tch::{Device, Kind, Tensor};

/// What is kept of all vectors seen so far.
#[derive(Debug)]
pub struct Moments {
    sums: Tensor, // (1 + d + d²), f64 on the CPU: the count, Σ x, Σ x·xᵀ
    features: i64,
}

impl Moments {
    /// Nothing seen yet, of vectors with `features` numbers.
    pub fn new(features: i64) -> Self {
        Self { sums: Tensor::zeros([1 + features + features * features], (Kind::Double, Device::Cpu)), features }
    }

    /// Sees a batch (b, d).
    pub fn add(&mut self, rows: &Tensor) {
        let rows = rows.to_device(Device::Cpu).to_kind(Kind::Double);
        let count = Tensor::from_slice(&[rows.size()[0] as f64]);
        let sum = rows.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        let outer = rows.transpose(0, 1).matmul(&rows).flatten(0, -1);
        self.sums += Tensor::cat(&[count, sum, outer], 0);
    }

    /// Everything as one vector; the vectors of two parts may be added.
    pub fn sums(&self) -> &Tensor {
        &self.sums
    }

    /// Adds what [`sums`](Self::sums) of another part gave.
    pub fn merge(&mut self, sums: &Tensor) {
        self.sums += sums;
    }

    /// How many vectors were seen.
    pub fn count(&self) -> f64 {
        self.sums.double_value(&[0])
    }

    /// (d)
    pub fn mean(&self) -> Tensor {
        self.sums.narrow(0, 1, self.features) / self.count()
    }

    /// The unbiased covariance (d, d); needs two vectors.
    pub fn covariance(&self) -> Tensor {
        let (mean, d) = (self.mean(), self.features);
        let outer = self.sums.narrow(0, 1 + d, d * d).view([d, d]);
        (outer - mean.outer(&mean) * self.count()) / (self.count() - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole() {
        let rows = Tensor::randn([9, 4], (Kind::Double, Device::Cpu)) + 3.0;
        let (mut whole, mut first, mut second) = (Moments::new(4), Moments::new(4), Moments::new(4));
        whole.add(&rows);
        first.add(&rows.narrow(0, 0, 5));
        second.add(&rows.narrow(0, 5, 4));
        first.merge(second.sums());
        assert_eq!(first.count(), 9.0);
        let difference = (first.covariance() - whole.covariance()).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{difference}");
        let expected = rows.transpose(0, 1).cov(1, None::<Tensor>, None::<Tensor>);
        let difference = (whole.covariance() - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{difference}");
    }
}
