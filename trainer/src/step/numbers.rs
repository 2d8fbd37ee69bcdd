//! The numbers of one step, by name. Until they are read they are one row on the device; its order is known here
//! alone.

use tch::Tensor;

use crate::objective::losses::Losses;

/// What the host reads of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// The gradient's norm before clipping.
    pub gradient_norm: f64,
    /// Means over all micro-batches of all ranks.
    pub losses: Losses,
    /// How many ranks were asked to stop.
    pub num_asked_to_stop: f64,
}

impl StepNumbers {
    /// The row, f64, of a norm (), losses (a row of [`Losses`]) and a count (1), on the device.
    pub fn row(gradient_norm: &Tensor, losses: &Tensor, num_asked_to_stop: &Tensor) -> Tensor {
        Tensor::cat(&[&gradient_norm.view(1), losses, num_asked_to_stop], 0)
    }

    /// A row that has been read.
    pub fn from_row(row: &[f64]) -> Self {
        let losses = &row[1..1 + Losses::LEN];
        Self { gradient_norm: row[0], losses: Losses::from_row(losses), num_asked_to_stop: row[1 + Losses::LEN] }
    }

    /// Whether the step was made: neither its gradient nor its loss is infinite or NaN.
    pub fn is_finite(&self) -> bool {
        self.gradient_norm.is_finite() && self.losses.total.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let scalar = |x: f64| Tensor::from(x).to_kind(tch::Kind::Float);
        let losses = Losses::row(&scalar(2.0), &[Some(scalar(3.0)), None, Some(scalar(5.0)), None, None, None]);
        assert_eq!(Losses::total_of(&losses).double_value(&[]), 2.0);
        let losses = losses.to_kind(tch::Kind::Double);
        let row = StepNumbers::row(&Tensor::from(1.0), &losses, &Tensor::from_slice(&[7.0]));
        let read = StepNumbers::from_row(&Vec::try_from(row).expect("numbers"));
        let losses = Losses { total: 2.0, terms: [3.0, 0.0, 5.0, 0.0, 0.0, 0.0] };
        assert_eq!(read, StepNumbers { gradient_norm: 1.0, losses, num_asked_to_stop: 7.0 });
        assert!(read.is_finite() && !StepNumbers { gradient_norm: f64::NAN, ..read }.is_finite());
    }
}
