//! Masks: where they are black a photo keeps every bit, in its own colour space and depth.

use std::path::Path;

use diffusion::images::{self, Photo, Pixels};
use image::{GrayImage, Luma, RgbImage};

use super::{changed, editor, photo, refused, run_folder};
use crate::fixtures::fixture;

/// White on the left half.
fn left_half(width: u32, height: u32) -> GrayImage {
    GrayImage::from_fn(width, height, |x, _| Luma([if x < width / 2 { 255 } else { 0 }]))
}

#[track_caller]
fn edited(input: &Path, output: &Path, extra: &[&str]) -> Photo {
    let paths = [input, output].map(|path| path.to_str().expect("a path"));
    let arguments =
        [&["--image", paths[0], "--output", paths[1], "--emotion", "awe", "--strength", "1.5"], extra].concat();
    let ran = editor(run_folder(), &arguments);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Photo::read(output).expect("an edit")
}

/// The pixels of some columns, in the photo's own numbers.
fn columns(photo: &Photo, from: u32, to: u32) -> Vec<u16> {
    let (_, height) = photo.dimensions();
    let at = |x: u32, y: u32| match &photo.pixels {
        Pixels::Eight(pixels) => pixels.get_pixel(x, y).0.map(u16::from),
        Pixels::Sixteen(pixels) => pixels.get_pixel(x, y).0,
    };
    (0..height).flat_map(|y| (from..to).flat_map(move |x| at(x, y))).collect()
}

#[test]
fn beyond_a_mask_and_its_feather_every_bit_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mask, output) = (folder.path().join("mask.png"), folder.path().join("out.png"));
    let files = ["photos/colour/p3.jpg", "photos/colour/adobe.png", "photos/colour/p3_16.png", "images/landscape.png"];
    for file in files {
        let photo = Photo::read(&fixture(file)).expect("a photo");
        let (width, height) = photo.dimensions();
        left_half(width, height).save(&mask).expect("written");
        let mask = mask.to_str().expect("a path");
        let whole = edited(&fixture(file), &output, &[]);
        for feather in [0u32, 3] {
            let half = edited(&fixture(file), &output, &["--mask", mask, "--feather", &feather.to_string()]);
            let (inside, outside) = (width / 2 - feather, width / 2 + feather);
            assert!(half.profile() == photo.profile(), "{file}");
            assert_eq!(columns(&half, outside, width), columns(&photo, outside, width), "{file}: outside");
            assert_eq!(columns(&half, 0, inside), columns(&whole, 0, inside), "{file}: inside");
            assert_ne!(columns(&half, 0, inside), columns(&photo, 0, inside), "{file}: nothing was edited");
        }
    }
}

#[test]
fn a_mask_is_scaled_and_turned_to_its_photo() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, mask, output) =
        (folder.path().join("in.png"), folder.path().join("mask.png"), folder.path().join("out.png"));
    let photo = images::resize(&photo(), 80, 60).expect("resized");
    photo.save(&input).expect("written");
    left_half(40, 30).save(&mask).expect("written");
    let of = |extra: &[&str]| {
        edited(&input, &output, &[&["--mask", mask.to_str().expect("a path")], extra].concat()).in_8_bits()
    };
    let half = of(&["--feather", "0"]);
    // Scaling bilinearly softens the edge by a pixel of the mask, which is two of the photo.
    let right = |picture: &RgbImage| image::imageops::crop_imm(picture, 42, 0, 38, 60).to_image();
    assert_eq!(right(&half), right(&photo));
    assert!(changed(&half, &photo) > 0);
    assert!(changed(&of(&[]), &photo) > 0);

    // The same mask as a camera held sideways would have written it: its EXIF says how to turn it.
    let turned = folder.path().join("turned.jpg");
    let lying = image::imageops::rotate270(&left_half(40, 30));
    let rgb = image::DynamicImage::from(lying).into_rgb8();
    write_sideways(&turned, &rgb);
    assert_eq!(Photo::read(&turned).expect("a mask").dimensions(), (40, 30), "its EXIF turns it");
    let by_exif = edited(&input, &output, &["--mask", turned.to_str().expect("a path"), "--feather", "0"]).in_8_bits();
    assert_eq!(right(&by_exif), right(&photo));
    assert!(changed(&by_exif, &photo) > 0);
}

/// A JPEG whose EXIF says that it has to be turned by 90° clockwise.
fn write_sideways(path: &Path, picture: &RgbImage) {
    use image::ImageEncoder;
    let mut file = std::fs::File::create(path).expect("a file");
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 100);
    let orientation = [
        b"II*\0\x08\0\0\0".as_slice(),         // little-endian; the first directory at 8
        b"\x01\0",                             // one entry
        b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", // orientation, one short: 6
        b"\0\0\0\0",
    ]
    .concat();
    encoder.set_exif_metadata(orientation).expect("a JPEG has EXIF");
    encoder.write_image(picture, picture.width(), picture.height(), image::ExtendedColorType::Rgb8).expect("written");
}

#[test]
fn a_mask_of_another_photo_is_refused_and_a_black_one_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mask, output) = (folder.path().join("mask.png"), folder.path().join("out.png"));
    let photo = fixture("images/landscape.png");
    let (width, height) = images::read_photo(&photo).expect("a photo").dimensions();
    let paths = [&photo, &output, &mask].map(|path| path.to_str().expect("a path"));
    let arguments = ["--image", paths[0], "--output", paths[1], "--emotion", "awe", "--mask", paths[2]];
    left_half(height, width).save(&mask).expect("written");
    let line = refused(run_folder(), &arguments);
    assert!(line.contains(&format!("{height}x{width}")) && line.contains(&format!("{width}x{height}")), "{line}");
    GrayImage::new(width, height).save(&mask).expect("written");
    let ran = editor(run_folder(), &arguments);
    assert!(ran.status.success() && String::from_utf8_lossy(&ran.stderr).contains("black everywhere"));
    assert_eq!(images::read_photo(&output).expect("an edit"), images::read_photo(&photo).expect("a photo"));
    let line =
        refused(run_folder(), &["--image", paths[0], "--output", paths[1], "--emotion", "awe", "--feather", "3"]);
    assert!(line.contains("--mask"), "{line}");
}

#[test]
fn photos_of_a_folder_find_their_masks_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    for (name, below) in [("photos", "a"), ("masks", "a")] {
        std::fs::create_dir_all(place(name).join(below)).expect("a folder");
    }
    let photo = images::resize(&photo(), 40, 30).expect("resized");
    for name in ["a/x.png", "y.png"] {
        photo.save(place("photos").join(name)).expect("written");
    }
    left_half(40, 30).save(place("masks").join("a/x.bmp")).expect("written");
    let [photos, masks, edits] = ["photos", "masks", "edits"].map(|name| place(name).display().to_string());
    let arguments = ["--image", &photos, "--mask", &masks, "--output", &edits, "--emotion", "awe", "--feather", "0"];
    let ran = editor(run_folder(), &arguments);
    let text = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{text}");
    assert!(text.contains("y.png") && text.contains("no mask in"), "{text}");
    let edit = images::read_photo(&place("edits").join("a/x.png")).expect("an edit");
    let right = |picture: &RgbImage| image::imageops::crop_imm(picture, 20, 0, 20, 30).to_image();
    assert_eq!(right(&edit), right(&photo));
    assert!(changed(&edit, &photo) > 0);
}
