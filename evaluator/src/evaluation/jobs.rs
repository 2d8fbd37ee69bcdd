//! The work, cut into jobs that processes share, and into parts whose results are stored.

use std::ops::Range;
use std::rc::Rc;

use emotions::Emotion;

use crate::config::plan::Plan;
use crate::error::Result;
use crate::evaluation::evaluation_plan::EmotionMethods;
use crate::evaluation::parts::Parts;
use crate::evaluation::ranks::Ranks;
use crate::evaluation::sources::Sources;

/// The unit of work of a process.
pub(crate) enum Job {
    /// A span of the sources, with inversions that all emotions share; one part for each emotion.
    Sources(Range<usize>),
    /// A span of an emotion's own images; one part.
    References(Emotion, Rc<Sources>, Range<usize>),
}

impl Job {
    /// The names of its parts, those of sources in the order of `methods_by_emotion`.
    pub fn parts(&self, methods_by_emotion: &[EmotionMethods]) -> Vec<String> {
        match self {
            Job::Sources(span) => {
                methods_by_emotion.iter().map(|emotion_methods| edits_part(span, emotion_methods.emotion)).collect()
            }
            Job::References(emotion, _, span) => vec![references_part(span, *emotion)],
        }
    }

    /// The emotions whose edits of its sources are not there yet.
    pub fn missing<'l>(&self, methods_by_emotion: &'l [EmotionMethods], parts: &Parts) -> Vec<&'l EmotionMethods> {
        match self {
            Job::Sources(span) => {
                methods_by_emotion.iter().filter(|l| !parts.has(&edits_part(span, l.emotion))).collect()
            }
            Job::References(..) => Vec::new(),
        }
    }

    /// How many pictures it has.
    pub fn len(&self) -> usize {
        match self {
            Job::Sources(span) | Job::References(_, _, span) => span.len(),
        }
    }
}

/// The name of the part with one emotion's edits of a span.
pub(crate) fn edits_part(span: &Range<usize>, emotion: Emotion) -> String {
    format!("sources-{:06}-{emotion}", span.start)
}

/// The name of the part with a span of an emotion's own images.
pub(crate) fn references_part(span: &Range<usize>, emotion: Emotion) -> String {
    format!("references-{:06}-{emotion}", span.start)
}

/// All the work on `sources` photos and each emotion's own images, cut alike on every process; each takes every
/// world-th job.
pub(crate) fn all(plan: &Plan, sources: usize, ranks: &Ranks) -> Result<Vec<Job>> {
    let cut = |count: usize| spans(count, plan.config.batch_size, ranks.size);
    let mut jobs: Vec<Job> = cut(sources).into_iter().map(Job::Sources).collect();
    for &emotion in &plan.emotions {
        let Some(own) = Sources::references(&plan.config, emotion)?.map(Rc::new) else { continue };
        jobs.extend(cut(own.len()).into_iter().map(|span| Job::References(emotion, own.clone(), span)));
    }
    Ok(jobs)
}

/// Cuts `count` sources into batches of at most `size`, as even as possible for `ranks` processes.
fn spans(count: usize, size: usize, ranks: usize) -> Vec<Range<usize>> {
    let rounds = count.div_ceil(size * ranks).max(1);
    let size = count.div_ceil(rounds * ranks).max(1);
    (0..count).step_by(size).map(|first| first..(first + size).min(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_source_once_and_burden_all_alike() {
        for (count, size, ranks) in [(52, 16, 2), (1, 16, 4), (7, 3, 1), (100, 8, 8), (46, 46, 2)] {
            let spans = spans(count, size, ranks);
            assert_eq!(spans.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            assert!(spans.iter().all(|span| span.len() <= size));
            let share = |rank: usize| spans.iter().skip(rank).step_by(ranks).map(|s| s.len()).sum::<usize>();
            let most = (0..ranks).map(share).max().expect("a process");
            assert!(most <= count.div_ceil(ranks) + size.min(count) / 2, "{count} {size} {ranks}: {most}");
        }
    }
}
