//! README.md beside the manifest: the card that people and the Hugging Face hub read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, Split};
use crate::making::config::ShardConfig;
use crate::making::staging::write_whole;
use crate::sources::SourceConfig;

const FILE: &str = "README.md";

/// What the columns of pairs mean.
const PAIRS: &str = "\nPictures with the same `subject` are of one person or photo, in the `state` that the column names: an \
     emotion, `neutral`, or another word. Several pictures of one subject in one state are alternative drawings, each of \
     them true. All pictures of a subject lie in one split. Rows by state:\n\n";

/// The mark by which a card of ours is told from one that a person wrote.
const MARK: &str = "<!-- written by `dataloader shard`; delete this line to keep your own -->";

/// Writes the card, unless a person has written one.
pub fn write(config: &ShardConfig, manifest: &Manifest) -> Result<()> {
    let path = config.output.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.contains(MARK) => {
            tracing::info!("{} is somebody's own and is left alone", path.display());
            Ok(())
        }
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::store(path.display().to_string(), e)),
        _ => write_whole(&path, card(&config.source, manifest).as_bytes()),
    }
}

fn card(source: &SourceConfig, manifest: &Manifest) -> String {
    let mut text = String::from("---\nconfigs:\n- config_name: default\n  data_files:\n");
    for split in manifest.splits.keys() {
        let _ = writeln!(text, "  - split: {split}\n    path: {split}-*.parquet");
    }
    let latent = &manifest.latent;
    let _ = write!(
        text,
        "---\n{MARK}\n\n# {}\n{} rows: images of {} px and their VAE latents, mean and standard deviation, plain and mirrored.\n\n\
         - **Source**: {}\n- **Licence**: {}\n- **Labels**: {}\n- **Images**: {}, {}×{} px, {} filter, the middle square\n\
         - **Latents**: f16, {}×{}×{}, unscaled (factor {}), of `{}` (blake3 {:.16}…)\n- **CLIP embeddings**: {}\n\
         - **Left out**: {} quarantined (manifest.json names each with its reason), {} missing\n\n",
        source.name(),
        manifest.rows(),
        manifest.transform.resolution,
        origin(source).0,
        origin(source).1,
        origin(source).2,
        manifest.transform.image_format,
        manifest.transform.resolution,
        manifest.transform.resolution,
        manifest.transform.filter,
        latent.channels,
        latent.height,
        latent.width,
        latent.scaling_factor,
        manifest.vae.name,
        manifest.vae.hash,
        manifest.clip.as_ref().map_or("none".into(), |clip| format!("f16, not normalised, of `{}`", clip.name)),
        manifest.quarantined.len(),
        manifest.missing,
    );
    text += &counts("emotion", manifest, |split| &split.labels);
    if manifest.splits.values().any(|split| !split.states.is_empty()) {
        text += PAIRS;
        text += &counts("state", manifest, |split| &split.states);
    }
    text += "\nRead it with `datasets.load_dataset(folder)`, pyarrow or duckdb. Hashes of all shards are in manifest.json;\n\
             `dataloader verify` checks them.\n";
    text
}

/// A table of rows by split and by what `of` counts.
fn counts(what: &str, manifest: &Manifest, of: fn(&Split) -> &BTreeMap<String, u64>) -> String {
    let labels: BTreeSet<&String> = manifest.splits.values().flat_map(|s| of(s).keys()).collect();
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let heading = |name: &str| std::iter::once(name.to_string());
    let mut text = row(heading(what).chain(manifest.splits.keys().cloned()).collect());
    text += &row(vec!["---".to_string(); manifest.splits.len() + 1]);
    for label in labels {
        let counts = manifest.splits.values().map(|s| of(s).get(label).copied().unwrap_or(0).to_string());
        text += &row(heading(label).chain(counts).collect());
    }
    let all = manifest.splits.values().map(|s| of(s).values().sum::<u64>().to_string());
    text + &row(heading("all").chain(all).collect())
}

/// Where the images come from, what may be done with them, and whose emotion the labels name.
fn origin(source: &SourceConfig) -> (&'static str, &'static str, &'static str) {
    match source {
        SourceConfig::Emoset(_) => (
            "EmoSet-118K (Yang et al., ICCV 2023)",
            "from its authors on request, for research; do not pass the images on",
            "evoked: what viewers felt",
        ),
        SourceConfig::Findingemo(_) => (
            "FindingEmo (Mertens et al., NeurIPS 2024)",
            "annotations CC BY-NC-SA 4.0; the images are their owners', do not pass them on",
            "expressed: what people in the picture show; Plutchik's labels, mapped to Mikels' where there is a counterpart",
        ),
        SourceConfig::Parquet(_) => ("Parquet files", "that of the files: state it here", "by the columns of the recipe"),
        SourceConfig::Folder(_) => ("a folder of images", "that of the images: state it here", "by folder or metadata"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::tests::example;
    use crate::sources::EmosetConfig;

    #[test]
    fn the_card_states_counts_and_the_splits_that_datasets_loads() {
        let text = card(&SourceConfig::Emoset(EmosetConfig { path: "x".into() }), &example());
        let header = text.split("---").nth(1).expect("a YAML header");
        let header: serde_json::Value = serde_yaml::from_str(header).expect("YAML");
        assert_eq!(header["configs"][0]["data_files"][1]["path"], "train-*.parquet");
        assert!(text.contains("| emotion | test | train |") && text.contains("| awe | 2 | 3 |"), "{text}");
        assert!(text.contains("1 quarantined") && text.contains("EmoSet"), "{text}");
    }
}
