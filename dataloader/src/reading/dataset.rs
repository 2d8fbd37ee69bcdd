//! A data set of images: its rows, found by their light columns and read one by one.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use half::f16;

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::row::{Encoding, Place, Row, RowRef};
use crate::format::schema::Widths;
use crate::reading::batch::{Encodings, Slot};
use crate::reading::filter::Filter;
use crate::reading::shards::Shards;
use crate::store::Access;

/// Images in a folder or object store.
#[derive(Debug)]
pub struct Dataset {
    shards: Shards,
    light: OnceLock<Vec<RowRef>>,
}

impl Dataset {
    /// Opens a folder or URL: reads and checks its manifest. Shards are opened, and their hashes checked, on first use.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, &Access::default())
    }

    /// As [`Dataset::open`], with the object store's settings and cache.
    pub fn open_with(url: &str, access: &Access) -> Result<Self> {
        Self::of(Shards::open(url, access)?)
    }

    /// The images of these shards; refuses shards of inversions.
    pub(crate) fn of(shards: Shards) -> Result<Self> {
        if shards.manifest().inversion.is_some() {
            let message = "holds inversions, no images: name it under data.sources.inversions";
            return Err(Error::invalid(shards.url(), message));
        }
        Ok(Self { shards, light: OnceLock::new() })
    }

    /// The folder or URL.
    pub fn url(&self) -> &str {
        self.shards.url()
    }

    /// What the data set states about itself.
    pub fn manifest(&self) -> &Manifest {
        self.shards.manifest()
    }

    /// Lengths of latents and embeddings.
    pub fn widths(&self) -> Widths {
        let clip = self.manifest().clip.as_ref().and_then(|c| c.dimension).map(|d| d as usize);
        Widths { latent: self.manifest().latent.len(), clip }
    }

    /// Hashes every shard that has not been hashed yet; fails at the first damaged one.
    pub fn verify(&self) -> Result<()> {
        (0..self.manifest().shards.len()).try_for_each(|shard| self.shards.file(shard).map(drop))
    }

    /// Refuses a data set whose latents were made by another autoencoder.
    pub fn check_vae(&self, hash: &str) -> Result<()> {
        let vae = &self.manifest().vae;
        if vae.hash == hash {
            return Ok(());
        }
        Err(Error::invalid(
            self.url(),
            format!(
                "its latents are of the VAE {} (hash {:.12}…), the model's VAE has hash {:.12}…; \
                 re-run `dataloader shard` with the model's VAE",
                vae.name, vae.hash, hash
            ),
        ))
    }

    /// The light columns of the rows that pass the filter, in the data set's order.
    pub fn rows(&self, filter: &Filter) -> Result<Vec<RowRef>> {
        Ok(self.light()?.iter().filter(|row| filter.passes(row)).cloned().collect())
    }

    /// The whole row of `reference`.
    pub fn read(&self, reference: &RowRef) -> Result<Row> {
        let entry = reference.entry.clone();
        Ok(Row { entry, image: self.image(reference)?, encoding: self.encoding(reference)? })
    }

    /// A row's latents and embedding.
    pub fn encoding(&self, reference: &RowRef) -> Result<Encoding> {
        let mut encodings = Encodings::default();
        encodings.slots(1, self.widths()).into_iter().try_for_each(|slot| self.fill(reference, slot))?;
        let Encodings { latent_mean, latent_std, flip_mean, flip_std, clip_embedding } = encodings;
        Ok(Encoding { latent_mean, latent_std, flip_mean, flip_std, clip_embedding })
    }

    /// A row's compressed training image.
    pub fn image(&self, reference: &RowRef) -> Result<Bytes> {
        let Place { shard, group, row } = reference.place;
        self.shards.file(shard as usize)?.image(group as usize, row as usize)
    }

    /// Reads a row's latents and embedding into `slot`, whose sizes are the manifest's.
    pub fn fill(&self, reference: &RowRef, slot: Slot<'_>) -> Result<()> {
        let Place { shard, group, row } = reference.place;
        self.shards.file(shard as usize)?.fill(group as usize, row as usize, slot)
    }

    /// A row's embedding alone, if the data set has them.
    pub fn clip_embedding(&self, reference: &RowRef) -> Result<Option<Vec<f16>>> {
        let Place { shard, group, row } = reference.place;
        self.shards.file(shard as usize)?.clip_embedding(group as usize, row as usize)
    }

    /// All rows of one shard, in its order.
    pub fn shard_rows(&self, shard: usize) -> Result<Vec<Row>> {
        self.references(shard)?.iter().map(|reference| self.read(reference)).collect()
    }

    fn light(&self) -> Result<&[RowRef]> {
        if let Some(rows) = self.light.get() {
            return Ok(rows);
        }
        let rows =
            (0..self.manifest().shards.len()).map(|shard| self.references(shard)).collect::<Result<Vec<_>>>()?.concat();
        Ok(self.light.get_or_init(|| rows))
    }

    /// The light columns of one shard's rows.
    pub(crate) fn references(&self, shard: usize) -> Result<Vec<RowRef>> {
        let (file, stated) = (self.shards.file(shard)?, &self.manifest().shards[shard]);
        let mut rows = Vec::with_capacity(stated.rows as usize);
        for group in 0..file.num_groups() {
            for (row, entry) in file.entries(group)?.into_iter().enumerate() {
                if entry.split != stated.split {
                    let message = format!("row {} is of split {:?}", entry.path, entry.split);
                    return Err(self.shards.damaged(shard, message));
                }
                let place = Place { shard: shard as u32, group: group as u32, row: row as u32 };
                rows.push(RowRef { place, entry: Arc::new(entry) });
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::format::manifest;
    use crate::making::staging::tests::write_dataset;
    use crate::reading::inspect::inspect;
    use crate::reading::verify::verify;
    use emotions::Emotion;

    fn url(folder: &Path) -> String {
        folder.to_string_lossy().into_owned()
    }

    /// All the ways to read.
    fn read_all(folder: &Path) -> Result<usize> {
        let dataset = Dataset::open(&url(folder))?;
        let rows = dataset.rows(&Filter::default())?;
        let read: Result<Vec<_>> = rows.iter().map(|row| dataset.read(row)).collect();
        read.map(|rows| rows.len())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_damaged_file_is_named_and_never_read(file in 0usize..3, place: prop::sample::Index, bit in 0u8..8, cut: bool) {
            let folder = tempfile::tempdir().expect("a folder");
            write_dataset(folder.path(), &[("test", 2), ("train", 5)]);
            let name = ["manifest.json", "test-00000-of-00001.parquet", "train-00000-of-00001.parquet"][file];
            let path = folder.path().join(name);
            let mut bytes = std::fs::read(&path).expect("read");
            let place = place.index(bytes.len());
            if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
            std::fs::write(&path, bytes).expect("written");
            let error = read_all(folder.path()).expect_err("damaged");
            prop_assert!(error.to_string().contains(name), "{}", error);
            prop_assert!(error.is_bad_input());
            let verdict = verify(&url(folder.path()), &Access::default(), &mut |_: &str| ());
            prop_assert!(verdict.map_or(true, |v| !v.is_sound()));
        }
    }

    #[test]
    fn a_shard_cut_off_anywhere_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 2)]);
        let path = folder.path().join("train-00000-of-00001.parquet");
        let file = std::fs::File::options().write(true).open(&path).expect("opened");
        for length in (0..file.metadata().expect("there").len()).rev() {
            file.set_len(length).expect("cut");
            let error = read_all(folder.path()).expect_err("cut off").to_string();
            assert!(error.contains("train-00000-of-00001.parquet"), "{length}: {error}");
        }
    }

    /// The hash is checked before pages are read. Behind it, wrong pages must be an error too, never a panic.
    #[test]
    fn pages_whose_hash_was_made_to_fit_are_read_or_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = write_dataset(folder.path(), &[("train", 2)]);
        let path = folder.path().join("train-00000-of-00001.parquet");
        let bytes = std::fs::read(&path).expect("read");
        let references =
            Dataset::open(&url(folder.path())).expect("a data set").rows(&Filter::default()).expect("rows");
        let mut refused = 0;
        let places: Vec<usize> = (0..bytes.len()).step_by(7).collect();
        for &at in &places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let mut sealed = manifest.clone();
            sealed.shards[0].blake3 = blake3::hash(&damaged).to_hex().to_string();
            std::fs::write(&path, damaged).expect("written");
            std::fs::write(folder.path().join(manifest::FILE), sealed.to_bytes()).expect("written");
            let dataset = Dataset::open(&url(folder.path())).expect("a manifest");
            refused += references.iter().filter(|row| dataset.read(row).is_err()).count();
        }
        assert!(refused > places.len() / 10, "{refused}");
    }

    #[test]
    fn a_missing_shard_and_a_missing_manifest_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 5)]);
        std::fs::remove_file(folder.path().join("train-00000-of-00001.parquet")).expect("removed");
        let error = read_all(folder.path()).expect_err("missing").to_string();
        assert!(error.contains("train-00000") && error.contains("missing"), "{error}");
        std::fs::remove_file(folder.path().join("manifest.json")).expect("removed");
        let error = read_all(folder.path()).expect_err("missing").to_string();
        assert!(error.contains("not a data set"), "{error}");
    }

    #[test]
    fn filters_choose_rows_by_light_columns() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("test", 4), ("train", 9)]);
        let dataset = Dataset::open(&url(folder.path())).expect("a data set");
        let count = |filter: Filter| dataset.rows(&filter).expect("rows").len();
        assert_eq!(count(Filter::default()), 13);
        assert_eq!(count(Filter { split: Some("train".into()), emotions: vec![Emotion::Awe], ..Filter::default() }), 3);
        assert_eq!(count(Filter { without_emotion: Some(Emotion::Awe), ..Filter::default() }), 8);
        assert_eq!(count(Filter { emotions: vec![Emotion::Fear], ..Filter::default() }), 13);
    }

    #[test]
    fn threads_that_share_a_shard_read_what_one_reads() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 700)]);
        let dataset = Dataset::open(&url(folder.path())).expect("a data set");
        let references = dataset.rows(&Filter::default()).expect("rows");
        let alone = dataset.shard_rows(0).expect("readable");
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (dataset, references, alone) = (&dataset, &references, &alone);
                scope.spawn(move || {
                    for round in 0..2000 {
                        let row = (thread * 117 + round * 31) % alone.len();
                        assert!(dataset.read(&references[row]).expect("readable") == alone[row]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_sound_data_set_is_verified_and_described() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("test", 4), ("train", 300)]);
        let mut lines = Vec::new();
        let verdict = verify(&url(folder.path()), &Access::default(), &mut |line: &str| lines.push(line.to_string()))
            .expect("a data set");
        assert!(verdict.is_sound(), "{verdict:?}");
        assert_eq!((verdict.rows, lines.len()), (304, 2));
        let text = inspect(&url(folder.path()), &Access::default(), &[303]).expect("described");
        assert!(text.contains("train/0299.png") && text.contains("latent_mean"), "{text}");
        assert!(inspect(&url(folder.path()), &Access::default(), &[304]).is_err());
    }

    #[test]
    fn a_foreign_vae_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        write_dataset(folder.path(), &[("train", 1)]);
        let dataset = Dataset::open(&url(folder.path())).expect("a data set");
        dataset.check_vae("cd").expect("its own");
        let error = dataset.check_vae("ee").expect_err("foreign").to_string();
        assert!(error.contains("dataloader shard"), "{error}");
    }
}
