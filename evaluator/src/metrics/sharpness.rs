//! Sharpness: the variance of the Laplacian, Pech-Pacheco et al., *Diatom autofocusing in brightfield microscopy*
//! (2000).

use tch::{Kind, Tensor};

use super::{numbers, About, Better, Family, Metric, Pair};

/// scikit-image's rgb2gray: the luma weights of Rec. 709.
const LUMA: [f64; 3] = [0.2125, 0.7154, 0.0721];

/// Sharpness of the edit divided by that of the source; undefined if the source is flat.
#[derive(Debug)]
pub struct Ratio;

impl Metric for Ratio {
    fn about(&self) -> About {
        About {
            key: "sharpness",
            title: "Sharpness",
            definition:
                "Variance of the 3×3 Laplacian of the edit's luma over the source's; below 1 is blurred, above 1 is \
                         sharpened or noisy.",
            better: Better::One,
            unit: "×",
            decimals: 2,
            percent: false,
            family: Family::Headline,
        }
    }

    fn values(&self, pair: &Pair<'_>) -> Vec<f64> {
        let (edit, source) = (sharpness(&pair.edit.images), sharpness(&pair.source.images));
        edit.iter().zip(source).map(|(edit, source)| if source > 0.0 { edit / source } else { f64::NAN }).collect()
    }
}

/// Variance of the Laplacian of the luma of (b, 3, h, w) images in [0, 1], borders mirrored.
pub fn sharpness(images: &Tensor) -> Vec<f64> {
    let images = images.to_kind(Kind::Double);
    let luma = Tensor::from_slice(&LUMA).to_device(images.device()).view([1, 3, 1, 1]);
    let gray = (images * luma).sum_dim_intlist(1, true, Kind::Double); // (b, 1, h, w)
    let kernel = [0.0, 1.0, 0.0, 1.0, -4.0, 1.0, 0.0, 1.0, 0.0];
    let kernel = Tensor::from_slice(&kernel).to_device(gray.device()).view([1, 1, 3, 3]);
    let laplacian = gray.replication_pad2d([1, 1, 1, 1]).conv2d(&kernel, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1);
    numbers(&laplacian.flatten(1, -1).var_dim(1, false, false))
}
