//! Who waits for the model: first come, first served, bounded in all and for each session.
//!
//! libtorch's tensors belong to one thread, so there is one line of jobs and one worker at its head.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::store::{locked, Entry};

/// How many jobs of one session may wait.
const PER_SESSION: usize = 8;
/// How much the newest job counts in the mean of their seconds.
const NEWEST: f64 = 0.2;

/// A picture as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Lossless, 16 bits if the photo has them.
    Png,
    /// Quality 95.
    #[serde(alias = "jpg")]
    Jpeg,
    /// Lossless.
    Webp,
}

/// At which size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// The size of a page.
    Preview,
    /// The photo's own.
    Full,
}

/// An edit that was asked for; everything in it is known to be valid.
#[derive(Clone, Debug, PartialEq)]
pub struct EditRequest {
    /// Which run.
    pub run: usize,
    /// Its emotions with their weights.
    pub emotions: Vec<(String, f64)>,
    /// The strength.
    pub strength: f64,
    /// How it is sent.
    pub format: Format,
    /// At which size.
    pub quality: Quality,
}

/// A file's content, or why there is none.
pub type Answer = Result<Vec<u8>, Refusal>;

/// What is to be done with a photo.
pub enum Work {
    /// Its inversion for this run, so that its first edit need not wait for it.
    Invert(usize),
    /// An edit.
    Edit(EditRequest, oneshot::Sender<Answer>),
}

/// Work in the line.
pub struct Job {
    number: u64,
    /// Which photo.
    pub entry: Arc<Entry>,
    /// What to do.
    pub work: Work,
    left: Arc<AtomicBool>,
}

impl Job {
    /// Whether nobody waits for it any more.
    pub fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || self.entry.is_gone()
    }
}

/// What the worker is given.
pub enum Turn {
    /// Something to do.
    Job(Job),
    /// Nothing for now.
    Idle,
    /// The end.
    Closed,
}

/// The line.
pub struct Queue {
    capacity: usize,
    line: Mutex<Line>,
    wake: Condvar,
}

struct Line {
    waiting: VecDeque<Job>,
    next_number: u64,
    at_work: usize,
    is_closed: bool,
    mean_seconds: f64,
}

impl Queue {
    /// An empty line for at most `capacity` jobs.
    pub fn new(capacity: usize) -> Self {
        let line = Line { waiting: VecDeque::new(), next_number: 0, at_work: 0, is_closed: false, mean_seconds: 1.0 };
        Self { capacity, line: Mutex::new(line), wake: Condvar::new() }
    }

    /// Puts work at the end of the line. Whoever drops the ticket leaves it.
    pub fn push(self: &Arc<Self>, entry: &Arc<Entry>, work: Work) -> Result<Ticket, Refusal> {
        let mut line = locked(&self.line);
        if line.is_closed {
            return Err(Refusal::stopping());
        }
        line.waiting.retain(|job| !job.is_left());
        if line.waiting.len() >= self.capacity {
            return Err(Refusal::busy(format!("{} requests are waiting", self.capacity), line.seconds_to_wait()));
        }
        let own = line.waiting.iter().filter(|job| job.entry.session == entry.session).count();
        if own >= PER_SESSION {
            let error = format!("{PER_SESSION} requests of this session are waiting");
            return Err(Refusal::too_many(error, line.seconds_to_wait()));
        }
        let (number, left) = (line.next_number, Arc::new(AtomicBool::new(false)));
        line.next_number += 1;
        line.waiting.push_back(Job { number, entry: entry.clone(), work, left: left.clone() });
        self.wake.notify_one();
        Ok(Ticket { queue: self.clone(), number, left, stays: false })
    }

    /// The next job, once there is one; [`Turn::Idle`] after `patience` without.
    pub fn next(&self, patience: Duration) -> Turn {
        let mut line = locked(&self.line);
        if line.waiting.is_empty() && !line.is_closed {
            line = self.wake.wait_timeout(line, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        if line.is_closed {
            return Turn::Closed;
        }
        while let Some(job) = line.waiting.pop_front() {
            if !job.is_left() {
                line.at_work = 1;
                return Turn::Job(job);
            }
        }
        Turn::Idle
    }

    /// Says that the job at work is done, after so many seconds.
    pub fn done(&self, seconds: f64) {
        let mut line = locked(&self.line);
        line.at_work = 0;
        line.mean_seconds += NEWEST * (seconds - line.mean_seconds);
    }

    /// How many jobs come before the inversion of `entry`, the one at work included; `None` if it does not wait.
    pub fn place(&self, entry: &Entry) -> Option<usize> {
        let line = locked(&self.line);
        let is_it = |job: &Job| job.entry.id == entry.id && matches!(job.work, Work::Invert(_));
        line.waiting.iter().position(is_it).map(|before| before + line.at_work)
    }

    /// How many jobs wait or are at work.
    #[cfg(test)]
    fn len(&self) -> usize {
        let line = locked(&self.line);
        line.waiting.len() + line.at_work
    }

    /// After how many seconds the line may be empty.
    pub fn seconds_to_wait(&self) -> u64 {
        locked(&self.line).seconds_to_wait()
    }

    /// Ends it: nothing comes in, and who waits is told so by a dropped sender.
    pub fn close(&self) {
        let mut line = locked(&self.line);
        line.is_closed = true;
        line.waiting.clear();
        self.wake.notify_all();
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        locked(&self.line).is_closed
    }

    fn leave(&self, number: u64) {
        let mut line = locked(&self.line);
        let before = line.waiting.len();
        line.waiting.retain(|job| job.number != number);
        if line.waiting.len() < before {
            tracing::debug!("a client left the line");
        }
    }
}

impl Line {
    fn seconds_to_wait(&self) -> u64 {
        let jobs = self.waiting.len() + self.at_work;
        (jobs as f64 * self.mean_seconds).ceil().clamp(1.0, 600.0) as u64
    }
}

/// A place in the line.
pub struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    left: Arc<AtomicBool>,
    stays: bool,
}

impl Ticket {
    /// Stays in the line although nobody holds the ticket; the photo alone can end the job now.
    pub fn stay(mut self) {
        self.stays = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.stays {
            self.left.store(true, Ordering::Relaxed);
            self.queue.leave(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::id::Id;
    use axum::http::StatusCode;
    use diffusion::images::Photo;
    use image::RgbImage;

    const NO_WAIT: Duration = Duration::ZERO;

    fn entry(session: Id) -> Arc<Entry> {
        Arc::new(Entry::new(session, Photo::of_srgb(RgbImage::new(1, 1))).expect("an entry"))
    }

    fn entries(count: usize) -> Vec<Arc<Entry>> {
        (0..count).map(|_| entry(Id::random())).collect()
    }

    #[test]
    fn first_come_is_first_served_and_knows_its_place() {
        let queue = Arc::new(Queue::new(8));
        let photos = entries(3);
        let tickets: Vec<Ticket> =
            photos.iter().map(|photo| queue.push(photo, Work::Invert(0)).expect("room")).collect();
        assert_eq!([0, 1, 2].map(|i| queue.place(&photos[i])), [Some(0), Some(1), Some(2)]);
        let Turn::Job(job) = queue.next(NO_WAIT) else { panic!("a job") };
        assert_eq!(job.entry.id, photos[0].id);
        assert_eq!([0, 1, 2].map(|i| queue.place(&photos[i])), [None, Some(1), Some(2)]);
        drop(tickets);
        assert!(job.is_left() && queue.len() == 1, "who leaves frees its place");
        queue.done(1.0);
        assert!(matches!(queue.next(NO_WAIT), Turn::Idle));
    }

    #[test]
    fn a_full_line_says_busy_and_a_closed_one_is_empty() {
        let queue = Arc::new(Queue::new(2));
        let photos = entries(3);
        let _tickets: Vec<Ticket> =
            photos[..2].iter().map(|photo| queue.push(photo, Work::Invert(0)).expect("room")).collect();
        let refusal = queue.push(&photos[2], Work::Invert(0)).err().expect("full");
        assert_eq!((refusal.status, refusal.retry_after), (StatusCode::SERVICE_UNAVAILABLE, Some(2)));
        let (sender, mut receiver) = oneshot::channel();
        queue.close();
        let request =
            EditRequest { run: 0, emotions: Vec::new(), strength: 0.0, format: Format::Png, quality: Quality::Full };
        assert!(queue.push(&photos[2], Work::Edit(request, sender)).is_err());
        assert!(receiver.try_recv().is_err() && queue.len() == 0);
        assert!(matches!(queue.next(NO_WAIT), Turn::Closed));
    }

    #[test]
    fn one_session_cannot_fill_the_line() {
        let queue = Arc::new(Queue::new(100));
        let greedy = entry(Id::random());
        let tickets: Vec<Ticket> =
            (0..PER_SESSION).map(|_| queue.push(&greedy, Work::Invert(0)).expect("room")).collect();
        let refusal = queue.push(&greedy, Work::Invert(0)).err().expect("too many");
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(queue.push(&entry(Id::random()), Work::Invert(0)).is_ok());
        drop(tickets);
    }

    #[test]
    fn an_inversion_stays_without_its_ticket() {
        let queue = Arc::new(Queue::new(1));
        let photo = entry(Id::random());
        queue.push(&photo, Work::Invert(0)).expect("room").stay();
        assert_eq!(queue.place(&photo), Some(0));
    }
}
