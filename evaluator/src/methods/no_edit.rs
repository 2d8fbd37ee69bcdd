//! Control: the source as it is.

use tch::Tensor;

use super::{About, Method};
use crate::error::Result;
use crate::evaluation::batch::Batch;

/// Returns the sources.
#[derive(Debug)]
pub struct NoEdit;

impl Method for NoEdit {
    fn about(&self) -> About {
        About {
            key: "no_edit",
            name: "No edit",
            definition: "The source itself: what the classifier says without any edit.",
            control: true,
        }
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        Ok(vec![batch.images.shallow_clone()])
    }
}
