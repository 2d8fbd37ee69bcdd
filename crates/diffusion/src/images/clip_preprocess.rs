//! CLIP's image preprocessing, transformers' CLIPImageProcessor: shortest edge to size, centre crop, normalise.
//!
//! Shapes: b batch, (h, w) pixels, s the crop's side.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::images::resample;
use crate::json;

/// PIL's number for BICUBIC.
const BICUBIC: i64 = 3;
/// OPENAI_CLIP_MEAN and OPENAI_CLIP_STD of transformers, per channel.
const OPENAI_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const OPENAI_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
const DEFAULT_SIDE: i64 = 224;
/// Keys that change nothing here: class names, and what Python validates.
const IGNORED: [&str; 8] = [
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_valid_processor_keys",
    "do_convert_rgb",
    "data_format",
    "default_to_square",
    "input_data_format",
];

/// Photos or tensors to the pixel values that [`crate::networks::clip::Clip`] takes.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipPreprocess {
    size: Size,
    crop: (i64, i64),
    rescale: f64,
    mean: [f64; 3],
    std: [f64; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    ShortestEdge(i64),
    Exact { height: i64, width: i64 },
}

impl Size {
    /// Height and width after resizing; the longer edge is rounded down, as in transformers.
    fn of(self, height: i64, width: i64) -> (i64, i64) {
        match self {
            Size::Exact { height, width } => (height, width),
            Size::ShortestEdge(edge) if width <= height => (edge * height / width, edge),
            Size::ShortestEdge(edge) => (edge, edge * width / height),
        }
    }
}

impl ClipPreprocess {
    /// OpenAI CLIP's preprocessing for images of `side` × `side`.
    pub fn openai(side: i64) -> Self {
        Self {
            size: Size::ShortestEdge(side),
            crop: (side, side),
            rescale: 1.0 / 255.0,
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
        }
    }

    /// Reads `folder`/preprocessor_config.json; keys that it leaves out have transformers' defaults.
    ///
    /// Fails on steps that are switched off or differ from CLIP's, and on unknown keys.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("preprocessor_config.json");
        let json = json::read(&path)?;
        Keys { json: &json, path }.preprocess()
    }

    /// Height and width of the pixel values.
    pub fn crop_size(&self) -> (i64, i64) {
        self.crop
    }

    /// A photo's pixel values (1, 3, s, s), f32 on the CPU, bit for bit as Pillow resizes.
    pub fn from_image(&self, photo: &RgbImage) -> Tensor {
        let (height, width) = self.size.of(i64::from(photo.height()), i64::from(photo.width()));
        let resized = resample::bicubic(photo, width as u32, height as u32);
        let pixels = Tensor::from_slice(resized.as_raw()).view([1, height, width, 3]).permute([0, 3, 1, 2]);
        let cropped = self.center_crop(&pixels.to_kind(Kind::Float));
        self.normalize(&(cropped * self.rescale))
    }

    /// The pixel values (b, 3, s, s) of images (b, 3, h, w) in [−1, 1], differentiable, on the images' device and of
    /// their kind. Antialiased bicubic, without the 8-bit rounding of [`ClipPreprocess::from_image`].
    pub fn from_tensor(&self, images: &Tensor) -> Tensor {
        let [.., height, width] = images.size()[..] else { unreachable!("images are (b, 3, h, w)") };
        let target = self.size.of(height, width);
        // Half precision has no CPU kernel for this resampling, and would lose the small weights of the filter's
        // tails.
        let unit = (images.to_kind(Kind::Float) + 1.0) * (255.0 * self.rescale / 2.0);
        let resized = if target == (height, width) {
            unit
        } else {
            unit.internal_upsample_bicubic2d_aa([target.0, target.1], false, None, None)
        };
        self.normalize(&self.center_crop(&resized)).to_kind(images.kind())
    }

    /// The middle of the images; where they are smaller than the crop, zeros around them.
    fn center_crop(&self, images: &Tensor) -> Tensor {
        let [.., height, width] = images.size()[..] else { unreachable!("images are (b, 3, h, w)") };
        let (top, bottom) = margins(height, self.crop.0);
        let (left, right) = margins(width, self.crop.1);
        // Negative padding crops.
        images.constant_pad_nd([-left, -right, -top, -bottom])
    }

    fn normalize(&self, images: &Tensor) -> Tensor {
        let channels = |values: &[f64; 3]| {
            Tensor::from_slice(values).to_kind(images.kind()).to_device(images.device()).view([1, 3, 1, 1])
        };
        (images - channels(&self.mean)) / channels(&self.std)
    }
}

/// How much to take off at both ends (negative: to add) so that `length` becomes `crop`.
fn margins(length: i64, crop: i64) -> (i64, i64) {
    let before = (length - crop).div_euclid(2);
    (before, length - crop - before)
}

/// A preprocessor_config.json being read.
struct Keys<'a> {
    json: &'a Value,
    path: PathBuf,
}

impl Keys<'_> {
    fn preprocess(&self) -> Result<ClipPreprocess> {
        self.refuse_unknown()?;
        for step in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            if self.get(step).is_some_and(|v| v.as_bool() != Some(true)) {
                return Err(self.unsupported(step, "only true, CLIP's preprocessing, is supported"));
            }
        }
        if self.get("resample").is_some_and(|v| v.as_i64() != Some(BICUBIC)) {
            return Err(self.unsupported("resample", "only 3 (bicubic) is supported"));
        }
        let (height, width) = self.crop_size()?;
        Ok(ClipPreprocess {
            size: self.size()?,
            crop: (height, width),
            rescale: self.number("rescale_factor", 1.0 / 255.0)?,
            mean: self.channels("image_mean", OPENAI_MEAN)?,
            std: self.channels("image_std", OPENAI_STD)?,
        })
    }

    fn size(&self) -> Result<Size> {
        let Some(size) = self.get("size") else { return Ok(Size::ShortestEdge(DEFAULT_SIDE)) };
        let positive = |value: Option<&Value>| value.and_then(Value::as_i64).filter(|&n| n > 0);
        let edge = positive(Some(size)).or_else(|| positive(size.get("shortest_edge")));
        match (edge, positive(size.get("height")), positive(size.get("width"))) {
            (Some(edge), None, None) if size.get("longest_edge").is_none() => Ok(Size::ShortestEdge(edge)),
            (None, Some(height), Some(width)) => Ok(Size::Exact { height, width }),
            _ => Err(self.unsupported("size", "expected {\"shortest_edge\": n} or {\"height\": n, \"width\": n}")),
        }
    }

    fn crop_size(&self) -> Result<(i64, i64)> {
        let Some(crop) = self.get("crop_size") else { return Ok((DEFAULT_SIDE, DEFAULT_SIDE)) };
        let positive = |value: Option<&Value>| value.and_then(Value::as_i64).filter(|&n| n > 0);
        match (positive(Some(crop)), positive(crop.get("height")), positive(crop.get("width"))) {
            (Some(side), _, _) => Ok((side, side)),
            (None, Some(height), Some(width)) => Ok((height, width)),
            _ => Err(self.unsupported("crop_size", "expected {\"height\": n, \"width\": n}")),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.unsupported(key, "expected a number")),
        }
    }

    fn channels(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3]> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let values: Option<Vec<f64>> = value.as_array().map(|a| a.iter().filter_map(Value::as_f64).collect());
        match values.as_deref() {
            Some(&[r, g, b]) => Ok([r, g, b]),
            _ => Err(self.unsupported(key, "expected three numbers")),
        }
    }

    fn refuse_unknown(&self) -> Result<()> {
        const READ: [&str; 10] = [
            "do_resize",
            "do_center_crop",
            "do_rescale",
            "do_normalize",
            "resample",
            "size",
            "crop_size",
            "rescale_factor",
            "image_mean",
            "image_std",
        ];
        let keys = self.json.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        match keys.into_iter().find(|key| !READ.contains(key) && !IGNORED.contains(key) && self.get(key).is_some()) {
            Some(key) => Err(self.unsupported(key, "unknown key; this is not a CLIPImageProcessor's configuration")),
            None => Ok(()),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn unsupported(&self, key: &str, message: &str) -> Error {
        Error::Unsupported { path: self.path.clone(), key: key.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClipPreprocess> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("preprocessor_config.json"), text).expect("written");
        ClipPreprocess::read(folder.path())
    }

    #[test]
    fn old_and_new_configurations_mean_the_same() {
        let new = read(r#"{"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}"#);
        let old = read(r#"{"size": 64, "crop_size": 64, "resample": 3, "do_resize": true}"#);
        assert_eq!(new.expect("read"), old.expect("read"));
        assert_eq!(read("{}").expect("read"), ClipPreprocess::openai(224));
    }

    #[test]
    fn what_is_not_clips_preprocessing_is_refused_by_key() {
        for (text, key) in [
            (r#"{"do_center_crop": false}"#, "do_center_crop"),
            (r#"{"resample": 2}"#, "resample"),
            (r#"{"size": {"longest_edge": 8}}"#, "size"),
            (r#"{"do_pad": true}"#, "do_pad"),
            (r#"{"image_mean": [0.5]}"#, "image_mean"),
        ] {
            let message = read(text).expect_err(text).to_string();
            assert!(message.contains("preprocessor_config.json") && message.contains(key), "{message}");
        }
    }

    #[test]
    fn the_gradient_reaches_every_pixel() {
        let images = Tensor::zeros([2, 3, 40, 30], tch::kind::FLOAT_CPU).set_requires_grad(true);
        let pixels = ClipPreprocess::openai(16).from_tensor(&images);
        assert_eq!(pixels.size(), [2, 3, 16, 16]);
        pixels.square().sum(Kind::Float).backward();
        let middle = images.grad().narrow(2, 8, 24);
        assert!(middle.abs().min().double_value(&[]) > 0.0);
    }
}
