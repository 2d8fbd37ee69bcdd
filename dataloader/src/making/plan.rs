//! Which images go into which split and shard, decided before anything is encoded.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::manifest::Quarantined;
use crate::making::identify::Identity;
use crate::sources::{HashSplit, Item};

/// The readable images, in the order of the data set, and the unreadable ones.
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

/// One shard that is to be made.
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
    /// Divides a source's images into splits; each comes with its identity or the reason why it has none.
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
        let of_images = splits_of(&images, splits);
        for (planned, split) in images.into_iter().zip(of_images) {
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

/// The split of each image. Images that belong together (copies of an image, pictures of one subject) all go to one
/// split: of those that they were published in, the one held out most strictly. So nothing that is tested on was
/// trained on.
fn splits_of(images: &[Planned], splits: &HashSplit) -> Vec<String> {
    let alone = |Planned { item, identity }: &Planned| {
        let name = item.subject.as_ref().unwrap_or(&identity.image_id);
        item.split.clone().unwrap_or_else(|| splits.of(name).to_string())
    };
    let groups = inseparable(images);
    let mut of_group: BTreeMap<usize, String> = BTreeMap::new();
    for (planned, group) in images.iter().zip(&groups) {
        let split = alone(planned);
        let known = of_group.entry(*group).or_insert_with(|| split.clone());
        if strictness(&split) > strictness(known) {
            *known = split;
        }
    }
    let mut told = BTreeSet::new();
    for (planned, group) in images.iter().zip(&groups) {
        let (split, published) = (&of_group[group], &planned.item.split);
        if published.as_ref().is_some_and(|published| published != split) && told.insert(group) {
            let what = planned.item.subject.as_ref().map_or("a copy".into(), |subject| format!("subject {subject}"));
            tracing::warn!("{}: {what} is in several splits; all its images go to {split}", planned.item.path);
        }
    }
    groups.iter().map(|group| of_group[group].clone()).collect()
}

/// A group number for each image: images are in one group if they have the same pixels or the same subject, directly
/// or through other images.
fn inseparable(images: &[Planned]) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..images.len()).collect();
    fn root(parent: &mut [usize], mut n: usize) -> usize {
        while parent[n] != n {
            parent[n] = parent[parent[n]];
            n = parent[n];
        }
        n
    }
    let (mut first_copy, mut first_of_subject) = (BTreeMap::new(), BTreeMap::new());
    for (n, Planned { item, identity }) in images.iter().enumerate() {
        let copy = *first_copy.entry(&identity.image_id).or_insert(n);
        let sibling = item.subject.as_ref().map(|subject| *first_of_subject.entry(subject).or_insert(n));
        for other in std::iter::once(copy).chain(sibling) {
            let (a, b) = (root(&mut parent, n), root(&mut parent, other));
            parent[a.max(b)] = a.min(b);
        }
    }
    (0..images.len()).map(|n| root(&mut parent, n)).collect()
}

fn strictness(split: &str) -> (u8, &str) {
    match split {
        "train" => (0, split),
        "val" => (1, split),
        "test" => (3, split),
        _ => (2, split),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Content;

    fn image(path: &str, pixels: &str, subject: Option<&str>, split: Option<&str>) -> (Item, Result<Identity, String>) {
        let item = Item {
            path: path.into(),
            content: Content::Bytes(bytes::Bytes::new()),
            split: split.map(str::to_string),
            emotion: None,
            namespace: None,
            label: None,
            subject: subject.map(str::to_string),
            state: None,
            valence: None,
            arousal: None,
            ambiguity: None,
            attributes: serde_json::Value::Null,
        };
        (item, Ok(Identity { image_id: pixels.into(), width: 8, height: 8 }))
    }

    fn splits(images: Vec<(Item, Result<Identity, String>)>, hash: &HashSplit) -> BTreeMap<String, String> {
        let (items, identities) = images.into_iter().unzip();
        let plan = Plan::new(items, identities, vec![], hash);
        let paths = |images: Vec<Planned>| images.into_iter().map(|planned| planned.item.path);
        plan.splits.into_iter().flat_map(|(s, images)| paths(images).map(move |path| (path, s.clone()))).collect()
    }

    #[test]
    fn a_subject_is_never_torn_apart() {
        let hash = HashSplit { test_fraction: 0.4, val_fraction: 0.2, seed: 0 };
        let images = (0..600).map(|n| {
            let subject = format!("person {}", n % 100);
            image(&format!("{n:03}"), &format!("pixels {n}"), Some(&subject), None)
        });
        let found = splits(images.collect(), &hash);
        for n in 0..600 {
            assert_eq!(found[&format!("{n:03}")], found[&format!("{:03}", n % 100)], "{n}");
        }
        let held_out = (0..100).filter(|n| found[&format!("{n:03}")] == "test").count();
        assert!((25..55).contains(&held_out), "{held_out}");
    }

    #[test]
    fn published_splits_that_part_a_subject_give_way_to_the_strictest() {
        let found = splits(
            vec![
                image("a", "1", Some("Ada"), Some("train")),
                image("b", "2", Some("Ada"), Some("test")),
                image("c", "3", Some("Bob"), Some("train")),
                // Bob has a copy of one of Cy's pictures, and Cy is held out.
                image("d", "4", Some("Bob"), Some("train")),
                image("e", "4", Some("Cy"), Some("val")),
                image("f", "5", None, Some("train")),
            ],
            &HashSplit::default(),
        );
        let splits: Vec<&str> = found.values().map(String::as_str).collect();
        assert_eq!(splits, ["test", "test", "val", "val", "val", "train"]);
    }
}
