//! The values of the objective, by name. On the device they are a row of numbers; its order is known here alone.

use tch::{Kind, Tensor};

/// A term of the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// The directional CLIP loss.
    Direction,
    /// The edit stays near the source.
    Reconstruction,
    /// Denoising of the emotion's images under the tokens.
    Denoising,
    /// The tokens' texts against the emotions' images.
    Alignment,
    /// The edit's change against every emotion's direction.
    Contrast,
    /// Denoising of the emotion's images by Δh alone.
    DeltaDenoising,
}

/// Every term and its name in the log, in the order of the row.
pub const TERMS: [(Term, &str); 6] = [
    (Term::Direction, "direction"),
    (Term::Reconstruction, "reconstruction"),
    (Term::Denoising, "denoising"),
    (Term::Alignment, "alignment"),
    (Term::Contrast, "contrast"),
    (Term::DeltaDenoising, "delta_denoising"),
];

/// The objective's value: of a micro-batch, or the mean over a step's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// The weighted sum.
    pub total: f64,
    /// Each of [`TERMS`], unweighted; 0 where it is switched off.
    pub terms: [f64; TERMS.len()],
}

impl Losses {
    /// Numbers in a row: the total and the terms.
    pub const LEN: usize = 1 + TERMS.len();

    /// The row (LEN) of these scalars, still on the device.
    pub fn row(total: &Tensor, terms: &[Option<Tensor>; TERMS.len()]) -> Tensor {
        let term = |t: &Option<Tensor>| t.as_ref().map_or(total.zeros_like(), |t| t.to_kind(Kind::Float));
        let mut all = vec![total.shallow_clone()];
        all.extend(terms.iter().map(term));
        Tensor::stack(&all, 0)
    }

    /// The total in a row, still on the device.
    pub fn total_of(row: &Tensor) -> Tensor {
        row.get(0)
    }

    /// A row that has been read; it has [`Losses::LEN`] numbers.
    pub fn from_row(row: &[f64]) -> Self {
        let mut terms = [0.0; TERMS.len()];
        terms.copy_from_slice(&row[1..]);
        Self { total: row[0], terms }
    }
}
