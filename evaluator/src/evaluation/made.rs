//! A method's edits of a batch as a user gets them, and which of them failed: failed edits count as misses and are
//! not left out.

use image::RgbImage;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::evaluation::batch::{finish, Batch};
use crate::methods::{pictures_of, Method};

/// The edits of a batch at one strength.
#[derive(Debug)]
pub struct Made {
    /// The strength; none for methods without one.
    pub strength: Option<f64>,
    /// The edits; a failed one is replaced by its source.
    pub pictures: Vec<RgbImage>,
    /// Which failed.
    pub failed: Vec<bool>,
}

/// Edits a batch by a method at all its strengths; also returns the seconds of one edit made alone.
///
/// An edit fails if the method gave up on the batch, or if a pixel is NaN or infinite. An error of the input ends the
/// whole evaluation.
pub fn make(method: &dyn Method, batch: &Batch) -> Result<(Vec<Made>, f64)> {
    let strengths: Vec<Option<f64>> = match method.strengths() {
        [] => vec![None],
        strengths => strengths.iter().copied().map(Some).collect(),
    };
    let (edits, seconds) = batch.timed(strengths.len(), || {
        let edits = method.edits(batch);
        edits.iter().flatten().for_each(finish);
        edits
    });
    let edits = match edits {
        Ok(edits) => edits.into_iter().map(Some).collect(),
        Err(error) if error.is_bad_input() => return Err(error),
        Err(error) => {
            let last = batch.first + batch.pictures.len();
            tracing::warn!("{} failed on sources {} to {last}: {error}", method.about().name, batch.first + 1);
            strengths.iter().map(|_| None).collect::<Vec<_>>()
        }
    };
    let made = strengths.into_iter().zip(edits).map(|(strength, edits)| made(strength, edits.as_ref(), batch));
    let made: Vec<Made> = made.collect::<Result<_>>()?;
    let failed = made.iter().flat_map(|made| &made.failed).filter(|failed| **failed).count();
    if failed > 0 {
        tracing::warn!("{}: {failed} edits failed from source {} on", method.about().name, batch.first + 1);
    }
    Ok((made, seconds))
}

fn made(strength: Option<f64>, edits: Option<&Tensor>, batch: &Batch) -> Result<Made> {
    let Some(edits) = edits else {
        return Ok(Made { strength, pictures: batch.pictures.clone(), failed: vec![true; batch.pictures.len()] });
    };
    let bad = edits.isfinite().logical_not().to_kind(Kind::Int64);
    let bad = bad.amax([1i64, 2, 3].as_slice(), false);
    let failed: Vec<bool> = (0..batch.pictures.len()).map(|row| bad.int64_value(&[row as i64]) != 0).collect();
    let edits = edits.nan_to_num(0.0, 0.0, 0.0);
    let pictures = pictures_of(&edits)?.into_iter().zip(&batch.pictures).zip(&failed);
    let pictures = pictures.map(|((edit, source), &failed)| if failed { source.clone() } else { edit }).collect();
    Ok(Made { strength, pictures, failed })
}
