//! Heartbeats: which rank is to blame when a collective fails.
//!
//! A thread on each rank writes, every [`pace`], a count of its beats and the number of the last operation that the
//! rank has started. It uses a key and a connection of its own to the rendezvous store. Nobody reads the beats until
//! something fails. Then the survivors read all of them twice: a rank whose count stands still is dead or frozen; one
//! that beats but has not started the operation is busy elsewhere. The first survivor leaves its finding in the
//! store, for those who only notice when it has gone.

mod beat;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ffi::store::Store;
use crate::ffi::Outcome;
use beat::verdict;
pub(crate) use beat::{Beat, State};

/// A peer counts as silent if its beats stand still for this many paces.
const SILENT_PACES: u32 = 4;
/// How many paces a failing host of the store stays, so that the others can read its finding.
const LINGER_PACES: u32 = 2;

/// This rank, and where its heartbeat goes.
pub(crate) struct Seat {
    pub rank: usize,
    pub world_size: usize,
    /// Prefix of all keys.
    pub keys: String,
    /// Which process hosts the store, for messages.
    pub host: String,
    /// Whether this process hosts it.
    pub hosts: bool,
    pub pace: Duration,
}

/// Time between beats: short enough to name a rank within seconds, long enough for the store of a large world.
pub(crate) fn pace(world_size: usize, timeout: Duration) -> Duration {
    let for_the_store = Duration::from_millis(250) * (world_size as u32).div_ceil(128);
    for_the_store.min(timeout / 8).max(Duration::from_millis(50))
}

/// This rank's heartbeat, and the way to ask about the others'.
pub(crate) struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    seat: Seat,
    mind: Mutex<Mind>,
    changed: Condvar,
}

#[derive(Default)]
struct Mind {
    beat: Beat,
    /// Asks who is missing from the operation of this number.
    question: Option<u64>,
    answer: Option<String>,
    /// The finding of another rank.
    heard: Option<String>,
    stop: bool,
    /// The thread has ended.
    ended: bool,
}

impl Monitor {
    /// Writes the first beat and starts the thread.
    pub fn start(seat: Seat, store: Store) -> Outcome<Monitor> {
        let shared = Arc::new(Shared { seat, mind: Mutex::default(), changed: Condvar::new() });
        shared.beat(&store)?;
        let thread = Arc::clone(&shared);
        let body = move || {
            let outcome = thread.beat_until_stopped(&store);
            let mut mind = thread.mind();
            mind.answer = mind.answer.take().or(outcome.err().map(|_| thread.seat.host_is_silent(mind.heard.take())));
            mind.ended = true;
            drop(mind);
            thread.changed.notify_all();
        };
        std::thread::Builder::new().name("heartbeat".into()).spawn(body).map_err(|e| e.to_string())?;
        Ok(Monitor { shared })
    }

    /// Records that this rank starts an operation; returns its number.
    pub fn enter(&self, operation: &str) -> u64 {
        let mut mind = self.shared.mind();
        mind.beat.entered += 1;
        mind.beat.operation.clear();
        mind.beat.operation.push_str(operation);
        mind.beat.entered
    }

    /// Which peers are missing from the operation of this number. Takes a few paces, and never hangs.
    pub fn blame(&self, number: u64) -> String {
        let seat = &self.shared.seat;
        let patience = seat.pace * (SILENT_PACES + LINGER_PACES + 4) + Duration::from_secs(2);
        let mut mind = self.shared.mind();
        mind.beat.state = State::Failed;
        mind.question = Some(number);
        self.shared.changed.notify_all();
        let asked = Instant::now();
        while mind.answer.is_none() && asked.elapsed() < patience {
            mind = self.shared.wait(mind, patience.saturating_sub(asked.elapsed()));
        }
        let heard = mind.heard.clone();
        mind.answer.clone().unwrap_or_else(|| seat.host_is_silent(heard))
    }
}

impl Drop for Monitor {
    /// Tells the others that this rank leaves on purpose. If a frozen store blocks the thread, it is left behind.
    fn drop(&mut self) {
        let mut mind = self.shared.mind();
        if mind.beat.state == State::Running {
            mind.beat.state = State::Left;
        }
        mind.stop = true;
        self.shared.changed.notify_all();
        let asked = Instant::now();
        while !mind.ended && asked.elapsed() < Duration::from_millis(500) {
            mind = self.shared.wait(mind, Duration::from_millis(100));
        }
    }
}

impl Shared {
    fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mind: MutexGuard<'a, Mind>, most: Duration) -> MutexGuard<'a, Mind> {
        self.changed.wait_timeout(mind, most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.seat.keys)
    }

    /// Fails once the store is lost.
    fn beat_until_stopped(&self, store: &Store) -> Outcome<()> {
        loop {
            let stop = self.mind().stop;
            self.beat(store)?;
            if stop {
                return Ok(());
            }
            self.listen(store)?;
            let question = self.mind().question.take();
            if let Some(number) = question {
                let heard = self.mind().heard.clone();
                let answer = heard.map_or_else(|| self.investigate(store, number), Ok)?;
                self.mind().answer = Some(answer);
                self.changed.notify_all();
            }
            let mind = self.mind();
            if mind.question.is_none() && !mind.stop {
                drop(self.wait(mind, self.seat.pace));
            }
        }
    }

    fn beat(&self, store: &Store) -> Outcome<()> {
        let mut mind = self.mind();
        mind.beat.count += 1;
        let text = mind.beat.to_string();
        drop(mind);
        store.set(&self.key(&format!("beat/{}", self.seat.rank)), &text)
    }

    fn listen(&self, store: &Store) -> Outcome<()> {
        let key = self.key("verdict");
        if self.mind().heard.is_none() && store.has(&key)? {
            self.mind().heard = Some(store.get(&key)?);
        }
        Ok(())
    }

    fn investigate(&self, store: &Store, number: u64) -> Outcome<String> {
        let before = self.read(store)?;
        self.rest(store, SILENT_PACES)?;
        let after = self.read(store)?;
        let Some(text) = verdict(self.seat.rank, number, &before, &after) else {
            return Ok("the heartbeats blame nobody: every peer is alive and has entered it".into());
        };
        if !store.has(&self.key("verdict"))? {
            store.set(&self.key("verdict"), &format!("{text} (as rank {} found)", self.seat.rank))?;
        }
        if self.seat.hosts {
            self.rest(store, LINGER_PACES)?;
        }
        Ok(text)
    }

    fn read(&self, store: &Store) -> Outcome<Vec<Beat>> {
        let beats = (0..self.seat.world_size).map(|rank| store.get(&self.key(&format!("beat/{rank}"))));
        beats.map(|text| text.map(|text| Beat::parse(&text))).collect()
    }

    /// Waits for some paces while it goes on beating.
    fn rest(&self, store: &Store, paces: u32) -> Outcome<()> {
        for _ in 0..paces {
            std::thread::sleep(self.seat.pace);
            self.beat(store)?;
        }
        Ok(())
    }
}

impl Seat {
    fn host_is_silent(&self, heard: Option<String>) -> String {
        heard.unwrap_or_else(|| format!("{} does not answer: dead, frozen or unreachable", self.host))
    }
}
