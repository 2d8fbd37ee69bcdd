//! Whose turn it is: each host is asked one thing at a time, with pauses, and a host that is slow, or must be waited
//! for, keeps nobody from asking another.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is to be asked, by host. Each job is pushed once, taken, and ended or pushed again.
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    hosts: HashMap<String, Host<J>>,
    /// When a host may be asked. An entry may be outdated: it is checked against the host when it is taken.
    ready: BinaryHeap<Reverse<(Instant, String)>>,
    /// Jobs that have not ended.
    open: usize,
    pushed: u64,
    closed: bool,
}

struct Host<J> {
    /// By the time from which a job may be done, and the order in which they came.
    jobs: BTreeMap<(Instant, u64), J>,
    free_at: Instant,
    busy: bool,
    /// How many requests in a row had no answer at all.
    unanswered: u32,
}

impl<J> Host<J> {
    /// When it may next be asked something; none if there is nothing to ask, or it is being asked.
    fn turn(&self) -> Option<Instant> {
        let (&(from, _), _) = self.jobs.first_key_value().filter(|_| !self.busy)?;
        Some(from.max(self.free_at))
    }
}

/// A job whose turn it is.
pub(super) struct Turn<J> {
    pub(super) host: String,
    pub(super) job: J,
    /// How many requests in a row this host has not answered.
    pub(super) unanswered: u32,
}

/// What a request tells of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It answered.
    Answer,
    /// It could not be reached, or did not answer in time.
    Silence,
    /// It was not asked.
    Nothing,
}

impl<J> Queue<J> {
    pub(super) fn new() -> Self {
        let state = State { hosts: HashMap::new(), ready: BinaryHeap::new(), open: 0, pushed: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a job that may be done from `from` on.
    pub(super) fn push(&self, host: &str, from: Instant, job: J) {
        let mut state = self.state();
        state.open += 1;
        state.push(host, from, job);
        self.changed.notify_one();
    }

    /// The next job, once it is its turn; none when all have ended.
    pub(super) fn take(&self) -> Option<Turn<J>> {
        let mut state = self.state();
        loop {
            if state.closed || state.open == 0 {
                return None;
            }
            let wait = match state.next() {
                Ok(turn) => return Some(turn),
                Err(wait) => wait,
            };
            state = match wait {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// The job that was taken for `host` has been tried; it ends, or goes on as `next`: at which host, from when on.
    pub(super) fn tried(&self, host: &str, heard: Heard, pause: Duration, next: Option<(String, Instant, J)>) {
        let mut state = self.state();
        let known = state.hosts.get_mut(host).expect("invariant: a job was taken for it");
        known.busy = false;
        match heard {
            Heard::Nothing => {}
            Heard::Answer => (known.unanswered, known.free_at) = (0, Instant::now() + pause),
            Heard::Silence => (known.unanswered, known.free_at) = (known.unanswered + 1, Instant::now() + pause),
        }
        state.announce(host);
        match next {
            Some((host, from, job)) => state.push(&host, from, job),
            None => state.open -= 1,
        }
        self.changed.notify_all();
    }

    /// Ends the work: nothing more is taken.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> State<J> {
    fn push(&mut self, host: &str, from: Instant, job: J) {
        self.pushed += 1;
        let free_at = from;
        let new = || Host { jobs: BTreeMap::new(), free_at, busy: false, unanswered: 0 };
        self.hosts.entry(host.to_string()).or_insert_with(new).jobs.insert((from, self.pushed), job);
        self.announce(host);
    }

    fn announce(&mut self, host: &str) {
        if let Some(turn) = self.hosts.get(host).and_then(Host::turn) {
            self.ready.push(Reverse((turn, host.to_string())));
        }
    }

    /// A job whose turn it is, or how long until then, if that is known.
    fn next(&mut self) -> Result<Turn<J>, Option<Duration>> {
        while let Some(Reverse((_, host))) = self.ready.pop() {
            let known = self.hosts.get_mut(&host).expect("invariant: only hosts are announced");
            let Some(turn) = known.turn() else { continue };
            let now = Instant::now();
            if turn > now {
                self.ready.push(Reverse((turn, host)));
                // The earliest entry decides how long to wait; outdated ones only wake too early.
                let first = self.ready.peek().map(|Reverse((at, _))| at.saturating_duration_since(now));
                return match first {
                    Some(wait) if !wait.is_zero() => Err(Some(wait)),
                    _ => continue,
                };
            }
            known.busy = true;
            let (_, job) = known.jobs.pop_first().expect("invariant: it has a turn");
            return Ok(Turn { job, unanswered: known.unanswered, host });
        }
        Err(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_must_be_waited_for_keeps_nobody_from_another() {
        let (queue, now) = (Queue::new(), Instant::now());
        let later = now + Duration::from_secs(3600);
        queue.push("slow", later, 0);
        queue.push("busy", now, 1);
        queue.push("busy", now, 2);
        queue.push("quick", now, 3);
        let first = queue.take().expect("a turn");
        let second = queue.take().expect("a turn");
        assert_eq!((first.job, second.job), (1, 3), "one at a time for each host");
        queue.tried("busy", Heard::Silence, Duration::ZERO, None);
        let third = queue.take().expect("a turn");
        assert_eq!((third.job, third.unanswered), (2, 1));
        queue.tried("busy", Heard::Answer, Duration::ZERO, Some(("other".into(), now, 4)));
        assert_eq!(queue.take().expect("a turn").job, 4);
        queue.close();
        assert!(queue.take().is_none());
    }

    #[test]
    fn the_pause_of_a_host_is_kept_and_all_jobs_end() {
        let (queue, now) = (Queue::new(), Instant::now());
        (0..3).for_each(|job| queue.push("a", now, job));
        let mut taken = Vec::new();
        while let Some(turn) = queue.take() {
            taken.push((turn.job, now.elapsed()));
            queue.tried("a", Heard::Answer, Duration::from_millis(30), None);
        }
        assert_eq!(taken.iter().map(|(job, _)| *job).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(taken[2].1 >= Duration::from_millis(60));
    }
}
