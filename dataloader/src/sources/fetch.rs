//! `dataloader fetch findingemo`: downloads the images behind the annotated URLs without straining their servers.
//!
//! The number of requests at once is bounded, and each host gets one at a time, with pauses. Images that exist are
//! not fetched again. Dead URLs are replaced by an image's other URLs and reported. Temporary failures are retried
//! with growing pauses.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use program::Progress;
use rayon::prelude::*;
use recipe::text_file;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::making::staging::write_whole;
use crate::sources::inside;

/// The result for every image, one JSON object a line.
pub const REPORT: &str = "fetch-report.jsonl";

/// How requests name the program to servers.
const USER_AGENT: &str = concat!("emotion-editor-dataloader/", env!("CARGO_PKG_VERSION"), " (research dataset fetch)");

/// How to make requests.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// Requests at once.
    pub concurrency: usize,
    /// The pause between two requests to one host.
    pub pause: Duration,
    /// The limit for a request's answer, and between two pieces of its body.
    pub timeout: Duration,
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
    /// The URL that gave it, or the last one tried.
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
    let log = Mutex::new(log);
    let client = Client::new(policy);
    let progress = Progress::new("fetching", "images", open.len() as u64, true);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(policy.concurrency.max(1))
        .build()
        .map_err(|e| Error::invalid("--concurrency", e.to_string()))?;
    let lines: Result<Vec<Line>> = pool.install(|| {
        open.into_par_iter()
            .map(|wanted| {
                let line = client.get(wanted, output)?;
                if line.outcome != Outcome::There {
                    note(&log, &line).map_err(|e| Error::file(&report, e))?;
                }
                progress.inc(1);
                Ok(line)
            })
            .collect()
    });
    drop(progress);
    let lines = lines?;
    let count = |outcome: Outcome| lines.iter().filter(|line| line.outcome == outcome).count();
    Ok(Summary {
        fetched: count(Outcome::Fetched),
        there: count(Outcome::There),
        dead: count(Outcome::Dead) + dead.len(),
        failed: count(Outcome::Failed),
    })
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

/// Why a URL gave no image.
enum Refusal {
    /// For a lasting reason.
    Dead(String),
    /// For a temporary reason, perhaps for at least this long.
    Later(String, Option<Duration>),
}

/// One connection pool, and when each host may be asked next.
struct Client<'a> {
    agent: ureq::Agent,
    policy: &'a FetchPolicy,
    hosts: Mutex<HashMap<String, Arc<Mutex<Option<Instant>>>>>,
}

impl<'a> Client<'a> {
    fn new(policy: &'a FetchPolicy) -> Self {
        let agent = ureq::AgentBuilder::new()
            .timeout_connect(policy.timeout)
            .timeout_read(policy.timeout)
            .timeout_write(policy.timeout)
            .redirects(5)
            .user_agent(USER_AGENT)
            .build();
        Self { agent, policy, hosts: Mutex::default() }
    }

    fn get(&self, wanted: &Wanted, output: &Path) -> Result<Line> {
        let place = output.join(&wanted.path);
        let line =
            |outcome, url: &str, reason: String| Line { path: wanted.path.clone(), outcome, url: url.into(), reason };
        if place.is_file() {
            return Ok(line(Outcome::There, "", String::new()));
        }
        let mut last = line(Outcome::Dead, "", "no usable URL is published".into());
        for url in &wanted.urls {
            match self.get_url(url) {
                Ok(bytes) => {
                    save(&place, &bytes)?;
                    return Ok(line(Outcome::Fetched, url, String::new()));
                }
                Err(Refusal::Later(reason, _)) => last = line(Outcome::Failed, url, reason),
                // A URL that may answer another time counts more than one that is gone.
                Err(Refusal::Dead(reason)) if last.outcome != Outcome::Failed => {
                    last = line(Outcome::Dead, url, reason)
                }
                Err(Refusal::Dead(_)) => {}
            }
        }
        Ok(last)
    }

    /// The image at `url`, after as many attempts as are needed and allowed.
    fn get_url(&self, url: &str) -> std::result::Result<Vec<u8>, Refusal> {
        let mut backoff = self.policy.backoff;
        let mut attempt = 1;
        loop {
            match self.ask(url) {
                Err(Refusal::Later(_, wait)) if attempt < self.policy.attempts => {
                    std::thread::sleep(wait.unwrap_or(backoff).min(Duration::from_secs(120)));
                    backoff *= 2;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// One request, once it is the host's turn.
    fn ask(&self, url: &str) -> std::result::Result<Vec<u8>, Refusal> {
        let host = url::Url::parse(url).ok().and_then(|u| u.host_str().map(str::to_string)).unwrap_or_default();
        let turn = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).entry(host).or_default().clone();
        let mut last = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = last.map(|at| at.elapsed()) {
            std::thread::sleep(self.policy.pause.saturating_sub(since));
        }
        let answer = self.request(url);
        *last = Some(Instant::now());
        answer
    }

    fn request(&self, url: &str) -> std::result::Result<Vec<u8>, Refusal> {
        let response = self.agent.get(url).call().map_err(|error| match error {
            ureq::Error::Status(code, response) => {
                let reason = format!("HTTP {code}");
                match code {
                    408 | 425 | 429 | 500.. => {
                        let after = response.header("Retry-After").and_then(|text| text.parse().ok());
                        Refusal::Later(reason, after.map(Duration::from_secs))
                    }
                    _ => Refusal::Dead(reason),
                }
            }
            ureq::Error::Transport(error) => match error.kind() {
                ureq::ErrorKind::InvalidUrl | ureq::ErrorKind::UnknownScheme | ureq::ErrorKind::TooManyRedirects => {
                    Refusal::Dead(error.to_string())
                }
                _ => Refusal::Later(error.to_string(), None),
            },
        })?;
        let stated: Option<u64> = response.header("Content-Length").and_then(|text| text.parse().ok());
        let mut bytes = Vec::new();
        let limit = self.policy.max_bytes;
        let read = response.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| Refusal::Later(format!("the body broke off: {e}"), None))?;
        if bytes.len() as u64 > limit {
            return Err(Refusal::Dead(format!("larger than {limit} bytes")));
        }
        if stated.is_some_and(|stated| stated > bytes.len() as u64) {
            return Err(Refusal::Later("the body is shorter than announced".into(), None));
        }
        match image::guess_format(&bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(Refusal::Dead("what it gives is no image".into())),
        }
    }
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
