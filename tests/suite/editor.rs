//! The editor as its users run it: photos of every shape, strengths, sheets, and one line for what it refuses. The run is
//! made here: pocket models with untrained tokens and a random delta.

mod batch;
mod masks;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use diffusion::delta::DeltaSet;
use diffusion::detail::Detail;
use diffusion::images::{self, Photo, Pixels};
use diffusion::noise;
use diffusion::pipeline::Pipeline;
use diffusion::process::asyrp::{Condition, Process};
use diffusion::run::{
    dimensions, Base, DeltaConfig, EditSettings, Learned, Prompts, Run, RunConfig, TokenConfig, FORMAT_VERSION,
};
use diffusion::tokens::{TokenSettings, Tokens};
use image::RgbImage;
use tch::{Device, Kind};

use crate::fixtures::{copy_folder, fixture, pocket, program};

const PLACEHOLDER: &str = "<{emotion}>";

/// The run's folder, made once for all tests.
pub fn run_folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
        let config = run_config(&pipeline);
        Run::save(folder.path(), &config, &learned(&pipeline, &config)).expect("the run is written");
        folder
    });
    made.path()
}

fn run_config(pipeline: &Pipeline) -> RunConfig {
    RunConfig {
        format_version: FORMAT_VERSION,
        base: Base { name: pocket("").display().to_string(), hashes: pipeline.hashes.clone() },
        loss_clip: None,
        emotions: vec!["awe".into(), "fear".into()],
        tokens: Some(TokenConfig { placeholder_token: PLACEHOLDER.into(), num_vectors: 1 }),
        delta: Some(DeltaConfig { condition_on_token: true }),
        prompts: Prompts { source: String::new(), target: "a person showing {token}".into() },
        edit: EditSettings {
            process: Process::Asymmetric,
            condition: Condition::Decoder,
            num_inversion_steps: 3,
            t_edit: 300,
            t_boost: 0,
            detail: Detail::Residual,
            guidance_scale: 1.0,
            mask: None,
        },
        resolution: 64,
        seed: 0,
    }
}

fn learned(pipeline: &Pipeline, config: &RunConfig) -> Learned {
    let settings =
        TokenSettings { placeholder_token: PLACEHOLDER.into(), initializer_token: "{emotion}".into(), num_vectors: 1 };
    let made = Tokens::new(&pipeline.tokenizer, &pipeline.text_encoder, &config.emotions, &settings, Device::Cpu);
    let (tokens, _) = made.expect("the words have tokens");
    let deltas = DeltaSet::new(dimensions(pipeline, true), &config.emotions, 0, Device::Cpu);
    for (name, parameter) in deltas.named_parameters() {
        let noise = noise::normal(1, &name, 0, &parameter.size()) * 0.05;
        let _updated = tch::no_grad(|| parameter.shallow_clone().g_add_(&noise));
    }
    Learned { tokens: Some(tokens), deltas: Some(deltas) }
}

fn editor(run: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("editor"));
    command.arg("--run").arg(run).args(arguments).args(["--device", "cpu", "--offline"]);
    command.env("OMP_NUM_THREADS", "1").output().expect("the editor starts")
}

/// Runs the editor on `photo` and returns what it wrote to out.png; `extra` are further arguments.
fn edited(photo: &RgbImage, extra: &[&str]) -> (RgbImage, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    photo.save(&input).expect("the photo is written");
    let mut arguments = vec!["--image", input.to_str().expect("a path"), "--output", output.to_str().expect("a path")];
    arguments.extend(extra);
    let ran = editor(run_folder(), &arguments);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stdout).contains("out.png"), "the output is named");
    (images::read_photo(&output).expect("a picture"), folder)
}

fn photo() -> RgbImage {
    images::read_photo(&fixture("images/landscape.png")).expect("a photo")
}

fn changed(a: &RgbImage, b: &RgbImage) -> u64 {
    assert_eq!(a.dimensions(), b.dimensions());
    a.as_raw().iter().zip(b.as_raw()).map(|(x, y)| u64::from(x.abs_diff(*y))).sum()
}

/// Runs what must be refused and returns its one line.
#[track_caller]
fn refused(run: &Path, arguments: &[&str]) -> String {
    let ran = editor(run, arguments);
    let stderr = String::from_utf8_lossy(&ran.stderr).trim_end().to_string();
    assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.contains("INFO")).collect();
    assert_eq!(lines.len(), 1, "{arguments:?}: {stderr}");
    lines[0].to_string()
}

/// Weights that are no numbers make no picture: an error, exit code 1, and no file.
#[test]
fn an_edit_that_is_no_number_is_never_a_black_picture() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
    let config = run_config(&pipeline);
    let broken = learned(&pipeline, &config);
    for (_, parameter) in broken.deltas.iter().flat_map(DeltaSet::named_parameters) {
        let _filled = tch::no_grad(|| parameter.shallow_clone().fill_(f64::NAN));
    }
    Run::save(folder.path(), &config, &broken).expect("the run is written");
    let (input, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    photo().save(&input).expect("the photo is written");
    let paths = [&input, &output].map(|path| path.to_str().expect("a path"));
    let ran = editor(folder.path(), &["--image", paths[0], "--output", paths[1], "--emotion", "awe"]);
    let text = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{text}");
    assert!(text.contains("not finite") && !output.exists(), "{text}");
}

#[test]
fn a_small_model_says_in_one_line_what_it_has_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let (image, output) = (folder.path().join("in.png"), folder.path().join("out.png"));
    photo().save(&image).expect("written");
    let (image, output) = (image.to_string_lossy(), output.to_string_lossy());
    let ran = editor(run_folder(), &["--image", &image, "--output", &output, "--emotion", "awe"]);
    let text = String::from_utf8_lossy(&ran.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("has seen")).collect();
    assert!(lines.len() == 1 && lines[0].contains("drawn people only"), "{text}");
}

#[test]
fn strength_zero_writes_the_photo_itself() {
    let photo = photo();
    let (same, _folder) = edited(&photo, &["--emotion", "awe", "--strength", "0"]);
    assert_eq!(same, photo);
}

#[test]
fn every_shape_keeps_its_size_and_strength_moves_it() {
    let photo = photo();
    for (width, height) in [(64, 64), (151, 100), (60, 131), (37, 23), (200, 30), (1, 1)] {
        let photo = images::resize(&photo, width, height).expect("resized");
        let (edit, _folder) = edited(&photo, &["--emotion", "fear", "--strength", "1.5"]);
        assert_eq!(edit.dimensions(), (width, height));
        assert!(changed(&photo, &edit) > 0, "{width}x{height}: nothing changed");
    }
}

#[test]
fn a_photo_taken_sideways_comes_out_upright() {
    let input = fixture("images/exif6.jpg");
    let upright = images::read_photo(&input).expect("a photo");
    assert_eq!(upright.dimensions(), (30, 41), "the fixture lies on its side");
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.png");
    let paths = [&input, &output].map(|p| p.to_str().expect("a path"));
    let ran = editor(run_folder(), &["--image", paths[0], "--output", paths[1], "--emotion", "awe", "--strength", "0"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(images::read_photo(&output).expect("a picture"), upright);
}

#[test]
fn emotions_mix_and_strength_has_a_sign() {
    let photo = photo();
    let of = |extra: &[&str]| edited(&photo, extra).0;
    let awe = of(&["--emotion", "awe"]);
    assert_eq!(of(&["--emotion", "awe", "--strength", "1"]), awe, "1 is the default, and an edit is repeatable");
    let others = [
        of(&["--emotion", "awe", "--strength", "-1"]),
        of(&["--emotion", "fear"]),
        of(&["--emotion", "awe:0.5,fear:0.5"]),
        of(&["--emotion", "awe", "--resolution", "32"]),
    ];
    for other in others {
        assert!(changed(&awe, &other) > 0);
    }
}

#[test]
fn compare_puts_the_photo_beside_its_edit() {
    let photo = photo();
    let (edit, _folder) = edited(&photo, &["--emotion", "awe"]);
    let (pair, _folder) = edited(&photo, &["--emotion", "awe", "--compare"]);
    let (width, height) = photo.dimensions();
    assert_eq!(pair.dimensions(), (2 * width, height));
    assert_eq!(image::imageops::crop_imm(&pair, 0, 0, width, height).to_image(), photo);
    assert_eq!(image::imageops::crop_imm(&pair, width, 0, width, height).to_image(), edit);
}

#[test]
fn sweep_writes_a_strip_and_every_strength() {
    let photo = photo();
    let (strip, folder) = edited(&photo, &["--emotion", "awe", "--sweep", "-0.5,0,1"]);
    let (width, height) = photo.dimensions();
    assert_eq!(strip.width(), 3 * width);
    assert!(strip.height() > height, "a band for the labels");
    let one = |strength: &str| {
        let path = folder.path().join(format!("out.strength-{strength}.png"));
        images::read_photo(&path).expect("one file a strength")
    };
    assert_eq!(one("0"), photo);
    assert_eq!(one("1"), edited(&photo, &["--emotion", "awe"]).0);
    assert!(changed(&one("-0.5"), &photo) > 0);
}

#[test]
fn what_it_refuses_is_named_in_one_line() {
    let run = run_folder();
    let photo = fixture("images/landscape.png");
    let photo = photo.to_str().expect("a path");
    let text = fixture("images/text.png");
    let bomb = fixture("images/bomb.png");
    let (text, bomb) = (text.to_str().expect("a path"), bomb.to_str().expect("a path"));
    let out = tempfile::tempdir().expect("a folder");
    let out = out.path().join("out.png").display().to_string();
    let unwritten = ["--output", &out];
    let cases: [(&[&str], &[&str]); 11] = [
        (&["--image", text, "--emotion", "awe"], &["text.png", "image"]),
        (&["--image", bomb, "--emotion", "awe"], &["bomb.png", "100000x100000"]),
        (&["--image", "none.jpg", "--emotion", "awe"], &["none.jpg"]),
        (&["--image", photo, "--emotion", "joy"], &["joy", "awe, fear"]),
        (&["--image", photo], &["--emotion", "awe, fear"]),
        (&["--image", photo, "--emotion", "awe:much"], &["much"]),
        (&["--image", photo, "--emotion", "awe", "--strength", "strong"], &["strong", "--strength"]),
        (&["--image", photo, "--emotion", "awe", "--model", "no/such-model"], &["no/such-model", "--model"]),
        (&["--image", photo, "--emotion", "awe", "--model", run.to_str().expect("a path")], &["tokenizer"]),
        (&["--image", photo, "--emotion", "awe", "--device", "tpu"], &["tpu", "cuda"]),
        (&["--emotion", "awe"], &["--image"]),
    ];
    for (arguments, parts) in cases {
        let line = refused(run, &[arguments, &unwritten].concat());
        assert!(parts.iter().all(|part| line.contains(part)), "{arguments:?}: {line}");
    }
    let line = refused(run, &["--image", photo, "--emotion", "awe", "--output", "out.pdf"]);
    assert!(line.contains("out.pdf") && line.contains(".png"), "{line}");
    let line = refused(run, &["--image", photo, "--emotion", "awe", "--output", "no/such/folder/out.png"]);
    assert!(line.contains("no/such/folder"), "{line}");
    let line = refused(Path::new("runs/none"), &[["--image", photo].as_slice(), &unwritten].concat());
    assert!(line.contains("runs/none"), "{line}");
}

#[test]
fn weights_of_another_model_or_damaged_ones_are_refused() {
    let photo = fixture("images/small.png");
    let photo = photo.to_str().expect("a path");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.png").display().to_string();
    let arguments = ["--image", photo, "--output", &out, "--emotion", "awe"];
    for (name, spoil, part) in [
        ("edit_config.json", r#"{"format_version": 1}"#.to_string(), "edit_config.json"),
        ("h_delta.safetensors", "no tensors".into(), "h_delta.safetensors"),
        ("learned_embeds/awe.safetensors", String::new(), "awe.safetensors"),
    ] {
        let run = folder.path().join(format!("without {part}"));
        copy_folder(run_folder(), &run);
        std::fs::write(run.join(name), spoil).expect("spoilt");
        let line = refused(&run, &arguments);
        assert!(line.contains(part), "{line}");
    }
    let other = folder.path().join("other.run");
    let settings = std::fs::read_to_string(run_folder().join("edit_config.json")).expect("settings");
    std::fs::create_dir(&other).expect("a folder");
    let hash = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the family").hashes.unet;
    std::fs::write(other.join("edit_config.json"), settings.replace(&hash, &"0".repeat(64))).expect("written");
    assert!(refused(&other, &arguments).contains("other weights"));
}

#[test]
fn without_arguments_it_prints_help_with_an_example() {
    let ran = Command::new(program("editor")).output().expect("the editor starts");
    let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(text.contains("Usage") && text.contains("editor --run runs/awe --image photo.jpg"), "{text}");
}

/// Runs the editor on a fixture at strength 0 and returns the photo and what it wrote.
fn unchanged(file: &str, output: &str) -> (Photo, Photo) {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (fixture(file), folder.path().join(output));
    let paths = [&input, &output].map(|path| path.to_str().expect("a path"));
    let ran = editor(run_folder(), &["--image", paths[0], "--output", paths[1], "--emotion", "awe", "--strength", "0"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    (Photo::read(&input).expect("the photo"), Photo::read(&output).expect("the edit"))
}

#[test]
fn the_photos_own_pixels_profile_and_depth_come_back() {
    for file in ["photos/colour/p3.jpg", "photos/colour/adobe.png", "photos/colour/p3_16.png", "photos/exif/dated.jpg"]
    {
        let (photo, edit) = unchanged(file, "out.png");
        assert!(photo.pixels == edit.pixels && photo.profile() == edit.profile(), "{file}");
        assert!(photo.metadata.exif == edit.metadata.exif, "{file}");
    }
    let (photo, edit) = unchanged("photos/colour/p3_16.png", "out.webp");
    assert!(edit.pixels == Pixels::Eight(photo.in_8_bits()) && photo.profile() == edit.profile());
}

#[test]
fn the_photo_itself_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("photo.png");
    std::fs::copy(fixture("images/small.png"), &input).expect("copied");
    let before = std::fs::read(&input).expect("read");
    let linked = folder.path().join("link.png");
    std::os::unix::fs::symlink(&input, &linked).expect("linked");
    for output in [&input, &linked] {
        let paths = [&input, output].map(|path| path.to_str().expect("a path"));
        let line = refused(run_folder(), &["--image", paths[0], "--output", paths[1], "--emotion", "awe"]);
        assert!(line.contains("the photo itself") && line.contains("--overwrite"), "{line}");
        assert_eq!(std::fs::read(&input).expect("read"), before);
    }
    let path = input.to_str().expect("a path");
    let ran = editor(run_folder(), &["--image", path, "--output", path, "--emotion", "awe", "--overwrite"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_ne!(std::fs::read(&input).expect("read"), before);
}

#[test]
fn names_need_not_be_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let named = |bytes: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(bytes));
    let input = named(b"caf\xe9.png");
    std::fs::copy(fixture("images/small.png"), &input).expect("copied");
    let mut command = Command::new(program("editor"));
    command.arg("--run").arg(run_folder()).arg("--image").arg(&input).arg("--output").arg(named(b"\xe9t\xe9.png"));
    command.args(["--emotion", "awe", "--sweep", "0,1", "--device", "cpu", "--offline"]).env("OMP_NUM_THREADS", "1");
    let ran = command.output().expect("the editor starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for name in [&b"\xe9t\xe9.png"[..], b"\xe9t\xe9.strength-0.png", b"\xe9t\xe9.strength-1.png"] {
        assert!(named(name).is_file(), "{}", String::from_utf8_lossy(name));
    }
}

#[test]
#[ignore = "half a minute of both cores; make chaos runs it"]
fn large_photo_of_108_megapixels_takes_at_most_3_gb() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in.jpg"), folder.path().join("out.jpg"));
    let photo = RgbImage::from_fn(12_000, 9_000, |x, y| image::Rgb([(x / 47) as u8, (y / 36) as u8, (x + y) as u8]));
    images::write(&input, &photo).expect("written");
    drop(photo);
    let mut command = Command::new(program("editor"));
    command.arg("--run").arg(run_folder()).arg("--image").arg(&input).arg("--output").arg(&output);
    let begun = std::time::Instant::now();
    let mut child = command.args(["--emotion", "awe", "--device", "cpu", "--offline"]).spawn().expect("it starts");
    let mut peak_kb = 0u64;
    while child.try_wait().expect("it is ours").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let held =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kb = peak_kb.max(held.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let ended = child.wait().expect("it is ours");
    println!("108 megapixels: {} MB, {:.1} s", peak_kb / 1000, begun.elapsed().as_secs_f64());
    assert!(ended.success());
    assert!(peak_kb < 3_000_000, "{peak_kb} kB");
}
