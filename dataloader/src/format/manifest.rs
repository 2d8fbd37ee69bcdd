//! manifest.json: the content of a data set, and hashes to check it. It is written last; without it there is no data
//! set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::account::Account;
use crate::format::row::Entry;

/// The file's name in a data set's folder.
pub const FILE: &str = "manifest.json";

/// The newest version that this crate writes and reads: data sets with pairs, whose manifest counts their states.
pub const FORMAT_VERSION: u32 = 2;

/// The version of data sets without pairs, which every release reads. Their shards may lack `subject` and `state`.
pub const WITHOUT_PAIRS: u32 = 1;

/// The version of inversions, which hold one row an image and no latents but the first.
pub const OF_INVERSIONS: u32 = 3;

/// The manifest of a real data set stays far below this size.
const MAX_BYTES: usize = 256 << 20;

/// The description of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`], [`WITHOUT_PAIRS`] if that version is enough, or [`OF_INVERSIONS`].
    pub format_version: u32,
    /// The shards, in reading order.
    pub shards: Vec<Shard>,
    /// Rows and label counts by split.
    pub splits: BTreeMap<String, Split>,
    /// How photos became training images.
    pub transform: Transform,
    /// The latents' shape and scale.
    pub latent: Latent,
    /// The autoencoder that made the latents.
    pub vae: Model,
    /// The CLIP that made the image embeddings, if any.
    pub clip: Option<Model>,
    /// Images that could not be used.
    pub quarantined: Vec<Quarantined>,
    /// Images that the source describes but does not contain.
    #[serde(default)]
    pub missing: u64,
    /// What the source's folder holds beside its images.
    #[serde(default, skip_serializing_if = "Account::is_empty")]
    pub account: Account,
    /// How inversions were made, if that is what the shards hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inversion: Option<Inversion>,
    /// blake3 of this file's bytes with these 64 digits as zeros.
    pub checksum: String,
}

/// One Parquet file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// File name in the data set's folder.
    pub file: String,
    /// The split all its rows belong to.
    pub split: String,
    /// Number of rows.
    pub rows: u64,
    /// Rows by emotion; rows without one are counted under "none".
    #[serde(default)]
    pub labels: BTreeMap<String, u64>,
    /// Rows that name a subject, by their state; a subject without a known state is counted under "none".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, u64>,
    /// The images whose inversions it holds, one row each, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_ids: Vec<String>,
    /// Size of the file.
    pub bytes: u64,
    /// blake3 of the file. Parquet's pages carry no checksum of their own here.
    pub blake3: String,
    /// blake3 of everything that the shard was made from: a run with the same inputs keeps it.
    #[serde(default)]
    pub key: String,
}

/// Counts of one split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Number of rows.
    pub rows: u64,
    /// Rows by emotion; rows without one are counted under "none".
    pub labels: BTreeMap<String, u64>,
    /// Rows that name a subject, by their state; a subject without a known state is counted under "none".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, u64>,
}

impl Split {
    /// Counts one row.
    pub fn count(&mut self, row: &Entry) {
        self.rows += 1;
        *self.labels.entry(row.emotion.map_or("none", |e| e.name()).to_string()).or_default() += 1;
        if row.subject.is_some() {
            *self.states.entry(row.state.as_deref().unwrap_or("none").to_string()).or_default() += 1;
        }
    }

    /// Adds a shard's counts.
    pub fn add(&mut self, shard: &Shard) {
        self.rows += shard.rows;
        let counts = [(&mut self.labels, &shard.labels), (&mut self.states, &shard.states)];
        for (sums, counts) in counts {
            counts.iter().for_each(|(name, rows)| *sums.entry(name.clone()).or_default() += rows);
        }
    }
}

/// The lowest version that can describe these splits, or what these shards of inversions are.
pub fn version_of(splits: &BTreeMap<String, Split>, inversion: Option<&Inversion>) -> u32 {
    match (inversion, splits.values().any(|split| !split.states.is_empty())) {
        (Some(_), _) => OF_INVERSIONS,
        (None, true) => FORMAT_VERSION,
        (None, false) => WITHOUT_PAIRS,
    }
}

/// How photos became training images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Side of the square training image in pixels.
    pub resolution: u32,
    /// Which square of the photo is taken.
    pub crop: Crop,
    /// How it is scaled.
    pub filter: String,
    /// How the column `image` is compressed.
    pub image_format: String,
}

/// Which part of a photo is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The largest square in the middle.
    Center,
}

/// Shape and scale of the latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latent {
    /// Channels.
    pub channels: u32,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// The factor from stored latents to the UNet's; stored latents are not scaled.
    pub scaling_factor: f64,
}

impl Latent {
    /// Numbers per latent.
    pub fn len(&self) -> usize {
        self.channels as usize * self.height as usize * self.width as usize
    }

    /// Whether a latent has no numbers at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A model that took part in encoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name it was configured under.
    pub name: String,
    /// blake3 of its weights.
    pub hash: String,
    /// Numbers per embedding; only CLIP has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<u32>,
}

/// How trajectories were made. Together with the latents, transform and VAE in the manifest, this decides their
/// values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inversion {
    /// blake3 of the UNet's weights.
    pub unet: String,
    /// blake3 of the text encoder's weights.
    pub text_encoder: String,
    /// The source prompt.
    pub prompt: String,
    /// The timesteps, ascending.
    pub timesteps: Vec<i64>,
    /// blake3 of the schedule's ᾱ at each timestep.
    pub alpha_bars: String,
    /// What the UNet predicts, and so what is stored: epsilon, v_prediction or predicted_sample.
    pub prediction: String,
    /// The networks' element type, as recipes name it.
    pub precision: String,
    /// `[a, b]` of each step from a timestep to the next: `z_{k+1} = a·z_k + b·output_k`, in f32. Inversions before
    /// [`OF_INVERSIONS`] have none.
    #[serde(default)]
    pub steps: Vec<[f32; 2]>,
}

/// An image that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// Its path in the source.
    pub path: String,
    /// The reason.
    pub reason: String,
}

impl Manifest {
    /// Parses and checks the bytes of `url`: version, checksum, and that the parts agree.
    pub fn parse(url: &str, bytes: &[u8]) -> Result<Self> {
        let fail = |message: String| Error::Manifest { url: url.to_string(), message };
        if bytes.len() > MAX_BYTES {
            return Err(fail(format!("{} bytes are too many for a manifest", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| fail(format!("damaged manifest: {e}")))?;
        check_version(text).map_err(fail)?;
        let manifest: Manifest = serde_json::from_str(text).map_err(|e| fail(format!("damaged manifest: {e}")))?;
        if checksum(text, &manifest.checksum) != manifest.checksum {
            return Err(fail("damaged manifest: its bytes do not have the checksum it states".into()));
        }
        manifest.check().map_err(fail)?;
        Ok(manifest)
    }

    /// The bytes of manifest.json, with their checksum.
    pub fn to_bytes(&self) -> Vec<u8> {
        let zeros = "0".repeat(64);
        let open = Manifest { checksum: zeros.clone(), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&open).expect("a manifest is plain data");
        text.push('\n');
        let at = text.rfind(&zeros).expect("the checksum is the last key");
        let seal = blake3::hash(text.as_bytes()).to_hex().to_string();
        text.replace_range(at..at + zeros.len(), &seal);
        text.into_bytes()
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.shards.iter().map(|s| s.rows).sum()
    }

    fn check(&self) -> std::result::Result<(), String> {
        for shard in &self.shards {
            if !stays_inside(&shard.file) {
                return Err(format!("shard name {:?} leads outside the folder", shard.file));
            }
            if let Some(id) = [&shard.blake3].into_iter().chain(&shard.image_ids).find(|id| !is_hash(id)) {
                return Err(format!("shard {}: {id:?} is no hash, and could lead outside the folder", shard.file));
            }
            if !self.splits.contains_key(&shard.split) {
                return Err(format!("shard {} is of split {:?}, which has no counts", shard.file, shard.split));
            }
        }
        for (name, split) in &self.splits {
            if !stays_inside(name) {
                return Err(format!("split {name:?} leads outside the folder"));
            }
            let rows: u64 = self.shards.iter().filter(|s| &s.split == name).map(|s| s.rows).sum();
            if rows != split.rows {
                return Err(format!("split {name} states {} rows, its shards {rows}", split.rows));
            }
        }
        if self.latent.is_empty() || self.latent.len() > 1 << 24 {
            return Err(format!("latent shape {:?} is not possible", self.latent));
        }
        Ok(())
    }
}

/// Whether `id` can be a hash, or the start of one: hexadecimal digits alone. Hashes name files in caches, so that
/// anything else from a foreign data set could lead out of their folder.
pub(crate) fn is_hash(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file or split of this name lies in the folder itself.
pub(crate) fn stays_inside(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

fn check_version(text: &str) -> std::result::Result<(), String> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let Version { format_version } = serde_json::from_str(text).map_err(|e| format!("damaged manifest: {e}"))?;
    if (WITHOUT_PAIRS..=OF_INVERSIONS).contains(&format_version) {
        return Ok(());
    }
    Err(format!(
        "format version {format_version}, this program reads {WITHOUT_PAIRS} to {OF_INVERSIONS}; \
         re-run `dataloader shard`"
    ))
}

fn checksum(text: &str, stated: &str) -> String {
    let Some(at) = text.rfind(stated).filter(|_| stated.len() == 64) else {
        return String::new();
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&text.as_bytes()[..at]).update(&[b'0'; 64]).update(&text.as_bytes()[at + 64..]);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Manifest {
        let shard = |split: &str, rows| Shard {
            file: format!("{split}-00000-of-00001.parquet"),
            split: split.into(),
            rows,
            labels: BTreeMap::from([("awe".to_string(), rows)]),
            states: BTreeMap::new(),
            image_ids: vec![],
            bytes: 10,
            blake3: "ab".into(),
            key: "ef".into(),
        };
        let split = |rows| Split { rows, labels: BTreeMap::from([("awe".to_string(), rows)]), ..Split::default() };
        Manifest {
            format_version: WITHOUT_PAIRS,
            shards: vec![shard("train", 3), shard("test", 2)],
            splits: BTreeMap::from([("train".to_string(), split(3)), ("test".to_string(), split(2))]),
            transform: Transform {
                resolution: 64,
                crop: Crop::Center,
                filter: "lanczos3".into(),
                image_format: "webp".into(),
            },
            latent: Latent { channels: 4, height: 2, width: 2, scaling_factor: 0.4033327060364837 },
            vae: Model { name: "vae".into(), hash: "cd".into(), dimension: None },
            clip: None,
            quarantined: vec![Quarantined { path: "a.jpg".into(), reason: "empty".into() }],
            missing: 0,
            account: Account::default(),
            inversion: None,
            checksum: String::new(),
        }
    }

    #[test]
    fn a_sealed_manifest_reads_back() {
        let bytes = example().to_bytes();
        let read = Manifest::parse("m", &bytes).expect("valid");
        assert_eq!(Manifest { checksum: String::new(), ..read }, example());
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = example().to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Manifest::parse("m", &damaged).is_err(), "byte {at} bit {bit}");
            }
            assert!(Manifest::parse("m", &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let error = Manifest::parse("m", br#"{"format_version": 9, "new": 1}"#).expect_err("newer");
        assert!(error.to_string().contains("format version 9"), "{error}");
    }

    #[test]
    fn counts_must_agree_and_names_stay_inside() {
        let mut wrong = example();
        wrong.shards[0].rows = 4;
        assert!(Manifest::parse("m", &wrong.to_bytes()).is_err());
        for spoil in [
            (|m| m.shards[0].file = "../x.parquet".into()) as fn(&mut Manifest),
            |m| m.shards[0].blake3 = "../../ab".into(),
            |m| m.shards[0].image_ids = vec!["ab".into(), "/ab".into()],
            |m| {
                m.shards[0].split = "../train".into();
                m.splits = std::mem::take(&mut m.splits)
                    .into_iter()
                    .map(|(s, n)| (s.replace("train", "../train"), n))
                    .collect();
            },
        ] {
            let mut outside = example();
            spoil(&mut outside);
            let error = Manifest::parse("m", &outside.to_bytes()).expect_err("outside").to_string();
            assert!(error.contains("outside the folder"), "{error}");
        }
    }

    #[test]
    fn fuzz_manifests() {
        let bytes = example().to_bytes();
        let trajectories = Manifest {
            inversion: Some(Inversion {
                unet: "ab".into(),
                text_encoder: "cd".into(),
                prompt: "a photo".into(),
                timesteps: vec![0, 999],
                alpha_bars: "ef".into(),
                prediction: "epsilon".into(),
                precision: "no".into(),
                steps: vec![[0.5, 0.25]],
            }),
            ..example()
        };
        crate::fuzz::fuzz("manifests", &[&bytes, &trajectories.to_bytes()], |input| {
            // The checksum is checked first; the test makes it valid, or the checks behind it would never be reached.
            let sealed = std::str::from_utf8(input).ok().and_then(|text| {
                let manifest: Manifest = serde_json::from_str(text).ok()?;
                let seal = checksum(text, &manifest.checksum);
                Some(text.replace(&manifest.checksum, &seal).into_bytes())
            });
            match Manifest::parse("m", sealed.as_deref().unwrap_or(input)) {
                Ok(manifest) => {
                    assert!(manifest.shards.iter().all(|s| stays_inside(&s.file) && is_hash(&s.blake3)));
                    assert_eq!(manifest.rows(), manifest.splits.values().map(|s| s.rows).sum::<u64>());
                    "read".into()
                }
                Err(error) => error.to_string(),
            }
        });
    }
}
