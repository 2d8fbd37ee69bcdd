//! Fetching from the hub into the cache, as huggingface_hub lays it out (by the hf-hub crate).

use std::path::{Component, Path};

use diffusion::weights::variant_rank;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::Result;
use crate::id::Id;
use crate::Hub;

/// Files that mark a snapshot as a model; they are fetched last.
const ROOT_FILES: [&str; 2] = ["model_index.json", "config.json"];
const RETRIES: usize = 3;

/// Fetches what the cache lacks of the repository's configuration, vocabularies and safetensors weights.
pub(crate) fn fetch(hub: &Hub, cache: &Path, id: &Id) -> Result<()> {
    let failed =
        |e: ApiError| id.not_fetched(format!("could not be fetched from {} ({e}); {}", hub.endpoint, advice(&e)));
    // hf-hub links blobs by relative paths, which it can only make from absolute ones.
    let cache = std::path::absolute(cache).unwrap_or_else(|_| cache.to_path_buf());
    let api = ApiBuilder::from_cache(Cache::new(cache))
        .with_endpoint(hub.endpoint.clone())
        .with_token(hub.token.clone())
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
        .map_err(failed)?;
    let repo = api.repo(Repo::with_revision(id.name.clone(), RepoType::Model, id.revision.clone()));
    let siblings = repo.info().map_err(failed)?.siblings;
    let files = wanted(siblings.into_iter().map(|s| s.rfilename).collect());
    if !files.iter().any(|f| f.ends_with(".safetensors")) {
        let message = "has no safetensors weights; choose a repository or revision that has".into();
        return Err(id.not_fetched(message));
    }
    // Files in the cache are not fetched again. If the first file shows that the hub has moved on to another commit,
    // those that were found under the old one are fetched in the second round.
    (0..2).try_for_each(|_| files.iter().try_for_each(|file| repo.get(file).map(|_| ()))).map_err(failed)
}

fn advice(error: &ApiError) -> &'static str {
    let text = error.to_string();
    match ["401", "403"].iter().any(|code| text.contains(code)) {
        true => "it is not everybody's: accept its terms on the hub and set HF_TOKEN",
        false => "check the id and the connection, or give a folder",
    }
}

/// Configuration, vocabularies and weights in one precision, without single-file checkpoints of whole pipelines. If a
/// folder has its weights only as variants, the variant that is read first, without the others' indices.
fn wanted(all: Vec<String>) -> Vec<String> {
    let pipeline = all.iter().any(|f| f == "model_index.json");
    let weights = |file: &str| file.ends_with(".safetensors") && (!pipeline || file.contains('/'));
    let folder = |file: &str| file.rsplit_once('/').map_or("", |(folder, _)| folder).to_string();
    let plain = |file: &String| weights(file) && variant(file).is_none();
    let has_plain: std::collections::BTreeSet<String> = all.iter().filter(|f| plain(f)).map(|f| folder(f)).collect();
    let first_variant = |file: &str| {
        let of_folder = all.iter().filter(|f| weights(f) && folder(f) == folder(file));
        of_folder.filter_map(|f| variant(f)).min_by_key(|v| (variant_rank(Some(v)), v.to_string()))
    };
    let chosen = |file: &str| first_variant(file).filter(|_| !has_plain.contains(&folder(file)));
    let takes = |file: &String| {
        let text = [".json", ".txt"].iter().any(|suffix| file.ends_with(suffix));
        let text = text && index_variant(file).is_none_or(|variant| variant == chosen(file));
        (text || weights(file) && variant(file) == chosen(file)) && stays_inside(file) && !skipped_component(file)
    };
    let mut files: Vec<String> = all.iter().filter(|file| takes(file)).cloned().collect();
    files.sort_by_key(|f| (ROOT_FILES.contains(&f.as_str()), f.clone()));
    files
}

/// The variant in a weights file's name: fp16 of model.fp16.safetensors and of model.fp16-00001-of-00002.safetensors.
fn variant(file: &str) -> Option<&str> {
    let name = file.rsplit('/').next().unwrap_or(file).strip_suffix(".safetensors")?;
    let (_, variant) = name.rsplit_once('.')?;
    Some(variant.split_once('-').map_or(variant, |(variant, _)| variant))
}

/// The variant whose shards an index names; inside, none for an index without a variant. None for other files.
fn index_variant(file: &str) -> Option<Option<&str>> {
    let (_, rest) = file.rsplit('/').next()?.split_once(".safetensors.")?;
    match rest.strip_suffix(".json")?.split('.').collect::<Vec<_>>().as_slice() {
        ["index"] => Some(None),
        ["index", variant] | [variant, "index"] => Some(Some(variant)),
        _ => None,
    }
}

/// Whether a name that the hub gives leads to no other folder.
fn stays_inside(file: &str) -> bool {
    let ordinary = |part: Component<'_>| matches!(part, Component::Normal(_));
    !file.contains('\\') && !file.contains('\0') && Path::new(file).components().all(ordinary)
}

fn skipped_component(file: &str) -> bool {
    ["safety_checker/", "onnx/", "flax/", "openvino/"].iter().any(|c| file.starts_with(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted_of(files: &[&str]) -> Vec<String> {
        wanted(files.iter().map(|f| f.to_string()).collect())
    }

    #[test]
    fn only_what_is_needed_is_fetched_and_the_index_last() {
        let files = wanted_of(&[
            "model_index.json",
            "v1-5-pruned.safetensors",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.safetensors",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "vae/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "vae/diffusion_pytorch_model.non_ema.safetensors",
            "safety_checker/model.safetensors",
            "tokenizer/merges.txt",
            "README.md",
            "/etc/config.json",
            "unet/../../config.json",
        ]);
        let expected = [
            "tokenizer/merges.txt",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "model_index.json",
        ];
        assert_eq!(files, expected);
        assert_eq!(
            wanted_of(&["config.json", "model.safetensors", "pytorch_model.bin"]),
            ["model.safetensors", "config.json"]
        );
    }

    #[test]
    fn of_variants_the_one_that_is_read_first_is_fetched_with_its_own_index_alone() {
        let files = [
            "config.json",
            "model.bf16.safetensors",
            "model.no_ema.safetensors",
            "model.fp16-00001-of-00002.safetensors",
            "model.fp16-00002-of-00002.safetensors",
            "model.safetensors.index.fp16.json",
            "model.safetensors.bf16.index.json",
        ];
        let expected = [
            "model.fp16-00001-of-00002.safetensors",
            "model.fp16-00002-of-00002.safetensors",
            "model.safetensors.index.fp16.json",
            "config.json",
        ];
        assert_eq!(wanted_of(&files), expected);
    }
}
