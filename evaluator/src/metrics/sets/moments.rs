//! Mean and covariance of a stream of vectors: sums of x and of x·xᵀ in f64, whose size does not depend on their
//! number.
//!
//! Shapes: b batch, d features.

use tch::{Device, Kind, Tensor};

/// The sums over all vectors so far.
#[derive(Debug)]
pub struct Moments {
    sums: Tensor, // (1 + d + d²), f64 on the CPU: the count, Σ x, Σ x·xᵀ
    features: i64,
}

impl Moments {
    /// Empty sums of vectors with `features` numbers.
    pub fn new(features: i64) -> Self {
        Self { sums: Tensor::zeros([1 + features + features * features], (Kind::Double, Device::Cpu)), features }
    }

    /// Adds a batch (b, d).
    pub fn add(&mut self, rows: &Tensor) {
        let rows = rows.to_device(Device::Cpu).to_kind(Kind::Double);
        let count = Tensor::from_slice(&[rows.size()[0] as f64]);
        let sum = rows.sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
        let outer = rows.transpose(0, 1).matmul(&rows).flatten(0, -1);
        self.sums += Tensor::cat(&[count, sum, outer], 0);
    }

    /// How many vectors were added.
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
    fn batches_add_up_to_the_covariance() {
        let rows = Tensor::randn([9, 4], (Kind::Double, Device::Cpu)) + 3.0;
        let mut moments = Moments::new(4);
        moments.add(&rows.narrow(0, 0, 5));
        moments.add(&rows.narrow(0, 5, 4));
        assert_eq!(moments.count(), 9.0);
        let expected = rows.transpose(0, 1).cov(1, None::<Tensor>, None::<Tensor>);
        let difference = (moments.covariance() - expected).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{difference}");
    }
}
