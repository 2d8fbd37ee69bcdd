//! Bicubic resampling, bit for bit as Pillow computes it (Resample.c). CLIP's inputs were made with it, and the
//! parity tests do not allow even one level of 255.
//!
//! Rows come first, as they did for long in Resample.c and when CLIP was trained. Pillow 13.0.0 takes columns first
//! for some sizes, which moves some pixels by one level.

use image::RgbImage;

/// Fractional bits of Pillow's fixed-point weights for 8-bit channels.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const CHANNELS: usize = 3;

/// The source pixels and weights that make one pixel of the output.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// `photo` at `width` × `height`: rows first, then columns, each rounded to 8 bits.
pub fn bicubic(photo: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (from_width, from_height) = (photo.width() as usize, photo.height() as usize);
    let (to_width, to_height) = (width as usize, height as usize);
    let mut pixels = photo.as_raw().clone();
    if to_width != from_width {
        pixels = along_rows(&pixels, from_width, &windows(from_width, to_width));
    }
    if to_height != from_height {
        pixels = along_columns(&pixels, to_width, &windows(from_height, to_height));
    }
    RgbImage::from_raw(width, height, pixels).expect("invariant: one value a channel and pixel")
}

fn along_rows(pixels: &[u8], from_width: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / from_width * windows.len());
    for row in pixels.chunks_exact(from_width * CHANNELS) {
        for window in windows {
            let mut sums = [1i32 << (PRECISION_BITS - 1); CHANNELS];
            let sources = row[window.start * CHANNELS..].chunks_exact(CHANNELS);
            for (source, weight) in sources.zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            out.extend(sums.map(clip));
        }
    }
    out
}

fn along_columns(pixels: &[u8], width: usize, windows: &[Window]) -> Vec<u8> {
    let stride = width * CHANNELS;
    let mut out = Vec::with_capacity(stride * windows.len());
    let mut sums = vec![0i32; stride];
    for window in windows {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (row, weight) in pixels[window.start * stride..].chunks_exact(stride).zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| clip(sum)));
    }
    out
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// `precompute_coeffs` and `normalize_coeffs_8bpc`: the filter widens with the scale, which is what antialiases.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    (0..to)
        .map(|x| {
            let center = (x as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            // Multiplied by the inverse, in this order: otherwise the last bit of a weight differs from Pillow's.
            let weight = |i: usize| cubic(((i as f64 - center) + 0.5) * (1.0 / filter_scale));
            let weights: Vec<f64> = (start..end).map(weight).collect();
            let total: f64 = weights.iter().sum();
            let fixed = weights.iter().map(|w| (w / total * f64::from(1 << PRECISION_BITS)).round() as i32);
            Window { start, weights: fixed.collect() }
        })
        .collect()
}

/// Keys' cubic convolution kernel with a = −0.5 (Keys 1981, eq. 4).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        for (from, to) in [(7, 7), (100, 13), (13, 100), (1, 5), (5, 1)] {
            for window in windows(from, to) {
                let total: i32 = window.weights.iter().sum();
                let slack = window.weights.len() as i32;
                assert!((total - (1 << PRECISION_BITS)).abs() <= slack, "{from} to {to}");
            }
        }
    }
}
