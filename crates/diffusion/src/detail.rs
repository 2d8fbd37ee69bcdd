//! What the VAE loses of a photo, and how it comes back after the edit: [`Detail`], our own.
//!
//! Shapes: b batch, (h, w) the working size, (H, W) the photo's own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Cells along the shorter side; the change is averaged over one of them.
const CELLS: i64 = 16;
/// The change, on [−1, 1], at which 1/e of the detail is left.
const TOLERANCE: f64 = 0.4;

/// What is added after decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// photo + (edit − round trip): what the VAE blurs comes back, and strength 0 is the photo itself.
    Residual,
    /// As `residual` where the edit left the photo alone, and less the more it changed there, so that no ghost of
    /// what was removed comes back: edit + e^{−(m/τ)²}·(photo − round trip), where m is the mean change around a
    /// pixel.
    Gated,
    /// The decoded edit as it is.
    None,
}

impl Detail {
    /// The finished edit (b, 3, H, W) of `photo` (b, 3, H, W), from its round trip and its decoded edit, both (b, 3,
    /// h, w). `resize` brings (h, w) to (H, W). Where the edit equals the round trip, the photo comes back bit for
    /// bit (except with `none`).
    pub fn restore(
        self, photo: &Tensor, round_trip: &Tensor, decoded: &Tensor, resize: impl Fn(&Tensor) -> Tensor,
    ) -> Tensor {
        self.finish(photo, &resize(&self.working(round_trip, decoded)))
    }

    /// The part of [`Detail::restore`] that is computed at the working size, before it is scaled up: (b, c, h, w).
    pub fn working(self, round_trip: &Tensor, decoded: &Tensor) -> Tensor {
        // Only the change is scaled up, so that the photo keeps the detail that its working size lacks.
        let change = decoded - round_trip;
        match self {
            Detail::None => decoded.shallow_clone(),
            Detail::Residual => change,
            Detail::Gated => Tensor::cat(&[&change, &closed(&change), round_trip], 1),
        }
    }

    /// The finished edit (b, 3, H, W) of `photo` (b, 3, H, W), or of some of its rows. `resized` holds the same rows
    /// of [`Detail::working`] at the photo's size.
    pub fn finish(self, photo: &Tensor, resized: &Tensor) -> Tensor {
        match self {
            Detail::None => resized.shallow_clone(),
            Detail::Residual => (photo + resized).clamp(-1.0, 1.0),
            Detail::Gated => {
                let [change, closed, round_trip] = [(0, 3), (3, 1), (4, 3)].map(|(at, n)| resized.narrow(1, at, n));
                (photo + change - closed.clamp(0.0, 1.0) * (photo - round_trip)).clamp(-1.0, 1.0)
            }
        }
    }
}

/// 1 − e^{−(m/τ)²} around every pixel, exactly 0 where nothing changed: (b, 3, h, w) → (b, 1, h, w)
fn closed(change: &Tensor) -> Tensor {
    let (_, _, height, width) = change.size4().expect("pictures have four dimensions");
    let reach = (height.min(width) / CELLS / 2).max(1);
    let side = 2 * reach + 1;
    let strongest = change.abs().amax([1i64].as_slice(), true).to_kind(Kind::Float);
    let mean = strongest.avg_pool2d([side, side], [1, 1], [reach, reach], false, false, None);
    -(-(mean / TOLERANCE).square()).expm1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::normal;

    fn picture(label: &str) -> Tensor {
        (normal(0, label, 0, &[1, 3, 32, 32]) * 0.3).clamp(-0.9, 0.9)
    }

    #[test]
    fn an_edit_that_changes_nothing_is_the_photo() {
        let (photo, round_trip) = (picture("photo"), picture("round trip"));
        for detail in [Detail::Residual, Detail::Gated] {
            let restored = detail.restore(&photo, &round_trip, &round_trip, Tensor::shallow_clone);
            assert_eq!(restored, photo, "{detail:?}");
        }
    }

    #[test]
    fn what_was_edited_away_leaves_no_ghost() {
        let (photo, round_trip) = (picture("photo"), picture("round trip"));
        let decoded = Tensor::full([1, 3, 32, 32], 0.9, (Kind::Float, tch::Device::Cpu));
        let left = |detail: Detail| {
            let restored = detail.restore(&photo, &round_trip, &decoded, Tensor::shallow_clone);
            (restored - &decoded).abs().max().double_value(&[])
        };
        assert!(left(Detail::Gated) < left(Detail::Residual) / 10.0);
    }

    #[test]
    fn detail_far_from_the_edit_stays() {
        let (photo, round_trip) = (picture("photo"), picture("round trip"));
        let decoded = round_trip.copy();
        let _ = decoded.narrow(3, 0, 8).fill_(0.9);
        let restored = Detail::Gated.restore(&photo, &round_trip, &decoded, Tensor::shallow_clone);
        assert_eq!(restored.narrow(3, 12, 20), photo.narrow(3, 12, 20));
    }
}
