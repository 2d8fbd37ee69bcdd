//! Photos as cameras, phones and editors save them, against Pillow 13.0.0 with LittleCMS 2.19, libjpeg-turbo 3.2.0 and
//! libavif 1.4.2:
//! `python tests/fixtures/photos/make.py`.

use std::path::{Path, PathBuf};

use diffusion::images::{self, DotsPerInch, Photo, Pixels};

use crate::fixtures::fixture;

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture("photos").join(folder)).expect("the fixtures are there");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

fn photo(file: &str) -> Photo {
    Photo::read(&fixture("photos").join(file)).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(file: &str) -> String {
    match Photo::read(&fixture("photos").join(file)) {
        Ok(_) => panic!("{file} was read"),
        Err(error) => error.to_string(),
    }
}

/// Mean and largest difference from what Pillow makes of the file, in levels of 255.
fn difference(path: &Path) -> (f64, u8) {
    let expected = fixture("photos/expected").join(name(path) + ".png");
    let expected = image::open(&expected).expect("what Pillow sees").into_rgb8();
    let found = images::read_photo(path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.dimensions(), expected.dimensions(), "{}", name(path));
    let differences = found.as_raw().iter().zip(expected.as_raw()).map(|(a, b)| a.abs_diff(*b));
    let sum: u64 = differences.clone().map(u64::from).sum();
    (sum as f64 / found.as_raw().len() as f64, differences.max().unwrap_or(0))
}

#[test]
fn colours_are_those_of_littlecms() {
    let files: Vec<PathBuf> = files("colour").into_iter().filter(|path| name(path) != "cicp_pq.png").collect();
    assert!(files.len() >= 20, "only {} photos", files.len());
    for path in files {
        let (mean, most) = difference(&path);
        println!("{}: mean {mean:.3}, most {most}", name(&path));
        assert!(mean <= 1.0, "{}: differs by {mean:.3} levels on average", name(&path));
    }
}

#[test]
fn jpegs_of_every_kind_are_those_of_libjpeg_turbo() {
    let files = files("jpeg");
    assert!(files.len() >= 26, "only {} photos", files.len());
    for path in files {
        let (mean, most) = difference(&path);
        println!("{}: mean {mean:.3}, most {most}", name(&path));
        // zune-jpeg rounds otherwise than libjpeg; what libjpeg reads is the same to the bit.
        let plain = name(&path).starts_with("progressive")
            || name(&path).starts_with("baseline_4")
            || name(&path) == "grey.jpg";
        assert!(if plain { mean <= 0.5 && most <= 6 } else { most == 0 }, "{}: {mean:.3}, {most}", name(&path));
    }
}

fn avifs() -> impl Iterator<Item = PathBuf> {
    files("avif").into_iter().filter(|path| name(path) != "nclx_pq.avif")
}

#[test]
fn avifs_of_every_kind_are_those_of_libavif() {
    let misnamed = ["web.avif", "really_avif.jpg"].map(|file| fixture("photos/formats").join(file));
    assert!(avifs().count() >= 31, "only {} photos", avifs().count());
    for path in avifs().chain(misnamed) {
        let (mean, most) = difference(&path);
        println!("{}: mean {mean:.3}, most {most}", name(&path));
        assert!(mean <= 1.0, "{}: differs by {mean:.3} levels on average", name(&path));
    }
}

#[test]
fn an_avif_keeps_its_depth_profile_and_exif() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.png");
    for path in avifs() {
        let (file, photo) = (name(&path), Photo::read(&path).expect("read"));
        let is = |kinds: &[&str]| kinds.iter().any(|kind| file.contains(kind));
        assert!(photo.warnings.is_empty(), "{file}: {:?}", photo.warnings);
        assert_eq!(matches!(photo.pixels, Pixels::Sixteen(_)), is(&["_10", "_12"]), "{file}");
        assert_eq!(photo.profile().is_some(), is(&["p3", "profile"]), "{file}");
        assert_eq!(photo.metadata.exif.is_some(), is(&["turned"]), "{file}");
        images::write_photo(&output, &photo).expect("written");
        let again = Photo::read(&output).expect("read");
        assert!(again.pixels == photo.pixels && again.profile() == photo.profile(), "{file}");
        assert_eq!(again.metadata.exif, photo.metadata.exif, "{file}");
    }
    for (orientation, density) in [(3, (72.0, 144.0)), (6, (144.0, 72.0))] {
        let photo = photo(&format!("avif/turned_{orientation}.avif"));
        let exif = photo.metadata.exif.expect("the photo names its camera");
        assert!(exif.windows(15).any(|text| text == b"made by make.py"));
        let DotsPerInch { x, y } = photo.metadata.density.expect("it has a density");
        assert_eq!((x, y), density, "width and height change places");
    }
}

#[test]
fn an_avif_that_contradicts_itself_is_refused() {
    let size = [0, 0, 0, 33, 0, 0, 0, 21];
    for (file, from, to, part) in [
        ("420_full.avif", &size[..], &[0, 0, 0, 34][..], "it is 33x21, although it says 34x21"),
        ("420_full.avif", &size, &[0, 0, 0, 9], "its AV1 stream is damaged"), // it has more pixels than it says
        ("420_full.avif", &size, &[0, 1, 0, 0, 0, 1, 0, 0], "above the limit of 128 megapixels"),
        ("420_full.avif", b"pixi", b"clap", "its property `clap` is not read"),
        ("420_full.avif", b"av01Color", b"hvc1", "of the kind `hvc1`"),
        ("420_full.avif", &[1, 0, 13, 0, 6, 128], &[1, 0, 13, 0, 14], "H.273's number 14"),
        ("alpha.avif", b"meta", b"free", "it has no still picture"),
        ("tiles.avif", &[0, 0, 1, 1, 0, 110, 0, 90], &[0, 0, 1, 2], "the tiles of its grid contradict one another"),
    ] {
        let path = fixture("photos/avif").join(file);
        let mut content = std::fs::read(&path).expect("the fixture");
        let at = content.windows(from.len()).position(|bytes| bytes == from).expect("it is there");
        content[at..at + to.len()].copy_from_slice(to);
        let message = Photo::decode(&content, &path, images::MAX_PIXELS).err().expect("refused").to_string();
        assert!(message.contains(part) && message.contains(file), "{file}: {message}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    for (file, parts) in [
        ("formats/phone1.heic", ["HEIC picture", "convert it to PNG or JPEG"]),
        ("formats/phone2.HEIC", ["HEIC picture", "convert it to PNG or JPEG"]),
        ("avif/nclx_pq.avif", ["high dynamic range", "convert it to sRGB"]),
        ("formats/jpeg2000.jp2", ["JPEG 2000 picture", "convert it to PNG or JPEG"]),
        ("colour/cicp_pq.png", ["high dynamic range", "convert it to sRGB"]),
    ] {
        let message = refusal(file);
        let file_name = name(Path::new(file));
        assert!(message.contains(&file_name) && parts.iter().all(|part| message.contains(part)), "{message}");
    }
    assert_eq!(photo("formats/mobile.jfif").dimensions(), photo("formats/mobile.jfif").to_srgb().dimensions());
}

#[test]
fn a_photo_above_the_limit_is_refused_before_it_is_decoded() {
    let path = fixture("photos/jpeg/odd_3x1.jpg");
    let content = std::fs::read(&path).expect("the fixture");
    // Only the header: what says so has not looked further.
    let others = ["photos/colour/p3.webp", "photos/avif/tiles.avif"].map(|file| std::fs::read(fixture(file)));
    for content in others.into_iter().map(|content| content.expect("the fixture")).chain([content]) {
        let error = Photo::decode(&content, &path, 1000).err().expect("refused").to_string();
        assert!(error.contains("above the limit of 0.001 megapixels"), "{error}");
    }
}

#[test]
fn a_profile_that_cannot_be_used_is_a_warning() {
    for file in ["colour/broken_profile.png", "colour/profile_of_another_kind.png"] {
        let photo = photo(file);
        assert!(photo.profile().is_none());
        assert!(photo.warnings.len() == 1 && photo.warnings[0].contains("profile"), "{:?}", photo.warnings);
    }
    assert!(photo("colour/p3.jpg").warnings.is_empty());
}

#[test]
fn an_unchanged_photo_keeps_its_pixels_profile_and_depth() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in files("colour").into_iter().filter(|path| name(path) != "cicp_pq.png") {
        let photo = Photo::read(&path).expect("read");
        let edited = photo.edited(|_, rows| Ok(rows.shallow_clone())).expect("edited");
        assert!(edited.pixels == photo.pixels, "{}", name(&path));
        let output = folder.path().join("out.png");
        images::write_photo(&output, &edited).expect("written");
        let again = Photo::read(&output).expect("read");
        assert!(again.pixels == photo.pixels && again.profile() == photo.profile(), "{}", name(&path));
        assert_eq!(matches!(photo.pixels, Pixels::Sixteen(_)), name(&path).contains("_16"), "{}", name(&path));
    }
}

#[test]
fn an_edit_goes_back_into_the_photos_own_space() {
    // To white and to black, which every space has; colours that sRGB lacks keep what it lacks of them.
    for file in ["colour/p3_16.png", "colour/grey_profile.png"] {
        let photo = photo(file);
        for (level, colour) in [(1.0, 255), (-1.0, 0)] {
            let edited = photo.edited(|_, rows| Ok(rows.full_like(level))).expect("edited").into_srgb();
            let far: u64 = edited.as_raw().iter().map(|found| u64::from(found.abs_diff(colour))).sum();
            let mean = far as f64 / edited.as_raw().len() as f64;
            assert!(mean <= 1.0, "{file} to {colour}: {mean} levels off on average");
        }
    }
}

#[test]
fn date_camera_and_density_are_kept_in_every_format() {
    let photo = photo("exif/dated.jpg");
    let exif = photo.metadata.exif.clone().expect("the photo is dated");
    let DotsPerInch { x, y } = photo.metadata.density.expect("it has a density");
    let folder = tempfile::tempdir().expect("a folder");
    for file in ["out.jpg", "out.png", "out.webp"] {
        let output = folder.path().join(file);
        images::write_photo(&output, &photo).expect("written");
        let again = Photo::read(&output).expect("read");
        assert_eq!(again.metadata.exif.as_ref(), Some(&exif), "{file}");
        match again.metadata.density {
            None => assert_eq!(file, "out.webp", "WebP has a density in EXIF only"),
            Some(found) => assert!((found.x - x).abs() < 0.01 && (found.y - y).abs() < 0.01, "{file}: {found:?}"),
        }
    }
}

#[test]
fn a_photo_taken_sideways_says_that_it_is_upright() {
    for orientation in 1..=8 {
        let photo = Photo::read(&fixture(&format!("images/exif{orientation}.jpg"))).expect("read");
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("out.png");
        images::write_photo(&output, &photo).expect("written");
        assert!(Photo::read(&output).expect("read").pixels == photo.pixels, "turned once, not twice");
    }
}
