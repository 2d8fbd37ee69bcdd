//! Shards end to end: folders with every defect and the embedded people through the real autoencoder and back.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use dataloader::making::config::ShardConfig;
use dataloader::making::shard::{self, Summary};
use dataloader::making::worker_rank::WorkerRank;
use dataloader::reading::verify::verify;
use dataloader::{Access, Dataset, Filter, Slice, Stream};
use diffusion::networks::vae::AutoencoderKl;
use emotions::Emotion;
use hub::Hub;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::ArrowWriter;
use tch::{Device, Kind, Tensor};

use crate::fixtures::{assert_close, fixture, people, pocket, root};

/// What can be read, and the size it has upright.
const READABLE: [(&str, (u32, u32)); 8] = [
    ("animated.gif", (20, 20)),
    ("cmyk.jpg", (24, 24)),
    ("grey.png", (24, 24)),
    ("grey16.png", (24, 24)),
    ("one_pixel.png", (1, 5)),
    ("rotated.jpg", (24, 36)),
    ("transparent.png", (24, 24)),
    ("wrong_suffix.png", (24, 24)),
];

const UNREADABLE: [&str; 4] = ["bomb.png", "empty.jpg", "html.jpg", "truncated.png"];

/// A recipe over the pocket's models, written to a file and read as a user's would be.
fn recipe(folder: &Path, source: &str, sets: &[&str]) -> ShardConfig {
    let path = folder.join("recipe.yaml");
    let (vae, clip, output) = (pocket("vae"), pocket("clip"), folder.join("out"));
    let text = format!(
        "source: {source}\nresolution: 64\nvae: {}\nclip: {}\noutput: {}\nbatch_size: 8\n",
        vae.display(),
        clip.display(),
        output.display()
    );
    fs::write(&path, text).expect("written");
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    recipe::load(&path, &sets).expect("a valid recipe")
}

fn run(config: &ShardConfig) -> dataloader::Result<Summary> {
    let hub = Hub::offline("none");
    Ok(shard::run(config, &hub, &WorkerRank::ALONE)?.expect("one process puts the data set together"))
}

/// A folder of photos: the readable ones under their labels, the others beside them.
fn photos(root: &Path) {
    for (n, (name, _)) in READABLE.iter().enumerate() {
        let label = ["awe", "fear", "picnic"][n % 3];
        place(&fixture("dataloader").join(name), &root.join(label).join(name));
    }
    for name in UNREADABLE {
        place(&fixture("dataloader").join(name), &root.join(name));
    }
}

fn place(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a parent")).expect("made");
    fs::copy(from, to).expect("copied");
}

fn open(config: &ShardConfig) -> Dataset {
    Dataset::open(&config.output.to_string_lossy()).expect("a data set")
}

#[test]
fn exactly_the_defective_photos_are_quarantined() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(&folder.path().join("photos"));
    let source = format!("{{kind: folder, path: {}}}", folder.path().join("photos").display());
    let config = recipe(folder.path(), &source, &["quarantine.max_fraction=0.5"]);
    let summary = run(&config).expect("encoded");
    let quarantined: Vec<&str> = summary.manifest.quarantined.iter().map(|q| q.path.as_str()).collect();
    assert_eq!(quarantined, UNREADABLE);
    assert!(summary.manifest.quarantined.iter().all(|q| !q.reason.is_empty()));
    let mut rows = open(&config).rows(&Filter::default()).expect("rows");
    rows.sort_by_key(|r| r.path.split('/').next_back().map(str::to_string));
    for (row, (name, size)) in rows.iter().zip(READABLE) {
        assert!(row.path.ends_with(name), "{}", row.path);
        assert_eq!((row.width, row.height), size, "{name}");
        assert_eq!(row.emotion, row.path.split('/').next().and_then(|label| label.parse().ok()), "{name}");
    }
    assert_eq!(rows.len(), READABLE.len());
    assert!(verify(&config.output.to_string_lossy(), &Access::default(), &mut |_: &str| ())
        .expect("a data set")
        .is_sound());
}

#[test]
fn too_many_bad_photos_fail_the_run_and_name_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    photos(&folder.path().join("photos"));
    let source = format!("{{kind: folder, path: {}}}", folder.path().join("photos").display());
    let config = recipe(folder.path(), &source, &[]);
    let error = run(&config).expect_err("too many").to_string();
    assert!(error.contains("4 of 12") && error.contains("bomb.png") && error.contains("max_fraction"), "{error}");
    assert!(Dataset::open(&config.output.to_string_lossy()).is_err());
}

#[test]
fn a_second_run_encodes_only_what_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("photos");
    for (name, _) in READABLE {
        place(&fixture("dataloader").join(name), &root.join(name));
    }
    let config = recipe(folder.path(), &format!("{{kind: folder, path: {}}}", root.display()), &[]);
    let first = run(&config).expect("encoded");
    assert_eq!((first.encoded, first.reused), (8, 0));
    let again = run(&config).expect("encoded");
    assert_eq!((again.encoded, again.reused), (0, 8));
    assert_eq!(first.manifest, again.manifest, "nothing changed, so no byte may");
    fs::rename(root.join("cmyk.jpg"), root.join("renamed.jpg")).expect("renamed");
    fs::copy(pocket_photo(folder.path()), root.join("grey.png")).expect("replaced");
    let changed = run(&config).expect("encoded");
    assert_eq!((changed.encoded, changed.reused), (1, 7));
    let smaller = ShardConfig { resolution: 32, ..config.clone() };
    assert_eq!(run(&smaller).expect("encoded").reused, 0, "another transform");
    let other = ShardConfig { clip: None, ..config };
    assert_eq!(run(&other).expect("encoded").reused, 0, "another CLIP");
}

#[test]
fn copies_of_an_image_fall_into_one_split() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("photos");
    for split in ["train", "test"] {
        place(&fixture("dataloader/grey.png"), &root.join(split).join("a.png"));
        place(&fixture("dataloader/cmyk.jpg"), &root.join("train").join(format!("{split}.jpg")));
    }
    let config = recipe(folder.path(), &format!("{{kind: folder, path: {}}}", root.display()), &[]);
    let manifest = run(&config).expect("encoded").manifest;
    assert_eq!((manifest.splits["test"].rows, manifest.splits["train"].rows), (2, 2));
    let files: Vec<&str> = manifest.shards.iter().map(|s| s.file.as_str()).collect();
    assert_eq!(files, ["test-00000-of-00001.parquet", "train-00000-of-00001.parquet"]);
}

/// Writes a picture of the embedded people as a file.
fn pocket_photo(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("pocket.webp");
    fs::write(&path, &people("validation", "awe", 1)[0].bytes).expect("written");
    path
}

/// A recipe over the first rows of the embedded people.
fn some_people(folder: &Path, count: usize) -> ShardConfig {
    let file = File::open(pocket("data/validation.parquet")).expect("the embedded people");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").with_batch_size(count);
    let batch = builder.build().expect("a reader").next().expect("a batch").expect("readable");
    let path = folder.join("people.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).expect("made"), batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let source = "{kind: parquet, path: PATH, namespace: expressed, columns: {emotion: emotion, subject: subject}}";
    recipe(folder, &source.replace("PATH", &path.display().to_string()), &["rows_per_shard=20"])
}

#[test]
fn the_people_keep_their_labels_and_their_latents_are_the_autoencoders() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = some_people(folder.path(), 50);
    let manifest = run(&config).expect("encoded").manifest;
    assert_eq!(manifest.rows(), 50);
    assert!(manifest.shards.iter().all(|s| s.rows <= 20));
    assert_eq!(manifest.latent.len(), 4 * 16 * 16);
    let dataset = Arc::new(open(&config));
    let sad = Filter { state: Some("sadness".into()), ..Filter::default() };
    let stream = Arc::new(Stream::new(dataset, &sad, 0).expect("people"));
    let vae = AutoencoderKl::load(&pocket("vae"), Device::Cpu, Kind::Float).expect("a VAE");
    for row in (0..3).map(|position| stream.read(stream.at(position)).expect("readable")) {
        assert_eq!((row.emotion, row.state.as_deref()), (Some(Emotion::Sadness), Some("sadness")));
        assert!(row.attributes["looks"].is_string() && row.subject.is_some());
        let pixels = diffusion::images::to_tensor(&row.image().expect("an image"));
        let posterior = tch::no_grad(|| vae.encode(&pixels.flip([-1])));
        let stored = Tensor::from_slice(&row.encoding.flip_mean).to_kind(Kind::Float).view([1, 4, 16, 16]);
        assert_close("flip_mean", &stored, &posterior.mean, 2e-3);
        assert_eq!(row.encoding.clip_embedding.as_ref().map(Vec::len), Some(128));
    }
}

#[test]
fn every_number_of_ranks_reads_the_same_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = some_people(folder.path(), 30);
    run(&config).expect("encoded");
    let stream = Arc::new(Stream::new(Arc::new(open(&config)), &Filter::default(), 5).expect("rows"));
    let order = |world_size: usize| -> Vec<String> {
        let ranks: Vec<Vec<Vec<String>>> = (0..world_size).map(|rank| rank_order(&stream, rank, world_size)).collect();
        (0..6).flat_map(|step| ranks.iter().flat_map(move |rank| rank[step].clone())).collect()
    };
    let whole = order(1);
    assert_eq!(whole.len(), 6 * 8);
    assert_eq!(order(2), whole);
    assert_eq!(order(4), whole);
}

/// The paths that one rank reads in six steps.
fn rank_order(stream: &Arc<Stream>, rank: usize, world_size: usize) -> Vec<Vec<String>> {
    let slice = Slice { rank, world_size, batch_size: 8 / world_size };
    let batches = stream.prefetch((0..6).map(move |step| slice.positions(step).collect()), 2);
    batches.map(|batch| batch.expect("readable").entries.iter().map(|entry| entry.path.clone()).collect()).collect()
}

#[test]
fn an_autoencoder_that_gives_no_numbers_quarantines_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let vae = folder.path().join("vae");
    place(&pocket("vae/config.json"), &vae.join("config.json"));
    let mut tensors = Tensor::read_safetensors(pocket("vae/diffusion_pytorch_model.safetensors")).expect("weights");
    for (name, tensor) in &mut tensors {
        if name == "encoder.conv_in.bias" {
            *tensor = &*tensor * f64::NAN;
        }
    }
    Tensor::write_safetensors(&tensors, vae.join("diffusion_pytorch_model.safetensors")).expect("written");
    let config = ShardConfig { vae: vae.to_string_lossy().into_owned(), ..some_people(folder.path(), 3) };
    let error = run(&config).expect_err("nothing but NaN").to_string();
    assert!(error.contains("3 of 3") && error.contains("people.parquet") && error.contains("not finite"), "{error}");
}

#[test]
fn a_resolution_that_the_autoencoder_cannot_take_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = ShardConfig { resolution: 62, ..some_people(folder.path(), 3) };
    let error = run(&config).expect_err("no multiple").to_string();
    assert!(error.contains("62") && error.contains('4'), "{error}");
}

/// Runs target/release/dataloader, beside which this test lies in deps/, from the repository's root.
fn dataloader(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("this test is a file");
    let program = test.ancestors().nth(2).expect("target/release/deps/suite").join("dataloader");
    assert!(program.is_file(), "{} is missing: run `make build` first", program.display());
    Command::new(program).args(arguments).current_dir(root()).env("HF_HUB_OFFLINE", "1").output().expect("it runs")
}

/// The one line on stderr of a command that must end with exit code 2.
#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let output = dataloader(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
    assert_eq!(message.trim_end().lines().count(), 1, "{arguments:?}: {message}");
    message
}

#[test]
fn bad_input_is_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "source: {kind: folder, path: photos}\nresolution: 64\nvae: assets/pocket/vae\noutput: out\nclipp: x\n";
    let recipe = folder.path().join("recipe.yaml");
    fs::write(&recipe, text).expect("written");
    let recipe = recipe.to_string_lossy();
    let message = refused(&["shard", "--config", &recipe]);
    assert!(message.contains("line 5") && message.contains("did you mean `clip`"), "{message}");
    let message = refused(&["shard", "--config", "none.yaml"]);
    assert!(message.contains("none.yaml"), "{message}");
    let pocket = ["shard", "--config", "configs/data/pocket.yaml", "--set"];
    let message = refused(&[&pocket[..], &["vae=no/such"]].concat());
    assert!(message.contains("no/such"), "{message}");
    let message = refused(&[&pocket[..], &["source={kind: folder, path: no/such}"]].concat());
    assert!(message.contains("no/such"), "{message}");
    let message = refused(&["verify", &folder.path().to_string_lossy()]);
    assert!(message.contains("not a data set"), "{message}");
}

#[test]
fn verify_and_inspect_tell_a_sound_data_set_from_a_damaged_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = some_people(folder.path(), 3);
    run(&config).expect("encoded");
    let out = config.output.to_string_lossy();
    assert_eq!(dataloader(&["verify", &out]).status.code(), Some(0));
    let described = String::from_utf8_lossy(&dataloader(&["inspect", &out]).stdout).into_owned();
    assert!(described.contains("people.parquet") && described.contains("3 rows"), "{described}");
    let shard = config.output.join("train-00000-of-00001.parquet");
    let bytes = fs::read(&shard).expect("a shard");
    fs::write(&shard, &bytes[..bytes.len() / 2]).expect("cut");
    let verdict = dataloader(&["verify", &out]);
    assert_eq!(verdict.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&verdict.stdout).contains("train-00000-of-00001.parquet"));
    assert!(refused(&["inspect", &out]).contains("train-00000-of-00001.parquet"));
}
