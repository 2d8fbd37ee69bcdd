//! Which images go into which split and shard: everything that is decided before anything is encoded.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::manifest::Quarantined;
use crate::photo;
use crate::sources::{HashSplit, Item, Listing};

/// Images that can be read, in the order of the data set, and those that cannot.
#[derive(Debug, Default)]
pub struct Plan {
    /// By split, sorted by path.
    pub splits: BTreeMap<String, Vec<Planned>>,
    /// Unusable images with reasons, sorted by path.
    pub quarantined: Vec<Quarantined>,
}

/// A readable image.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What the source says of it.
    pub item: Item,
    /// blake3 of its pixels.
    pub image_id: String,
    /// Upright width in pixels.
    pub width: u32,
    /// Upright height in pixels.
    pub height: u32,
}

impl Plan {
    /// Decodes every image once to identify it, then divides them. `each` is called after every image.
    pub fn new(listing: Listing, splits: &HashSplit, each: impl Fn() + Sync) -> Self {
        let looked_at: Vec<Result<Planned, Quarantined>> = listing
            .items
            .into_par_iter()
            .map(|item| {
                let planned = look_at(item);
                each();
                planned
            })
            .collect();
        let mut plan = Self { splits: BTreeMap::new(), quarantined: listing.quarantined };
        let mut images = Vec::with_capacity(looked_at.len());
        for image in looked_at {
            match image {
                Ok(planned) => images.push(planned),
                Err(quarantined) => plan.quarantined.push(quarantined),
            }
        }
        plan.quarantined.sort_by(|a, b| a.path.cmp(&b.path));
        let of_image = splits_by_image(&images, splits);
        for planned in images {
            let split = of_image[&planned.image_id].clone();
            plan.splits.entry(split).or_default().push(planned);
        }
        plan
    }

    /// Readable images.
    pub fn num_images(&self) -> usize {
        self.splits.values().map(Vec::len).sum()
    }

    /// Shards of at most `rows_per_shard` rows: file name, split, images.
    pub fn shards(&self, rows_per_shard: usize) -> Vec<(String, &str, &[Planned])> {
        let mut shards = Vec::new();
        for (split, images) in &self.splits {
            let count = images.len().div_ceil(rows_per_shard);
            for (n, part) in images.chunks(rows_per_shard).enumerate() {
                shards.push((format!("{split}-{n:05}-of-{count:05}.parquet"), split.as_str(), part));
            }
        }
        shards
    }
}

fn look_at(item: Item) -> Result<Planned, Quarantined> {
    match photo::decode(&item) {
        Ok(decoded) => {
            let (image_id, (width, height)) = (photo::image_id(&decoded), decoded.dimensions());
            Ok(Planned { item, image_id, width, height })
        }
        Err(reason) => Err(Quarantined { path: item.path, reason }),
    }
}

/// One split per image id. Copies of an image that were published in several splits all go to the one that is held
/// out most strictly, so that nothing tested on was trained on.
fn splits_by_image(images: &[Planned], splits: &HashSplit) -> BTreeMap<String, String> {
    let mut of_image: BTreeMap<String, String> = BTreeMap::new();
    for planned in images {
        let split = planned.item.split.clone().unwrap_or_else(|| splits.of(&planned.image_id).to_string());
        match of_image.get_mut(&planned.image_id) {
            None => {
                of_image.insert(planned.image_id.clone(), split);
            }
            Some(known) if strictness(&split) > strictness(known) => {
                tracing::warn!("{}: a copy is in {known}; all copies go to {split}", planned.item.path);
                *known = split;
            }
            Some(_) => {}
        }
    }
    of_image
}

fn strictness(split: &str) -> (u8, &str) {
    match split {
        "train" => (0, split),
        "val" => (1, split),
        "test" => (3, split),
        _ => (2, split),
    }
}
