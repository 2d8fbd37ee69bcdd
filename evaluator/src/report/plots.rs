//! Inline SVG: Emo-A over LPIPS. Methods differ by mark and dash, so that the plot is readable in black and white.

use std::fmt::Write;

use crate::scores::rows::Row;
use crate::scores::summary::Section;

pub(super) const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 320.0;
pub(super) const LEFT: f64 = 44.0;
pub(super) const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;

/// The Emo-A of a blind guess.
const CHANCE: f64 = 0.125;

/// A mark, a dash pattern and a CSS class for the colour.
#[derive(Clone, Copy)]
pub(super) struct Look {
    mark: &'static str,
    pub(super) dash: &'static str,
    pub(super) class: &'static str,
    labelled: bool, // with its strengths as labels; those of all methods would cover the plot
}

/// What is drawn for one method: a line over strengths, or one point.
struct Line<'a> {
    key: &'static str,
    name: &'a str,
    rows: Vec<&'a Row>,
    headline: Option<f64>,
}

/// Maps data to the plot's area.
struct Axes {
    x_max: f64,
}

/// The curve of every trained method and a point for each control.
pub fn curve(section: &Section) -> String {
    let lines = lines(section);
    let largest = lines.iter().flat_map(|l| &l.rows).filter_map(|r| r.measures["lpips"].value).fold(0.05, f64::max);
    let axes = Axes { x_max: nice_ceiling(largest * 1.05) };
    let mut out = format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Emo-A in percent over LPIPS, one line a method\">"
    );
    out += &axes.frame();
    for line in &lines {
        out += &axes.line(line);
    }
    out += "</svg>";
    out + &legend(lines.iter().map(|line| (line.key, line.name, line.rows.len() > 1)))
}

fn lines(section: &Section) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    for headline in section.headlines.iter().filter(|h| h.row.about.key != crate::methods::SHUFFLED) {
        let (key, name) = (headline.row.about.key, headline.row.about.name);
        let curve = section.curves.iter().find(|c| c.first().is_some_and(|r| r.about.key == key));
        let rows: Vec<&Row> = curve.map_or_else(|| vec![&headline.row], |c| c.iter().collect());
        lines.push(Line { key, name, rows, headline: headline.row.strength });
    }
    lines
}

impl Axes {
    fn x(&self, lpips: f64) -> f64 {
        LEFT + lpips / self.x_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, emo_a: f64) -> f64 {
        TOP + (1.0 - emo_a) * (HEIGHT - TOP - BOTTOM)
    }

    fn frame(&self) -> String {
        let mut out = String::new();
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM);
        for percent in (0..=100).step_by(20) {
            out += &grid_line(self.y(f64::from(percent) / 100.0), &percent.to_string());
        }
        let step = nice_step(self.x_max);
        for tick in 0..=(self.x_max / step).round() as usize {
            let value = step * tick as f64;
            let (x, y) = (self.x(value), bottom + 16.0);
            let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", decimal(value));
        }
        let middle = (left + right) / 2.0;
        let _ = write!(out, "<path class=\"axis\" d=\"M{left} {TOP}V{bottom}H{right}\"/>");
        let _ = write!(
            out,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">LPIPS to the source</text>",
            HEIGHT - 8.0
        );
        let _ = write!(
            out,
            "<text transform=\"translate(12 {}) rotate(-90)\" text-anchor=\"middle\">Emo-A %</text>",
            HEIGHT / 2.0 - 16.0
        );
        let chance = self.y(CHANCE);
        let _ = write!(out, "<path class=\"chance\" d=\"M{left} {chance:.1}H{right}\"/>");
        let _ = write!(
            out,
            "<text class=\"small\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">chance</text>",
            chance - 4.0
        );
        out
    }

    fn line(&self, line: &Line<'_>) -> String {
        let look = look(line.key);
        let points: Vec<(f64, f64, &Row)> = line.rows.iter().filter_map(|row| self.point(row)).collect();
        let path: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let mut out = format!("<g class=\"{}\">", look.class);
        if path.len() > 1 {
            let _ = write!(out, "<polyline points=\"{}\" stroke-dasharray=\"{}\"/>", path.join(" "), look.dash);
        }
        for (x, y, row) in points {
            let headline = row.strength == line.headline;
            out += &self.whisker(x, row, headline);
            out += &mark(look, x, y, if headline { 5.5 } else { 3.5 });
            if let Some(strength) = row.strength.filter(|_| look.labelled) {
                let _ =
                    write!(out, "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{strength}</text>", x + 7.0, y + 11.0);
            }
        }
        out + "</g>"
    }

    fn point<'r>(&self, row: &'r Row) -> Option<(f64, f64, &'r Row)> {
        let (x, y) = (row.measures["lpips"].value?, row.measures["emo_a"].value?);
        Some((self.x(x), self.y(y), row))
    }

    /// The 95 % interval of Emo-A, at the headline's point only.
    fn whisker(&self, x: f64, row: &Row, headline: bool) -> String {
        match row.measures["emo_a"].interval.filter(|_| headline) {
            None => String::new(),
            Some([low, high]) => {
                let (low, high) = (self.y(low), self.y(high));
                format!("<path class=\"whisker\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>")
            }
        }
    }
}

/// A horizontal line across the plot, with its value on the left.
pub(super) fn grid_line(y: f64, label: &str) -> String {
    let (right, x, below) = (WIDTH - RIGHT, LEFT - 6.0, y + 4.0);
    format!(
        "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
         <text x=\"{x:.1}\" y=\"{below:.1}\" text-anchor=\"end\">{label}</text>"
    )
}

/// The legend: each method's key, its name, and whether it has a line.
pub(super) fn legend<'a>(methods: impl Iterator<Item = (&'a str, &'a str, bool)>) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (key, name, has_line) in methods {
        let look = look(key);
        let _ = write!(
            out,
            "<li><svg viewBox=\"0 0 36 14\" width=\"36\" height=\"14\" aria-hidden=\"true\"><g class=\"{}\">",
            look.class
        );
        if has_line {
            let _ = write!(out, "<polyline points=\"1,7 35,7\" stroke-dasharray=\"{}\"/>", look.dash);
        }
        let _ = write!(out, "{}</g></svg>{name}</li>", mark(look, 18.0, 7.0, 4.5));
    }
    out + "</ul>"
}

pub(super) fn look(key: &str) -> Look {
    let (mark, dash, class) = match key {
        "joint" => ("circle", "none", "m-joint"),
        "asyrp" => ("square", "7 3", "m-asyrp"),
        "textual_inversion" => ("triangle", "2 3", "m-ti"),
        "no_edit" => ("cross", "none", "m-control"),
        "vae_round_trip" => ("plus", "none", "m-control"),
        "sdedit_word" => ("diamond", "8 3 2 3", "m-other"),
        "sdedit_token" => ("diamond", "8 3 2 3 2 3", "m-other m-hollow"),
        "colour_transfer" => ("down", "1 3", "m-style"),
        "adain" => ("hourglass", "5 5", "m-style"),
        "latent_arithmetic" => ("square", "12 4", "m-style m-hollow"),
        _ => ("circle", "3 6", "m-other m-hollow"),
    };
    Look { mark, dash, class, labelled: ["joint", "asyrp", "textual_inversion"].contains(&key) }
}

pub(super) fn mark(look: Look, x: f64, y: f64, r: f64) -> String {
    let width = 2.0 * r;
    let shape = match look.mark {
        "circle" => return format!("<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"/>"),
        "square" => format!("M{:.1} {:.1}h{width}v{width}h-{width}z", x - r, y - r),
        "triangle" => format!("M{x:.1} {:.1}L{:.1} {:.1}H{:.1}z", y - r, x + r, y + r, x - r),
        "down" => format!("M{x:.1} {:.1}L{:.1} {:.1}H{:.1}z", y + r, x + r, y - r, x - r),
        "hourglass" => format!("M{:.1} {:.1}h{width}l-{width} {width}h{width}z", x - r, y - r),
        "diamond" => format!("M{x:.1} {:.1}l{r} {r}l-{r} {r}l-{r} -{r}z", y - r),
        "cross" => format!("M{:.1} {:.1}l{width} {width}m0 -{width}l-{width} {width}", x - r, y - r),
        _ => format!("M{:.1} {y:.1}h{width}M{x:.1} {:.1}v{width}", x - r, y - r),
    };
    format!("<path class=\"mark\" d=\"{shape}\"/>")
}

/// The least of 0.05, 0.1, 0.2, 0.3, … that is at least `value`.
fn nice_ceiling(value: f64) -> f64 {
    let step = nice_step(value);
    (value / step).ceil() * step
}

/// A distance between ticks that gives four to eight of them.
pub(super) fn nice_step(range: f64) -> f64 {
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].into_iter().find(|step| range / step <= 7.0).unwrap_or(1.0)
}

/// At most two decimals, without trailing zeros.
pub(super) fn decimal(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_data() {
        assert_eq!(decimal(nice_ceiling(0.187)), "0.2");
        assert_eq!(decimal(nice_ceiling(0.29)), "0.3");
        assert_eq!(decimal(nice_ceiling(0.05)), "0.05");
        for value in [0.05, 0.11, 0.3, 0.72, 1.4] {
            assert!(nice_ceiling(value) >= value - 1e-12);
            assert!((nice_ceiling(value) / nice_step(value)) <= 8.0);
        }
    }
}
