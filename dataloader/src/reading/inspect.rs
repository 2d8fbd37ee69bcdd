//! `dataloader inspect`: what a data set holds, for people.

use std::collections::{BTreeMap, BTreeSet};

use half::f16;

use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, Model, Split};
use crate::format::row::{Row, RowRef};
use crate::format::schema::schema;
use crate::inversions::Inversions;
use crate::reading::dataset::Dataset;
use crate::reading::filter::Filter;
use crate::reading::shards::Shards;
use crate::store::Access;

const EXAMPLES: usize = 3;

/// A description of the data set at `url`, with the rows of these numbers, or else the first few.
pub fn inspect(url: &str, access: &Access, numbers: &[usize]) -> Result<String> {
    let shards = Shards::open(url, access)?;
    if shards.manifest().inversion.is_some() {
        return Ok(Inversions::of(shards)?.describe());
    }
    let dataset = Dataset::of(shards)?;
    let mut text = summary(&dataset);
    text += &counts("emotion", dataset.manifest(), |split| &split.labels, |split| split.rows);
    let rows = dataset.rows(&Filter::default())?;
    text += &pairs(dataset.manifest(), &rows);
    text += &columns(&dataset);
    let first: Vec<usize> = (0..rows.len().min(EXAMPLES)).collect();
    for &number in if numbers.is_empty() { &first } else { numbers } {
        let Some(reference) = rows.get(number) else {
            let message = format!("row {number} does not exist; there are rows 0 to {}", rows.len().saturating_sub(1));
            return Err(Error::invalid("--row", message));
        };
        text += &example(number, &dataset.read(reference)?);
    }
    Ok(text)
}

fn summary(dataset: &Dataset) -> String {
    let manifest = dataset.manifest();
    let bytes: u64 = manifest.shards.iter().map(|s| s.bytes).sum();
    let latent = &manifest.latent;
    let model = |m: &Model| format!("{} (hash {:.12}…)", m.name, m.hash);
    format!(
        "{}\n  {} rows in {} shards, {:.1} MB, {} quarantined\n  images {} px, {}; latents {}×{}×{}, scaling factor {}\n  \
         VAE {}\n  CLIP {}\n",
        dataset.url(),
        manifest.rows(),
        manifest.shards.len(),
        bytes as f64 / 1e6,
        manifest.quarantined.len(),
        manifest.transform.resolution,
        manifest.transform.image_format,
        latent.channels,
        latent.height,
        latent.width,
        latent.scaling_factor,
        model(&manifest.vae),
        manifest.clip.as_ref().map_or("none".into(), model),
    )
}

/// A table by split: the counts that `of` takes from the manifest, and the sum.
fn counts(
    what: &str, manifest: &Manifest, of: fn(&Split) -> &BTreeMap<String, u64>, all: impl Fn(&Split) -> u64,
) -> String {
    let names: BTreeSet<&String> = manifest.splits.values().flat_map(|s| of(s).keys()).collect();
    let line = |name: &str, cell: &dyn Fn(&Split) -> String| {
        let cells: String = manifest.splits.values().map(|split| format!("{:>10}", cell(split))).collect();
        format!("\n{name:<14}{cells}")
    };
    let heading: String = manifest.splits.keys().map(|name| format!("{name:>10}")).collect();
    let mut text = format!("\n{what:<14}{heading}");
    for name in names {
        text += &line(name, &|split| of(split).get(name).copied().unwrap_or(0).to_string());
    }
    text + &line("all", &|split| all(split).to_string()) + "\n"
}

/// Rows by split and state, and the number of their subjects; empty if no row names a subject.
fn pairs(manifest: &Manifest, rows: &[RowRef]) -> String {
    let mut subjects: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        subjects.entry(&row.split).or_default().extend(row.subject.as_deref());
    }
    if subjects.values().all(BTreeSet::is_empty) {
        return String::new();
    }
    let count = |name: &String| subjects.get(name.as_str()).map_or(0, BTreeSet::len);
    let cells: String = manifest.splits.keys().map(|name| format!("{:>10}", count(name))).collect();
    let table = counts("state", manifest, |split| &split.states, |split| split.states.values().sum());
    format!("{table}{:<14}{cells}\n", "subjects")
}

fn columns(dataset: &Dataset) -> String {
    let schema = schema(dataset.widths());
    let line = |f: &arrow::datatypes::FieldRef| {
        format!("  {:<15}{}{}\n", f.name(), f.data_type(), if f.is_nullable() { ", may be null" } else { "" })
    };
    std::iter::once("\ncolumns\n".to_string()).chain(schema.fields().iter().map(line)).collect()
}

fn example(number: usize, row: &Row) -> String {
    let emotion = row.emotion.map_or("none", |e| e.name());
    let pair = row.subject.as_ref().map_or(String::new(), |subject| {
        format!(", subject {subject:?} in state {:?}", row.state.as_deref().unwrap_or("none"))
    });
    let [x, y, w, h] = row.crop;
    format!(
        "\nrow {number}: {}\n  {} split, emotion {emotion}, label {:?}{pair}, {}×{}, crop {w}×{h} at {x},{y}\n  image_id {:.16}…, \
         attributes {}\n  image {} bytes; latent mean {}, std {}; flip mean {}; CLIP {}\n",
        row.path,
        row.split,
        row.label.as_deref().unwrap_or("none"),
        row.width,
        row.height,
        row.image_id,
        row.attributes,
        row.image.len(),
        range(&row.encoding.latent_mean),
        range(&row.encoding.latent_std),
        range(&row.encoding.flip_mean),
        row.encoding.clip_embedding.as_ref().map_or("none".into(), |c| range(c)),
    )
}

fn range(numbers: &[f16]) -> String {
    let values = numbers.iter().map(|v| v.to_f32());
    let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    format!("{low:.3}..{high:.3}")
}
