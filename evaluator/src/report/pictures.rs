//! Which pictures the report shows, by rule: the best, median and worst cases of the featured method, its failures,
//! and a sweep over strengths. None is picked by hand.

use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine;
use emotions::Emotion;
use image::imageops::{resize, FilterType};
use image::RgbImage;
use serde::Serialize;
use serde_json::{json, Value};

use crate::config::plan::Plan;
use crate::error::Result;
use crate::evaluation::evaluate::{Evaluation, TRUTH};
use crate::evaluation::evaluation_plan::EvaluatedMethod;
use crate::evaluation::gallery::{best_png, write_png, Key};
use crate::scores::failures::{Symptoms, BLURRED, LOST, NOISY};
use crate::scores::{Case, Series};

/// The largest width and height of pictures in the page; images/ has them in full size.
const EMBEDDED_SIDE: u32 = 256;

/// The pictures of one emotion.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The emotion.
    pub emotion: Emotion,
    /// How they were chosen.
    pub rule: String,
    /// Best, median, worst, failures, sweep.
    pub groups: Vec<Group>,
    /// How many of the featured method's edits fail, and how.
    pub failures: Vec<FailureCount>,
}

/// Strips with a common heading.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// `best`, `median`, `worst`, `failures` or `sweep`.
    pub key: &'static str,
    /// The heading.
    pub title: String,
    /// One strip for each source.
    pub strips: Vec<Strip>,
}

/// One source and its edits.
#[derive(Clone, Debug, Serialize)]
pub struct Strip {
    /// The source's image_id.
    pub image_id: String,
    /// The source's own label.
    pub label: String,
    /// The case's rank among the featured method's cases, from 1; none if it is not ranked.
    pub rank: Option<usize>,
    /// Why it is a failure.
    pub reasons: Vec<&'static str>,
    /// The source first.
    pub pictures: Vec<Picture>,
}

/// One picture.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// The method or strength.
    pub title: String,
    /// What the judges find.
    pub caption: String,
    /// The file in images/.
    pub file: String,
    /// A data URI.
    pub uri: String,
}

/// Edits of one method that fail in one way.
#[derive(Clone, Debug, Serialize)]
pub struct FailureCount {
    /// The method.
    pub method: &'static str,
    /// Edits counted.
    pub n: usize,
    /// The classifier finds another emotion.
    pub missed: usize,
    /// LPIPS above the limit, or another source is nearer.
    pub lost: usize,
    /// Sharpness below the limit.
    pub blurred: usize,
    /// Sharpness above the limit.
    pub noisy: usize,
    /// Any of the last three.
    pub visible: usize,
}

impl Shown {
    /// Which sources are shown where, without the pictures.
    pub fn json(&self) -> Value {
        let strip = |s: &Strip| {
            json!({"image_id": s.image_id, "rank": s.rank, "reasons": s.reasons,
            "images": s.pictures.iter().map(|p| &p.file).collect::<Vec<_>>()})
        };
        let groups: serde_json::Map<String, Value> =
            self.groups.iter().map(|group| (group.key.to_string(), group.strips.iter().map(strip).collect())).collect();
        json!({"emotion": self.emotion, "rule": self.rule, "groups": groups, "failures": self.failures})
    }
}

/// Chooses the pictures of every emotion and writes them to `folder`/images.
pub fn choose(plan: &Plan, evaluation: &Evaluation, folder: &Path) -> Result<Vec<Shown>> {
    let mut all = Vec::new();
    for (emotion, evaluated_methods) in &evaluation.evaluated_methods {
        let chooser = Chooser { plan, evaluation, emotion: *emotion, evaluated_methods, folder };
        all.extend(chooser.shown()?);
    }
    Ok(all)
}

struct Chooser<'a> {
    plan: &'a Plan,
    evaluation: &'a Evaluation,
    emotion: Emotion,
    evaluated_methods: &'a [EvaluatedMethod],
    folder: &'a Path,
}

impl Chooser<'_> {
    /// None if no run was trained for the emotion.
    fn shown(&self) -> Result<Option<Shown>> {
        let Some(featured) = self.evaluated_methods.iter().find(|e| Some(e.about.key) == self.evaluation.featured)
        else {
            return Ok(None);
        };
        let Some(series) = self.evaluation.scores.find(featured.about.key, self.emotion, featured.headline) else {
            return Ok(None);
        };
        let ranked = self.ranked(series);
        let mut groups = self.ranked_groups(&ranked)?;
        groups.push(self.failure_group(&ranked)?);
        groups.push(self.sweep_group(featured)?);
        groups.retain(|group| !group.strips.is_empty());
        let rule = format!(
            "Cases of {} at strength {}, ranked by Emo-S (p(target | edit) − p(target | source)); nobody picked them.",
            featured.about.name,
            featured.headline.unwrap_or_default(),
        );
        Ok(Some(Shown { emotion: self.emotion, rule, groups, failures: self.failure_counts() }))
    }

    /// The headline's cases, best first; ties are in the order of the sources.
    fn ranked<'s>(&self, series: &'s Series) -> Vec<&'s Case> {
        let excluded = self.plan.config.sources.exclude_target;
        let mut cases: Vec<&Case> = series.cases.iter().filter(|c| !(excluded && c.shows_target)).collect();
        cases.sort_by(|a, b| b.values["emo_s"].total_cmp(&a.values["emo_s"]).then(a.source.cmp(&b.source)));
        cases
    }

    fn ranked_groups(&self, ranked: &[&Case]) -> Result<Vec<Group>> {
        let count = self.plan.config.pictures.cases.min(ranked.len() / 3).max(ranked.len().min(1));
        let middle = ranked.len().saturating_sub(count) / 2;
        let last = ranked.len() - count;
        let windows = [("best", "Best", 0), ("median", "Median", middle), ("worst", "Worst", last)];
        let mut groups = Vec::new();
        for (key, title, start) in windows {
            let cases = ranked.iter().enumerate().skip(start).take(count);
            let strips = cases.map(|(place, case)| self.strip(case, Some(place + 1), vec![])).collect::<Result<_>>()?;
            groups.push(Group { key, title: title.into(), strips });
        }
        Ok(groups)
    }

    /// Visible failures, those farthest from their source first.
    fn failure_group(&self, ranked: &[&Case]) -> Result<Group> {
        let mut failing: Vec<(usize, &Case, Vec<&'static str>)> = ranked
            .iter()
            .enumerate()
            .map(|(place, case)| (place + 1, *case, self.visible_reasons(case)))
            .filter(|(_, _, reasons)| !reasons.is_empty())
            .collect();
        failing.sort_by(|a, b| b.1.values["lpips"].total_cmp(&a.1.values["lpips"]).then(a.0.cmp(&b.0)));
        failing.truncate(self.plan.config.pictures.cases);
        let strips = failing.into_iter().map(|(rank, case, reasons)| self.strip(case, Some(rank), reasons));
        Ok(Group {
            key: "failures",
            title: "Failures, most distant first".into(),
            strips: strips.collect::<Result<_>>()?,
        })
    }

    fn sweep_group(&self, featured: &EvaluatedMethod) -> Result<Group> {
        let mut strips = Vec::new();
        for &source in &self.evaluation.sweep {
            let mut pictures: Vec<Picture> = self.source_picture(source)?.into_iter().collect();
            pictures.extend(self.true_picture(source)?);
            for &strength in &featured.strengths {
                pictures.extend(self.edit_picture(featured, source, Some(strength), format!("strength {strength}"))?);
            }
            strips.push(self.strip_of(source, None, vec![], pictures));
        }
        let title = format!("Strength sweep of {}, sources evenly spaced", featured.about.name);
        Ok(Group { key: "sweep", title, strips })
    }

    /// The source and the true picture, then every method's headline edit.
    fn strip(&self, case: &Case, rank: Option<usize>, reasons: Vec<&'static str>) -> Result<Strip> {
        let mut pictures: Vec<Picture> = self.source_picture(case.source)?.into_iter().collect();
        pictures.extend(self.true_picture(case.source)?);
        for evaluated_method in self.evaluated_methods.iter().filter(|e| e.about.key != "no_edit") {
            pictures.extend(self.edit_picture(
                evaluated_method,
                case.source,
                evaluated_method.headline,
                evaluated_method.about.name.to_string(),
            )?);
        }
        Ok(self.strip_of(case.source, rank, reasons, pictures))
    }

    fn strip_of(
        &self, source: usize, rank: Option<usize>, reasons: Vec<&'static str>, pictures: Vec<Picture>,
    ) -> Strip {
        let entry = self.evaluation.sources.entry(source);
        let named = entry.attributes.get("label").and_then(Value::as_str).or(entry.label.as_deref());
        Strip {
            image_id: entry.image_id.clone(),
            label: named.unwrap_or_default().to_string(),
            rank,
            reasons,
            pictures,
        }
    }

    fn source_picture(&self, source: usize) -> Result<Option<Picture>> {
        let key = Key { source, method: "source", emotion: None, strength: None };
        let series = self.evaluation.scores.find("no_edit", self.emotion, None);
        let case = series.and_then(|s| s.cases.iter().find(|c| c.source == source));
        self.picture(key, "Source".into(), case.map(|c| self.probability(c)).unwrap_or_default())
    }

    /// The true picture nearest to the featured method's edit.
    fn true_picture(&self, source: usize) -> Result<Option<Picture>> {
        let drawings = self.evaluation.sources.truth(source, self.emotion).count();
        let caption = if drawings > 1 { format!("the nearest of {drawings}") } else { String::new() };
        let key = Key { source, method: TRUTH, emotion: Some(self.emotion), strength: None };
        self.picture(key, "Truth".into(), caption)
    }

    fn edit_picture(
        &self, evaluated_method: &EvaluatedMethod, source: usize, strength: Option<f64>, title: String,
    ) -> Result<Option<Picture>> {
        let series = self.evaluation.scores.find(evaluated_method.about.key, self.emotion, strength);
        let Some(case) = series.and_then(|s| s.cases.iter().find(|c| c.source == source)) else {
            return Ok(None);
        };
        let lpips = case.values["lpips"];
        let caption = format!("{}\nLPIPS {lpips:.2}", self.probability(case));
        let emotion = evaluated_method.by_emotion.then_some(self.emotion);
        self.picture(Key { source, method: evaluated_method.about.key, emotion, strength }, title, caption)
    }

    /// `sadness 93 % ✓`, and the class that was found instead if the target was missed.
    fn probability(&self, case: &Case) -> String {
        let share = (case.probability * 100.0).round();
        match case.found() {
            Some(found) if found == case.target => format!("{} {share} % ✓", case.target),
            Some(found) => format!("{} {share} % ✗ {found}", case.target),
            None if case.failed => format!("{} ✗ failed", case.target),
            None => format!("{} {share} % ✗ none of the eight", case.target),
        }
    }

    fn picture(&self, key: Key, title: String, caption: String) -> Result<Option<Picture>> {
        let Some(picture) = self.evaluation.gallery.picture(key)? else {
            return Ok(None);
        };
        let file = key.file_name();
        write_png(&self.folder.join("images").join(&file), &picture)?;
        let bytes = best_png(&embedded(picture))?;
        let uri = format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes));
        Ok(Some(Picture { title, caption, file, uri }))
    }

    fn visible_reasons(&self, case: &Case) -> Vec<&'static str> {
        Symptoms::of(case).reasons(&self.plan.config.failures)
    }

    fn failure_counts(&self) -> Vec<FailureCount> {
        let excluded = self.plan.config.sources.exclude_target;
        let count = |evaluated_method: &EvaluatedMethod| {
            let series =
                self.evaluation.scores.find(evaluated_method.about.key, self.emotion, evaluated_method.headline)?;
            let mut failures = FailureCount {
                method: evaluated_method.about.name,
                n: 0,
                missed: 0,
                lost: 0,
                blurred: 0,
                noisy: 0,
                visible: 0,
            };
            for case in series.cases.iter().filter(|c| !(excluded && c.shows_target)) {
                let reasons: BTreeSet<&str> = self.visible_reasons(case).into_iter().collect();
                failures.n += 1;
                failures.missed += usize::from(!case.is_hit());
                failures.lost += usize::from(reasons.contains(LOST));
                failures.blurred += usize::from(reasons.contains(BLURRED));
                failures.noisy += usize::from(reasons.contains(NOISY));
                failures.visible += usize::from(!reasons.is_empty());
            }
            Some(failures)
        };
        self.evaluated_methods.iter().filter(|e| !e.about.control).filter_map(count).collect()
    }
}

/// The picture, scaled down to keep the page small.
fn embedded(picture: RgbImage) -> RgbImage {
    let longest = picture.width().max(picture.height());
    if longest <= EMBEDDED_SIDE {
        return picture;
    }
    let side = |pixels: u32| (pixels * EMBEDDED_SIDE / longest).max(1);
    resize(&picture, side(picture.width()), side(picture.height()), FilterType::Lanczos3)
}
