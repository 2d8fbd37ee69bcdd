//! The table of the comparison at equal LPIPS: the reference first, then every method with the strengths of its mix.

use super::Report;
use crate::scores::by_metric::ByMetric;
use crate::scores::equal_lpips::Mix;
use crate::scores::failures::Flag;
use crate::scores::rows::Measure;
use crate::scores::summary::{Headline, Section};

/// The table's explanation.
pub const NOTE: &str = "Every method where it changes photos as much as the reference. Between two strengths that were run, \
                        numbers are interpolated linearly: they are those of edits of which the stated share is made at the \
                        one strength and the rest at the other. Intervals take the shares as given.";

/// A method's line.
#[derive(Debug)]
pub struct Line<'a> {
    /// The method.
    pub name: &'static str,
    /// Which strengths in which proportion.
    pub made_of: String,
    /// Number of edits counted.
    pub n: usize,
    /// The metrics of single images.
    pub measures: &'a ByMetric<Measure>,
    /// The ways in which most of its edits fail.
    pub flags: &'a [Flag],
}

/// The lines of a section; none if nothing was compared.
pub fn lines(section: &Section) -> Vec<Line<'_>> {
    let compared: Vec<Line<'_>> = section.headlines.iter().filter_map(line).collect();
    let key = section.headlines.iter().find_map(|h| Some(h.at_equal_lpips.as_ref()?.reference));
    let reference = section.headlines.iter().find(|h| Some(h.row.about.key) == key).map(|h| Line {
        name: h.row.about.name,
        made_of: format!("strength {}", h.row.strength.unwrap_or_default()),
        n: h.row.n,
        measures: &h.row.measures,
        flags: &h.flags,
    });
    reference.into_iter().chain(compared).collect()
}

/// `At the LPIPS of Joint, 0.172`; none if nothing was compared.
pub fn title(report: &Report, section: &Section) -> Option<String> {
    let lines = lines(section);
    let reference = lines.first()?;
    let value = super::numbers::value(report.metric("lpips"), &reference.measures["lpips"]);
    Some(format!("At the LPIPS of {}, {value}", reference.name))
}

fn line(headline: &Headline) -> Option<Line<'_>> {
    let equal = headline.at_equal_lpips.as_ref()?;
    Some(Line {
        name: headline.row.about.name,
        made_of: made_of(equal.mix),
        n: equal.n,
        measures: &equal.measures,
        flags: &equal.flags,
    })
}

fn made_of(mix: Mix) -> String {
    let share = (mix.share * 100.0).round();
    match mix.lower {
        _ if mix.at_the_end => format!("all at {}, the largest run", mix.upper),
        None => format!("{share} % at {}, the rest unedited", mix.upper),
        Some(lower) => format!("{share} % at {}, the rest at {lower}", mix.upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_says_what_it_is_made_of() {
        let mix = |lower, share, at_the_end| Mix { lower, upper: 1.5, share, at_the_end };
        assert_eq!(made_of(mix(Some(0.5), 0.254, false)), "25 % at 1.5, the rest at 0.5");
        assert_eq!(made_of(mix(None, 0.5, false)), "50 % at 1.5, the rest unedited");
        assert_eq!(made_of(mix(Some(1.5), 1.0, true)), "all at 1.5, the largest run");
    }
}
