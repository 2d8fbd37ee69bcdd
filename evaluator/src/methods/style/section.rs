//! The section `style_images` of a recipe.

use std::path::Path;

use dataloader::Filter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The section `style_images`: which images show what an emotion looks like.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StyleImages {
    /// Folder or URL of shards, latents of the evaluated pipeline's VAE.
    pub shards: String,
    /// A filter of the rows; never those of the split that sources are taken from.
    pub filter: Filter,
    /// The most images of each emotion, and of all, evenly spaced in the data set's order.
    #[serde(default)]
    pub max_images: Option<usize>,
}

impl StyleImages {
    /// Refuses rows of the sources' split: a photo must not be edited towards itself.
    pub fn check_apart_from(&self, shards: &str, split: Option<&String>) -> Result<()> {
        let (ours, theirs) = (self.filter.split.as_ref(), split);
        let apart = ours.is_some() && theirs.is_some() && ours != theirs;
        if apart || place_of(&self.shards) != place_of(shards) {
            return Ok(());
        }
        let split = |split: Option<&String>| split.map_or("any", String::as_str).to_string();
        let message = format!(
            "{} of {} holds sources too (theirs is {}): a held-out photo must not show what its edit should look like; \
             name two splits, such as train here and test under sources",
            split(ours),
            self.shards,
            split(theirs),
        );
        Err(Error::config("style_images.filter.split", message))
    }
}

/// A folder by its real path, so that two spellings of one folder are recognised; a URL as it is.
fn place_of(shards: &str) -> String {
    let real = Path::new(shards).canonicalize().map(|path| path.to_string_lossy().into_owned());
    real.unwrap_or_else(|_| shards.trim_end_matches('/').to_string())
}
