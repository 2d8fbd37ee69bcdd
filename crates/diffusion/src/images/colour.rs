//! Colour spaces: what the numbers of a photo mean (ICC.1:2022; PNG 3rd edition, sec. 4.3; ITU-T H.273), and their
//! conversion to sRGB, in which all networks see, and back.

use std::sync::Arc;

use moxcms::{
    curve_from_gamma, Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, DataColorSpace,
    Layout, MatrixCoefficients, ToneReprCurve, TransferCharacteristics, Transform16BitExecutor, Transform8BitExecutor,
    TransformExecutor, TransformOptions, XyY,
};

use super::png_chunks::PngChunks;

/// What a pixel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    /// One number; kept as three equal ones.
    Grey,
    /// Three.
    Rgb,
    /// Four, 255 for all ink.
    Cmyk,
}

/// A colour space of three channels other than plain sRGB.
#[derive(Clone)]
pub struct ColourSpace {
    /// The ICC profile that says so in a file.
    pub profile: Arc<[u8]>,
    /// `None` where the numbers are sRGB's after all.
    conversion: Option<Conversion>,
}

#[derive(Clone)]
struct Conversion {
    profile: Arc<ColorProfile>,
    to_srgb: Arc<Transform8BitExecutor>,
}

/// The conversions of a colour space to sRGB and back, in 16 bits.
pub struct BothWays {
    to_srgb: Arc<Transform16BitExecutor>,
    from_srgb: Arc<Transform16BitExecutor>,
}

/// Exponents of gAMA between which a PNG without primaries counts as sRGB: 0.45455 ± 5 %.
const GAMMA_OF_SRGB: std::ops::RangeInclusive<f64> = 0.4318..=0.4773;
const UNIT: f64 = 100_000.0;
/// x and y of white, red, green and blue of sRGB (BT.709), and how far a cHRM may be from them.
const SRGB_CHROMATICITIES: [f64; 8] = [0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06];
const CHROMATICITY_TOLERANCE: f64 = 0.002;
/// H.273's code for what a file leaves open.
pub const UNSPECIFIED: u8 = 2;
/// H.273's codes of sRGB.
const PRIMARIES_OF_SRGB: u8 = 1;
const TRANSFER_OF_SRGB: u8 = 13;
/// H.273's transfer functions for high dynamic range, PQ and HLG.
const HIGH_DYNAMIC_RANGE: [u8; 2] = [16, 18];

impl ColourSpace {
    /// The space of an ICC profile that comes with grey or colour pixels. A grey profile becomes its equivalent of
    /// three channels. The error says why the profile cannot be used.
    pub fn of_profile(icc: &[u8], samples: Samples) -> Result<Self, String> {
        let profile = parse(icc)?;
        match (profile.color_space, samples) {
            (DataColorSpace::Rgb, Samples::Rgb | Samples::Grey) => Self::new(profile, icc.into()),
            (DataColorSpace::Gray, Samples::Grey) => Self::of_colour(grey_in_three_channels(&profile)?),
            (space, _) => Err(format!("its profile is for {space:?}, its pixels are {samples:?}")),
        }
    }

    /// The space that a PNG without a profile says it has; `None` for sRGB. The error says what cannot be shown.
    pub fn of_png(chunks: &PngChunks<'_>) -> Result<Option<Self>, String> {
        let profile = match (chunks.cicp, chunks.is_srgb) {
            (Some(codes), _) => of_cicp(codes)?,
            (None, true) => None,
            (None, false) => of_gamma(chunks.gamma, chunks.chromaticities),
        };
        profile.map(Self::of_colour).transpose()
    }

    /// The space of H.273's primaries and transfer function; `None` for sRGB, which is also what a file that leaves them
    /// open has. The error says what cannot be shown.
    pub fn of_codes(primaries: u8, transfer: u8) -> Result<Option<Self>, String> {
        let said = |code: u8, of_srgb: u8| if code == UNSPECIFIED { of_srgb } else { code };
        match [said(primaries, PRIMARIES_OF_SRGB), said(transfer, TRANSFER_OF_SRGB)] {
            [PRIMARIES_OF_SRGB, TRANSFER_OF_SRGB] => Ok(None),
            [primaries, transfer] => of_cicp([primaries, transfer, 0, 1])?.map(Self::of_colour).transpose(),
        }
    }

    fn of_colour(profile: ColorProfile) -> Result<Self, String> {
        let icc = profile.encode().map_err(reason)?;
        Self::new(profile, icc.into())
    }

    fn new(profile: ColorProfile, icc: Arc<[u8]>) -> Result<Self, String> {
        let srgb = ColorProfile::new_srgb();
        let to_srgb = profile.create_transform_8bit(Layout::Rgb, &srgb, Layout::Rgb, options()).map_err(reason)?;
        let conversion = Conversion { profile: Arc::new(profile), to_srgb };
        let conversion = if conversion.changes_nothing()? { None } else { Some(conversion) };
        Ok(Self { profile: icc, conversion })
    }

    /// r, g, b of every pixel, to sRGB.
    pub fn to_srgb(&self, pixels: &mut [u8]) {
        if let Some(conversion) = &self.conversion {
            in_place(&*conversion.to_srgb, pixels);
        }
    }

    /// The conversions to sRGB and back; `None` where the numbers are sRGB's. The error says why there is none, for
    /// example for a scanner's profile.
    pub fn both_ways(&self) -> Result<Option<BothWays>, String> {
        let Some(Conversion { profile, .. }) = &self.conversion else { return Ok(None) };
        let srgb = ColorProfile::new_srgb();
        Ok(Some(BothWays {
            to_srgb: profile.create_transform_16bit(Layout::Rgb, &srgb, Layout::Rgb, options()).map_err(reason)?,
            from_srgb: srgb.create_transform_16bit(Layout::Rgb, profile, Layout::Rgb, options()).map_err(reason)?,
        }))
    }
}

impl BothWays {
    /// r, g, b of every pixel, to sRGB.
    pub fn to_srgb(&self, pixels: &mut [u16]) {
        in_place(&*self.to_srgb, pixels);
    }

    /// The conversion back from sRGB.
    pub fn back_to_own(&self, pixels: &mut [u16]) {
        in_place(&*self.from_srgb, pixels);
    }
}

impl Conversion {
    /// Whether no colour moves by more than one level of 255: sRGB profiles differ in their rounding only.
    fn changes_nothing(&self) -> Result<bool, String> {
        let level = |k: usize| (16 * k).min(255) as u8; // 17 of them
        let colours: Vec<u8> = (0..17 * 17 * 17).flat_map(|k| [k / 289, k / 17 % 17, k % 17].map(level)).collect();
        let mut converted = vec![0; colours.len()];
        self.to_srgb.transform(&colours, &mut converted).map_err(reason)?;
        Ok(colours.iter().zip(&converted).all(|(a, b)| a.abs_diff(*b) <= 1))
    }
}

/// CMYK pixels as sRGB: by their profile, otherwise as if the inks were ideal, as Pillow does.
pub fn srgb_of_cmyk(inks: &[u8], profile: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let Some(icc) = profile else { return Ok(srgb_of_ideal_inks(inks)) };
    let profile = parse(icc)?;
    if profile.color_space != DataColorSpace::Cmyk {
        return Err(format!("its profile is for {:?}, its pixels are {:?}", profile.color_space, Samples::Cmyk));
    }
    let srgb = ColorProfile::new_srgb();
    let transform = profile.create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgb, options()).map_err(reason)?;
    let mut pixels = vec![0; inks.len() / 4 * 3];
    transform.transform(inks, &mut pixels).map_err(reason)?;
    Ok(pixels)
}

/// r = (255 − k) − c·(255 − k)/255, and so on.
pub fn srgb_of_ideal_inks(inks: &[u8]) -> Vec<u8> {
    let of = |ink: u8, black: u8| {
        let white = 255 - u32::from(black);
        (white - (u32::from(ink) * white + 127) / 255) as u8
    };
    inks.chunks_exact(4).flat_map(|p| [of(p[0], p[3]), of(p[1], p[3]), of(p[2], p[3])]).collect()
}

fn parse(icc: &[u8]) -> Result<ColorProfile, String> {
    ColorProfile::new_from_slice(icc).map_err(reason)
}

fn reason(error: moxcms::CmsError) -> String {
    format!("its profile cannot be used: {error}")
}

fn options() -> TransformOptions {
    TransformOptions { prefer_fixed_point: false, ..TransformOptions::default() }
}

/// How many numbers are converted at a time; each batch costs a copy of that size.
const PART: usize = 3 << 14;

fn in_place<T: Copy + Default>(transform: &(dyn TransformExecutor<T> + Send + Sync), pixels: &mut [T]) {
    let mut copy = vec![T::default(); PART.min(pixels.len())];
    for part in pixels.chunks_mut(PART) {
        let copy = &mut copy[..part.len()];
        copy.copy_from_slice(part);
        transform.transform(copy, part).expect("invariant: as many numbers out as in, three a pixel");
    }
}

/// A grey profile's curve for each of three channels with sRGB's primaries: equal numbers keep their grey.
fn grey_in_three_channels(grey: &ColorProfile) -> Result<ColorProfile, String> {
    let curve = grey.gray_trc.clone().filter(|_| grey.pcs == DataColorSpace::Xyz);
    let curve = curve.ok_or("its profile cannot be used: it is grey and has no tone curve over XYZ")?;
    Ok(with_curve(ColorProfile::new_srgb(), &curve))
}

fn of_cicp([primaries, transfer, matrix, full_range]: [u8; 4]) -> Result<Option<ColorProfile>, String> {
    if HIGH_DYNAMIC_RANGE.contains(&transfer) {
        return Err("it is a picture of high dynamic range (PQ or HLG), which is not read; convert it to sRGB".into());
    }
    let unknown = || {
        format!("it names a colour space that is not known here (H.273's {primaries}/{transfer}/{matrix}/{full_range})")
    };
    let codes = CicpProfile {
        color_primaries: CicpColorPrimaries::try_from(primaries).map_err(|_| unknown())?,
        transfer_characteristics: TransferCharacteristics::try_from(transfer).map_err(|_| unknown())?,
        matrix_coefficients: MatrixCoefficients::try_from(matrix).map_err(|_| unknown())?,
        full_range: full_range == 1,
    };
    if matrix != 0 || full_range != 1 {
        return Err(unknown());
    }
    let profile = ColorProfile::new_from_cicp(codes);
    if profile.red_trc.is_none() {
        return Err(unknown());
    }
    Ok(Some(profile))
}

fn of_gamma(gamma: Option<u32>, chromaticities: Option<[u32; 8]>) -> Option<ColorProfile> {
    let exponent = f64::from(gamma?) / UNIT;
    let points = chromaticities.map_or(SRGB_CHROMATICITIES, |points| points.map(|c| f64::from(c) / UNIT));
    let near = points.iter().zip(SRGB_CHROMATICITIES).all(|(a, b)| (a - b).abs() < CHROMATICITY_TOLERANCE);
    let sensible =
        points.iter().all(|c| (0.0..=1.0).contains(c)) && points[1] > 0.0 && (0.05..=5.0).contains(&exponent);
    if !sensible || near && GAMMA_OF_SRGB.contains(&exponent) {
        return None;
    }
    let point = |k: usize| Chromaticity { x: points[2 * k] as f32, y: points[2 * k + 1] as f32 };
    let mut profile = ColorProfile::new_srgb();
    let white = XyY { x: points[0], y: points[1], yb: 1.0 };
    profile.update_rgb_colorimetry(white, ColorPrimaries { red: point(1), green: point(2), blue: point(3) });
    let curve = curve_from_gamma((1.0 / exponent) as f32);
    Some(with_curve(profile, &curve))
}

/// `profile` with this tone curve in every channel, without the tags that named its former curve.
fn with_curve(mut profile: ColorProfile, curve: &ToneReprCurve) -> ColorProfile {
    for channel in [&mut profile.red_trc, &mut profile.green_trc, &mut profile.blue_trc] {
        *channel = Some(curve.clone());
    }
    (profile.cicp, profile.description) = (None, None);
    profile
}
