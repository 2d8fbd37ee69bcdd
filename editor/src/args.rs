//! The command line, and its small languages: emotions with weights, strengths, devices.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use collective::Processes;
use program::LogFormat;
use tch::Kind;

/// Returns a photo carrying an emotion: the same photo, edited by a trained run.
#[derive(Clone, Debug, Parser)]
#[command(name = "editor", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Args {
    /// A trained run's folder (`output_dir` of its recipe).
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// The photo: PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF of any size and orientation. Or a folder of photos, or a .txt
    /// file that lists them, a path a line.
    #[arg(long, value_name = "FILE|FOLDER|LIST")]
    pub image: PathBuf,
    /// One of the run's emotions, or several with weights: awe:0.7,fear:0.3. A run of one emotion needs none.
    #[arg(long, value_name = "EMOTION[:WEIGHT],…")]
    pub emotion: Option<Mixture>,
    /// How strong: 0 is the photo itself, 1 as trained; larger and negative values are allowed.
    #[arg(long, value_name = "S", default_value = "1.0", allow_hyphen_values = true, value_parser = finite)]
    pub strength: f64,
    /// The picture to write: .png, .webp (both lossless), .jpg or .jpeg. It has the photo's size, colour profile,
    /// EXIF and DPI; as PNG, 16 bits if the photo has them. For several photos, a folder, made if it is missing; a
    /// second run goes on where the first ended.
    #[arg(long, value_name = "FILE|FOLDER")]
    pub output: PathBuf,
    /// Let the output replace the photo itself; in a folder, also what is there, of other settings or by others.
    #[arg(long)]
    pub overwrite: bool,
    /// Write the photo and the edit side by side.
    #[arg(long)]
    pub compare: bool,
    /// Edit at each of these strengths: one file each (NAME.strength-S.EXT), and a labelled strip as the output.
    #[arg(long, value_name = "S,…", allow_hyphen_values = true, conflicts_with = "strength")]
    #[arg(value_delimiter = ',', value_parser = finite)]
    pub sweep: Vec<f64>,
    /// Edit only where this picture is white; black keeps the photo bit for bit. It has the photo's size or proportions.
    /// For several photos, a folder with a mask of the same name for each, or one mask for all.
    #[arg(long, value_name = "FILE|FOLDER")]
    pub mask: Option<PathBuf>,
    /// Blur the mask's edges over this many pixels of the photo to either side; by default 1 % of its shorter side.
    #[arg(long, value_name = "PIXELS", requires = "mask", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub feather: Option<u32>,
    /// Write every picture of several in this format; by default in the photo's own, or PNG where it is neither PNG,
    /// JPEG nor WebP.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Edit this many photos of one shape at once; by default 8 on a GPU, 1 on a CPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch_size: Option<u32>,
    /// Share several photos among this many processes here, or one for each GPU. Not under torchrun or Slurm, which
    /// start them.
    #[arg(long, value_name = "N|gpu")]
    pub nproc_per_node: Option<Processes>,
    /// The base model's folder or hub id, if it is not the one in the run's settings; its weights must be the same.
    #[arg(long, value_name = "PATH|ID")]
    pub model: Option<String>,
    /// cpu, cuda or cuda:N; by default cuda if there is one.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
    /// Edit at about N × N pixels instead of the run's resolution; the output keeps the photo's size.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub resolution: Option<u32>,
    /// Invert and edit over this many timesteps instead of the run's: fewer are faster, and further from what was trained.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub steps: Option<u32>,
    /// The numbers that the networks compute with. bf16 halves the memory and is faster on a GPU.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub precision: Precision,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Seconds between two lines of progress when there is no terminal.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = program::progress::seconds)]
    pub progress_every: Duration,
    /// Fetch nothing from the hub.
    #[arg(long)]
    pub offline: bool,
}

const EXAMPLES: &str = "Examples:
  editor --run runs/awe --image photo.jpg --strength 1.0 --output out.png --compare
  editor --run runs/all --image photo.jpg --emotion awe:0.7,fear:0.3 --output out.jpg
  editor --run runs/awe --image photo.jpg --sweep 0,0.5,1,1.5 --output strip.png
  editor --run runs/awe --image photo.jpg --mask face.png --output out.jpg
  editor --run runs/awe --image photos --output edited --nproc-per-node 2
  editor export --run runs/awe --output awe-pipeline      (the edit for diffusers; see editor export --help)
  editor serve --run runs/awe      a page in the browser; editor serve --help

Exit codes: 0 done; 1 failed, or some of several photos did; 2 bad arguments or input files; 75 stopped by a signal, run again
to go on.";

/// Emotions and their weights, as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture(pub Vec<(String, f64)>);

impl FromStr for Mixture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut emotions: Vec<(String, f64)> = Vec::new();
        for part in text.split(',') {
            let (name, weight) = match part.split_once(':') {
                Some((name, weight)) => (name.trim(), finite(weight.trim())?),
                None => (part.trim(), 1.0),
            };
            if name.is_empty() {
                return Err("an emotion has no name; write awe or awe:0.7,fear:0.3".into());
            }
            if emotions.iter().any(|(other, _)| other == name) {
                return Err(format!("{name} is named twice"));
            }
            emotions.push((name.to_string(), weight));
        }
        Ok(Self(emotions))
    }
}

/// The format of a written picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lossless.
    Png,
    /// At quality 95.
    Jpg,
    /// Lossless.
    Webp,
}

impl Format {
    /// The suffixes of its files, the usual one first.
    pub fn suffixes(self) -> &'static [&'static str] {
        match self {
            Format::Png => &["png"],
            Format::Jpg => &["jpg", "jpeg"],
            Format::Webp => &["webp"],
        }
    }
}

/// What the networks compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 24 bits of mantissa.
    F32,
    /// 8 bits of mantissa.
    Bf16,
}

impl Precision {
    /// As libtorch names it.
    pub fn kind(self) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Where to compute, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The CPU.
    Cpu,
    /// A GPU by number.
    Cuda(usize),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
        };
        number.map(Self::Cuda).ok_or_else(|| "expected cpu, cuda or cuda:N".into())
    }
}

fn finite(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixtures_have_names_and_weights() {
        let mixture: Mixture = "awe:0.7, fear:-0.3,anger".parse().expect("a mixture");
        assert_eq!(mixture.0, [("awe".into(), 0.7), ("fear".into(), -0.3), ("anger".into(), 1.0)]);
        for text in ["", "awe,", "awe:x", "awe:nan", "awe,awe:2", ":1"] {
            assert!(text.parse::<Mixture>().is_err(), "{text}");
        }
    }

    #[test]
    fn devices_are_spelled_as_torch_spells_them() {
        assert_eq!("cpu".parse(), Ok(DeviceName::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceName::Cuda(3)));
        assert!("gpu".parse::<DeviceName>().is_err());
        assert!("cuda:x".parse::<DeviceName>().is_err());
    }

    #[test]
    fn strengths_may_be_negative() {
        let line = ["editor", "--run", "r", "--image", "i", "--output", "o.png"];
        let args = Args::try_parse_from(line.iter().chain(&["--strength", "-1.5"])).expect("parsed");
        assert_eq!(args.strength, -1.5);
        let args = Args::try_parse_from(line.iter().chain(&["--sweep", "-1,0,0.5"])).expect("parsed");
        assert_eq!(args.sweep, [-1.0, 0.0, 0.5]);
        assert!(Args::try_parse_from(line.iter().chain(&["--strength", "inf"])).is_err());
    }
}
