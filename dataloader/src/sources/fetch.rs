//! `dataloader fetch findingemo`: downloads the images behind the annotated URLs without straining their servers.
//!
//! The number of requests at once is bounded, and each host gets one at a time, with pauses (`queue.rs`). Images that
//! exist are not fetched again. Dead URLs are replaced by an image's other URLs and reported. Temporary failures are
//! retried with growing pauses.

mod addresses;
mod client;
mod queue;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use program::Progress;
use recipe::secrets::masked;
use recipe::text_file;
use serde::{Deserialize, Serialize};

use client::{Client, Refusal};
use queue::{Heard, Queue, Turn};

use crate::error::{Error, Result};
use crate::making::staging::write_whole;
use crate::sources::inside;

/// The result for every image, one JSON object a line.
pub const REPORT: &str = "fetch-report.jsonl";

/// The longest wait that a server's Retry-After is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How to make requests.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// Requests at once.
    pub concurrency: usize,
    /// The pause between two requests to one host.
    pub pause: Duration,
    /// The limit for finding a host's address, and for connecting to it.
    pub timeout: Duration,
    /// The limit for a whole request, with its redirects and its body.
    pub deadline: Duration,
    /// After how many requests in a row without an answer a host is not asked again in this run.
    pub host_patience: u32,
    /// Whether hosts may have private addresses, this machine's included.
    pub allow_private: bool,
    /// Attempts at a URL that fails for a temporary reason.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each.
    pub backoff: Duration,
    /// The largest image.
    pub max_bytes: u64,
    /// Whether images that an earlier run reported dead are tried again.
    pub retry_dead: bool,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            concurrency: 16,
            pause: Duration::from_millis(500),
            timeout: Duration::from_secs(20),
            deadline: Duration::from_secs(120),
            host_patience: 5,
            allow_private: false,
            attempts: 3,
            backoff: Duration::from_secs(2),
            max_bytes: 64 << 20,
            retry_dead: false,
        }
    }
}

/// A line of dataset_urls_exploded.json.
#[derive(Debug, Deserialize)]
struct Address {
    rel_path: String,
    idx_url: u32,
    url: String,
}

/// An image and its URLs, the best first.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    path: String,
    urls: Vec<String>,
}

impl Wanted {
    fn line(&self, outcome: Outcome, url: &str, reason: String) -> Line {
        let (url, reason) = (masked(url).into_owned(), masked(&reason).into_owned());
        Line { path: self.path.clone(), outcome, url, reason }
    }
}

/// The result for an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is on the disk now.
    Fetched,
    /// It was on the disk before.
    There,
    /// It is not available: every URL is gone or gives no image.
    Dead,
    /// It may be available another time.
    Failed,
}

/// A line of the report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The image's path below the output folder.
    pub path: String,
    /// The result for it.
    pub outcome: Outcome,
    /// The URL that gave it, or the last one tried, without passwords and signatures.
    pub url: String,
    /// Why there is no image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Newly fetched.
    pub fetched: usize,
    /// Fetched before.
    pub there: usize,
    /// Dead, now or in an earlier run.
    pub dead: usize,
    /// Another run may get them.
    pub failed: usize,
}

/// Fetches the images of the URL list `urls` into `output`, as far as they are available.
pub fn fetch(urls: &Path, output: &Path, policy: &FetchPolicy) -> Result<Summary> {
    let wanted = read_urls(urls)?;
    fs::create_dir_all(output).map_err(|e| Error::file(output, e))?;
    let report = output.join(REPORT);
    let earlier = read_report(&report);
    let known_dead = |wanted: &&Wanted| {
        !policy.retry_dead && earlier.get(&wanted.path).is_some_and(|line| line.outcome == Outcome::Dead)
    };
    let (dead, open): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(known_dead);
    let log = OpenOptions::new().create(true).append(true).open(&report).map_err(|e| Error::file(&report, e))?;
    let lines = Run { output, policy, log: &Mutex::new(log), report: &report }.all(&open)?;
    let count = |outcome: Outcome| lines.iter().filter(|line| line.outcome == outcome).count();
    Ok(Summary {
        fetched: count(Outcome::Fetched),
        there: count(Outcome::There),
        dead: count(Outcome::Dead) + dead.len(),
        failed: count(Outcome::Failed),
    })
}

/// What the workers of a run share.
#[derive(Clone, Copy)]
struct Run<'a> {
    output: &'a Path,
    policy: &'a FetchPolicy,
    log: &'a Mutex<fs::File>,
    report: &'a Path,
}

impl Run<'_> {
    /// The results for `open`, in the order in which they come.
    fn all(self, open: &[&Wanted]) -> Result<Vec<Line>> {
        let (queue, client, now) = (Queue::new(), Client::new(self.policy), Instant::now());
        let mut lines = Vec::new();
        let progress = Progress::new("fetching", "images", open.len() as u64, true);
        for wanted in open {
            match (self.output.join(&wanted.path).is_file(), wanted.urls.first()) {
                (true, _) => lines.push(wanted.line(Outcome::There, "", String::new())),
                (false, None) => {
                    lines.push(Job::new(wanted, self.policy).last);
                    note(self.log, &lines[lines.len() - 1]).map_err(|e| Error::file(self.report, e))?;
                }
                (false, Some(url)) => queue.push(&host_of(url), now, Job::new(wanted, self.policy)),
            }
        }
        progress.set(lines.len() as u64);
        let made: Result<Vec<Vec<Line>>> = std::thread::scope(|scope| {
            let work = || self.work(&queue, &client, &progress).inspect_err(|_| queue.close());
            let workers: Vec<_> = (0..self.policy.concurrency.max(1)).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            joined.collect()
        });
        lines.extend(made?.into_iter().flatten());
        Ok(lines)
    }

    fn work(self, queue: &Queue<Job<'_>>, client: &Client, progress: &Progress) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        while let Some(turn) = queue.take() {
            let host = turn.host.clone();
            let (tried, heard) = attempt(client, turn, self.output, self.policy)?;
            let next = match tried {
                Tried::Again(job, from) => Some((host_of(job.url()), from, job)),
                Tried::Done(line) => {
                    note(self.log, &line).map_err(|e| Error::file(self.report, e))?;
                    progress.inc(1);
                    lines.push(line);
                    None
                }
            };
            queue.tried(&host, heard, self.policy.pause, next);
        }
        Ok(lines)
    }
}

fn note(log: &Mutex<fs::File>, line: &Line) -> std::io::Result<()> {
    let text = serde_json::to_string(line).expect("a line is plain data") + "\n";
    log.lock().unwrap_or_else(PoisonError::into_inner).write_all(text.as_bytes())
}

/// The last line of each image.
fn read_report(path: &Path) -> HashMap<String, Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    lines.map(|line| (line.path.clone(), line)).collect()
}

/// The images of the list, in its order, with the URLs of each in the order of their index.
fn read_urls(path: &Path) -> Result<Vec<Wanted>> {
    let name = path.display().to_string();
    let refuse = |message: String| Error::invalid(&name, message);
    let bytes = fs::read(path).map_err(|e| refuse(e.to_string()))?;
    let mut addresses: Vec<Address> =
        serde_json::from_slice(text_file::without_mark(&bytes)).map_err(|e| refuse(e.to_string()))?;
    addresses.sort_by_key(|address| address.idx_url);
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Address { rel_path, url, .. } in addresses {
        let path = rel_path.trim_start_matches('/').to_string();
        inside(&path).map_err(refuse)?;
        let urls = wanted.entry(path).or_default();
        let url = url.trim().to_string();
        if is_web(&url) && !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(wanted.into_iter().map(|(path, urls)| Wanted { path, urls }).collect())
}

/// Some of the published URLs are fragments of HTML, or lack a scheme.
fn is_web(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.host_str().is_some())
}

/// An image on its way: which of its URLs is asked, and how often it was.
struct Job<'a> {
    wanted: &'a Wanted,
    url: usize,
    attempt: u32,
    backoff: Duration,
    /// The result if no URL gives it.
    last: Line,
}

/// What comes of a try.
enum Tried<'a> {
    /// The image has its result.
    Done(Line),
    /// Another try, from then on.
    Again(Job<'a>, Instant),
}

impl<'a> Job<'a> {
    fn new(wanted: &'a Wanted, policy: &FetchPolicy) -> Self {
        let last = wanted.line(Outcome::Dead, "", "no usable URL is published".into());
        Self { wanted, url: 0, attempt: 1, backoff: policy.backoff, last }
    }

    fn url(&self) -> &'a str {
        &self.wanted.urls[self.url]
    }

    /// The same URL another time, as long as attempts are left; then the next one.
    fn later(self, reason: String, wait: Option<Duration>, policy: &FetchPolicy) -> Tried<'a> {
        if self.attempt < policy.attempts {
            let from = Instant::now() + wait.unwrap_or(self.backoff).min(LONGEST_WAIT);
            return Tried::Again(Self { attempt: self.attempt + 1, backoff: self.backoff * 2, ..self }, from);
        }
        let last = self.wanted.line(Outcome::Failed, self.url(), reason);
        Self { last, ..self }.next(policy)
    }

    fn dead(self, reason: String, policy: &FetchPolicy) -> Tried<'a> {
        // A URL that may answer another time counts more than one that is gone.
        let last = match self.last.outcome {
            Outcome::Failed => self.last.clone(),
            _ => self.wanted.line(Outcome::Dead, self.url(), reason),
        };
        Self { last, ..self }.next(policy)
    }

    fn next(self, policy: &FetchPolicy) -> Tried<'a> {
        match self.url + 1 < self.wanted.urls.len() {
            true => {
                Tried::Again(Self { url: self.url + 1, attempt: 1, backoff: policy.backoff, ..self }, Instant::now())
            }
            false => Tried::Done(self.last),
        }
    }
}

/// A try at a job, and what it tells of the host. A host that has not answered for too often is not asked.
fn attempt<'a>(
    client: &Client, turn: Turn<Job<'a>>, output: &Path, policy: &FetchPolicy,
) -> Result<(Tried<'a>, Heard)> {
    let Turn { job, unanswered, host } = turn;
    if unanswered >= policy.host_patience {
        let reason = format!("{host} did not answer {unanswered} times in a row; it is not asked again in this run");
        return Ok((Job { attempt: policy.attempts, ..job }.later(reason, None, policy), Heard::Nothing));
    }
    Ok(match client.image(job.url()) {
        Ok(bytes) => {
            save(&output.join(&job.wanted.path), &bytes)?;
            (Tried::Done(job.wanted.line(Outcome::Fetched, job.url(), String::new())), Heard::Answer)
        }
        Err(Refusal::Dead(reason)) => (job.dead(reason, policy), Heard::Answer),
        Err(Refusal::Later(reason, wait)) => (job.later(reason, wait, policy), Heard::Answer),
        Err(Refusal::Silent(reason)) => (job.later(reason, None, policy), Heard::Silence),
    })
}

fn host_of(url: &str) -> String {
    url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_string)).unwrap_or_default()
}

fn save(place: &Path, bytes: &[u8]) -> Result<()> {
    let folder: PathBuf = place.parent().map(Path::to_path_buf).unwrap_or_default();
    fs::create_dir_all(&folder).map_err(|e| Error::file(&folder, e))?;
    write_whole(place, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_grouped_and_what_is_no_url_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("urls.json");
        let list = r#"[
            {"rel_path": "/Run_1/a/b.jpg", "idx_url": 2, "url": "https://b.example/b.jpg"},
            {"rel_path": "/Run_1/a/b.jpg", "idx_url": 1, "url": "http://a.example/b.jpg"},
            {"rel_path": "/Run_1/a/b.jpg", "idx_url": 3, "url": "http://a.example/b.jpg"},
            {"rel_path": "/Run_2/c.png", "idx_url": 1, "url": "images/newbldg-4.jpg"},
            {"rel_path": "/Run_2/d.png", "idx_url": 1, "url": "<div class='x'>"}]"#;
        fs::write(&path, list).expect("written");
        let wanted = read_urls(&path).expect("read");
        let urls: Vec<usize> = wanted.iter().map(|w| w.urls.len()).collect();
        assert_eq!(urls, [2, 0, 0]);
        assert_eq!(wanted[0].urls[0], "http://a.example/b.jpg");
        fs::write(&path, r#"[{"rel_path": "/../x.jpg", "idx_url": 1, "url": "http://a.example/b.jpg"}]"#)
            .expect("written");
        assert!(read_urls(&path).expect_err("refused").to_string().contains("outside"));
    }
}
