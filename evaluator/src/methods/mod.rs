//! The methods that turn sources into edits: the controls, the baselines and the trained runs, all behind [`Method`].
//!
//! To add a method, add a file with its settings, and a line for each of them in [`baseline`].

pub mod adain;
pub mod baseline;
pub mod baselines;
pub mod colour_transfer;
pub mod latent_arithmetic;
pub mod moments;
mod no_edit;
mod oracle;
pub mod prompt_word;
pub mod sdedit;
pub mod style;
mod trained_run;
mod vae_round_trip;

use diffusion::detail::Detail;
use diffusion::images;
use diffusion::pipeline::Pipeline;
use image::RgbImage;
use tch::{Device, Tensor};

pub use adain::Adain;
pub use colour_transfer::ColourTransfer;
pub use latent_arithmetic::LatentArithmetic;
pub use no_edit::NoEdit;
pub use oracle::Oracle;
pub use prompt_word::PromptWord;
pub use sdedit::Sdedit;
pub use trained_run::TrainedRun;
pub use vae_round_trip::VaeRoundTrip;

use crate::config::sweep::Sweep;
use crate::error::Result;
use crate::evaluation::batch::{Batch, Encoded};

/// The key of the control that scores the featured method's edits against other targets.
pub const SHUFFLED: &str = "shuffled";

/// How a method is named and explained.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct About {
    /// The key in report.json.
    pub key: &'static str,
    /// The row's heading.
    pub name: &'static str,
    /// One sentence.
    pub definition: &'static str,
    /// Whether it leaves the photo unedited on purpose.
    pub control: bool,
}

/// The row of relabelled edits.
pub const ABOUT_SHUFFLED: About = About {
    key: SHUFFLED,
    name: "Shuffled target",
    definition: "The featured method's edits, each scored against an emotion drawn from the other seven. What is left of \
                 its hits is shared by seven: about (100 − Emo-A) / 7 %, chance (12.5 %) where the method knows nothing. \
                 More would mean that the judge likes any edit.",
    control: true,
};

/// Something that edits photos.
pub trait Method {
    /// Name and definition.
    fn about(&self) -> About;

    /// The strengths it is run at; none if strength has no meaning for it.
    fn sweep(&self) -> Option<&Sweep> {
        None
    }

    /// Its strengths, ascending; empty if there are none.
    fn strengths(&self) -> &[f64] {
        self.sweep().map_or(&[], |sweep| &sweep.strengths)
    }

    /// The strength of the headline table; none if there are none.
    fn headline(&self) -> Option<f64> {
        self.sweep().map(|sweep| sweep.headline)
    }

    /// Whether its edits differ by emotion; those of a method with strengths always do.
    fn looks_at_emotion(&self) -> bool {
        self.headline().is_some()
    }

    /// Which photos of a batch it can edit; by default all. The others are not counted for it.
    fn takes(&self, batch: &Batch) -> Vec<bool> {
        vec![true; batch.pictures.len()]
    }

    /// The edits of a batch towards its emotion, in [−1, 1]: one (b, 3, h, w) for each of [`Method::strengths`], or a
    /// single one if there are none.
    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>>;
}

/// Edited latents (b, c, h, w) as images (b, 3, h, w), with the sources' detail as `detail` says.
fn decoded(pipeline: &Pipeline, source: &Encoded, latents: &Tensor, detail: Detail) -> Tensor {
    let decoded = pipeline.images_from_latents(latents);
    detail.restore(&source.images, &source.round_trip, &decoded, Tensor::shallow_clone)
}

/// Edits along a change of the latents (b or 1, c, h, w): strength s adds s times the change, 0 is the VAE round
/// trip.
fn along(change: &Tensor, pipeline: &Pipeline, source: &Encoded, detail: Detail, sweep: &Sweep) -> Vec<Tensor> {
    let edit = |&strength: &f64| decoded(pipeline, source, &(&source.latents + strength * change), detail);
    sweep.strengths.iter().map(edit).collect()
}

/// By default, baselines are run as they were published.
fn no_detail() -> Detail {
    Detail::None
}

/// Edits as a user gets them: clamped to [−1, 1], rounded to 8 bits.
pub fn pictures_of(edits: &Tensor) -> Result<Vec<RgbImage>> {
    let edits = edits.clamp(-1.0, 1.0).to_device(Device::Cpu);
    (0..edits.size()[0]).map(|i| Ok(images::from_tensor(&edits.narrow(0, i, 1))?)).collect()
}
