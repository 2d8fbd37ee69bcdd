//! Colour transfer between images in lαβ: Reinhard et al. 2001, eq. 4–11. The baseline that changes colours only:
//! every shape stays.
//!
//! Shapes: b batch, (h, w) pixels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::moments::Moments;
use super::{About, Method};
use crate::config::sweep::Sweep;
use crate::error::Result;
use crate::evaluation::batch::Batch;

/// RGB to the cones' responses, eq. 4.
const LMS_FROM_RGB: [f32; 9] = [0.3811, 0.5783, 0.0402, 0.1967, 0.7244, 0.0782, 0.0241, 0.1288, 0.8444];
/// The inverse, eq. 9.
const RGB_FROM_LMS: [f32; 9] = [4.4679, -3.5873, 0.1193, -1.2186, 2.3809, -0.1624, 0.0497, -0.2439, 1.2045];
/// Responses below this are raised to it: the logarithm of black does not exist.
const DARKEST: f64 = 1.0 / 255.0;
/// Keeps the σ of a one-coloured picture above 0; far below any σ of a photo.
const EPSILON: f64 = 1e-10;

/// `{method: colour_transfer}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// 0 leaves the photo as it is, bit for bit; 1 is the published transfer; between them pixels are interpolated.
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
}

/// Gives photos the mean colour statistics of the target emotion's images.
#[derive(Debug)]
pub struct ColourTransfer {
    target: Moments,
    sweep: Sweep,
}

impl ColourTransfer {
    /// The method's row.
    pub const ABOUT: About = About {
        key: "colour_transfer",
        name: "Colour transfer",
        definition: "Mean and deviation of each lαβ channel moved to the means over the target emotion's images \
                     (Reinhard et al. 2001); strength interpolates, 0 is the photo itself.",
        control: false,
    };

    /// With the colour statistics `target`, (1, 3, 1, 1).
    pub fn new(target: Moments, sweep: Sweep) -> Self {
        Self { target, sweep }
    }
}

impl Method for ColourTransfer {
    fn about(&self) -> About {
        Self::ABOUT
    }

    fn sweep(&self) -> Option<&Sweep> {
        Some(&self.sweep)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let transferred = transfer(&batch.images, &self.target);
        let edit = |&strength: &f64| &batch.images + strength * (&transferred - &batch.images);
        Ok(self.sweep.strengths.iter().map(edit).collect())
    }
}

/// `images` (b, 3, h, w) in [−1, 1] with the lαβ moments of `target`, in [−1, 1].
pub fn transfer(images: &Tensor, target: &Moments) -> Tensor {
    let lab = lab_from_rgb(images);
    rgb_from_lab(&Moments::of(&lab, EPSILON).moved_to(target, &lab)).clamp(-1.0, 1.0)
}

/// The moments of pictures' lαβ channels: (b, 3, h, w) in [−1, 1] → (b, 3, 1, 1)
pub fn colours(images: &Tensor) -> Moments {
    Moments::of(&lab_from_rgb(images), EPSILON)
}

/// RGB in [−1, 1] to lαβ, eq. 4–6: (b, 3, h, w) → (b, 3, h, w)
fn lab_from_rgb(images: &Tensor) -> Tensor {
    let lms = mixed(&((images + 1.0) / 2.0), &LMS_FROM_RGB).clamp_min(DARKEST);
    let (a, b, c) = (3f32.sqrt().recip(), 6f32.sqrt().recip(), 2f32.sqrt().recip());
    mixed(&lms.log10(), &[a, a, a, b, b, -2.0 * b, c, -c, 0.0])
}

/// lαβ to RGB in [−1, 1], not clamped, eq. 8–9: (b, 3, h, w) → (b, 3, h, w)
fn rgb_from_lab(lab: &Tensor) -> Tensor {
    let (a, b, c) = (3f32.sqrt() / 3.0, 6f32.sqrt() / 6.0, 2f32.sqrt() / 2.0);
    let log = mixed(lab, &[a, b, c, a, b, -c, a, -2.0 * b, 0.0]);
    mixed(&(log * std::f64::consts::LN_10).exp(), &RGB_FROM_LMS) * 2.0 - 1.0
}

/// Every pixel's channels times a 3 × 3 matrix: (b, 3, h, w) → (b, 3, h, w)
fn mixed(x: &Tensor, matrix: &[f32; 9]) -> Tensor {
    let matrix = Tensor::from_slice(matrix).to_kind(Kind::Float).to_device(x.device()).view([3, 3, 1, 1]);
    x.conv2d::<Tensor>(&matrix, None, [1, 1], [0, 0], [1, 1], 1)
}

fn strengths() -> Vec<f64> {
    vec![0.5, 1.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(label: &str) -> Tensor {
        diffusion::noise::normal(0, label, 0, &[1, 3, 16, 16]).sigmoid() * 1.6 - 0.8
    }

    #[test]
    fn a_picture_keeps_its_own_colours_and_takes_anothers() {
        let (photo, style) = (picture("photo"), picture("style"));
        let same = transfer(&photo, &colours(&photo));
        assert!(
            (same - &photo).abs().max().double_value(&[]) < 2.0 * 0.0073,
            "what the published matrices lack to be inverses"
        );
        let moved = lab_from_rgb(&photo);
        let moved = Moments::of(&Moments::of(&moved, EPSILON).moved_to(&colours(&style), &moved), EPSILON);
        assert!((moved.mean - colours(&style).mean).abs().max().double_value(&[]) < 1e-5);
        assert!((moved.std - colours(&style).std).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn black_and_one_coloured_pictures_stay_finite() {
        for value in [-1.0, 0.2, 1.0] {
            let flat = Tensor::full([1, 3, 8, 8], value, (Kind::Float, tch::Device::Cpu));
            let moved = transfer(&flat, &colours(&picture("style")));
            assert!(moved.isfinite().all().int64_value(&[]) == 1, "{value}");
        }
    }
}
