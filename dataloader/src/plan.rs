//! Which images go into which split and shard: everything that is decided before anything is encoded.

use std::collections::BTreeMap;

use crate::identify::Identity;
use crate::manifest::Quarantined;
use crate::sources::{HashSplit, Item};

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
    /// Its pixels.
    pub identity: Identity,
}

/// One shard to be.
#[derive(Debug)]
pub struct PlannedShard<'a> {
    /// Its file's name.
    pub file: String,
    /// The split of all its images.
    pub split: &'a str,
    /// Its images.
    pub images: &'a [Planned],
}

impl Plan {
    /// Divides the images of a source, each with its identity or the reason why it has none.
    pub fn new(
        items: Vec<Item>, identities: Vec<Result<Identity, String>>, quarantined: Vec<Quarantined>, splits: &HashSplit,
    ) -> Self {
        let mut plan = Self { splits: BTreeMap::new(), quarantined };
        let mut images = Vec::with_capacity(items.len());
        for (item, identity) in items.into_iter().zip(identities) {
            match identity {
                Ok(identity) => images.push(Planned { item, identity }),
                Err(reason) => plan.quarantined.push(Quarantined { path: item.path, reason }),
            }
        }
        plan.quarantined.sort_by(|a, b| a.path.cmp(&b.path));
        let of_image = splits_by_image(&images, splits);
        for planned in images {
            let split = of_image[&planned.identity.image_id].clone();
            plan.splits.entry(split).or_default().push(planned);
        }
        plan
    }

    /// Readable images.
    pub fn num_images(&self) -> usize {
        self.splits.values().map(Vec::len).sum()
    }

    /// Shards of at most `rows_per_shard` rows.
    pub fn shards(&self, rows_per_shard: usize) -> Vec<PlannedShard<'_>> {
        let mut shards = Vec::new();
        for (split, images) in &self.splits {
            let count = images.len().div_ceil(rows_per_shard);
            for (n, images) in images.chunks(rows_per_shard).enumerate() {
                shards.push(PlannedShard { file: format!("{split}-{n:05}-of-{count:05}.parquet"), split, images });
            }
        }
        shards
    }
}

/// One split per image id. Copies of an image that were published in several splits all go to the one that is held
/// out most strictly, so that nothing tested on was trained on.
fn splits_by_image(images: &[Planned], splits: &HashSplit) -> BTreeMap<String, String> {
    let mut of_image: BTreeMap<String, String> = BTreeMap::new();
    for planned in images {
        let split = planned.item.split.clone().unwrap_or_else(|| splits.of(&planned.identity.image_id).to_string());
        match of_image.get_mut(&planned.identity.image_id) {
            None => {
                of_image.insert(planned.identity.image_id.clone(), split);
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
