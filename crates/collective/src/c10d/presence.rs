//! Who is there, outside of collectives: ranks that do long work of different length wait for one another through the
//! rendezvous store, as long as every heart beats, so that no collective's time-out measures a load or a download.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::ffi::store::Store;
use crate::ffi::Outcome;
use crate::group::Absent;
use crate::monitor::{pace, Beat, State};

/// The share of the time-out for which a heart may stand still before its rank counts as dead. The rest is left for
/// saying so in time.
const SILENT_SHARE: f64 = 0.8;

/// The others' announcements and heartbeats.
pub(super) struct Presence {
    store: Store,
    keys: String,
    rank: usize,
    world_size: usize,
    timeout: Duration,
    meetings: AtomicU64,
    /// The last count of each rank's beats, and since when it has stood.
    seen: Mutex<Vec<(u64, Instant)>>,
}

/// How a meeting ended.
pub(super) enum Met {
    /// All came.
    All,
    /// These will not come.
    Without(String),
}

impl Presence {
    pub(super) fn new(store: Store, keys: String, place: (usize, usize), timeout: Duration) -> Self {
        let (rank, world_size) = place;
        let seen = Mutex::new(vec![(0, Instant::now()); world_size]);
        Self { store, keys, rank, world_size, timeout, meetings: AtomicU64::new(0), seen }
    }

    /// Waits until every rank has called this, for at most `limit`.
    pub(super) fn meet(&self, limit: Duration) -> Outcome<Met> {
        let key = format!("{}meet/{}/", self.keys, self.meetings.fetch_add(1, Ordering::Relaxed));
        self.store.set(&format!("{key}{}", self.rank), "here")?;
        let all = format!("{key}all");
        let (began, pace) = (Instant::now(), pace(self.world_size, self.timeout));
        let mut looked = Instant::now();
        let mut came = self.store.add(&all, 1)?;
        while came < self.world_size as i64 {
            std::thread::sleep(pace);
            came = self.store.add(&all, 0)?;
            let late = began.elapsed() > limit;
            if came < self.world_size as i64 && (late || looked.elapsed() > self.timeout / 8) {
                looked = Instant::now();
                let missing = self.missing(&key)?;
                let absent = self.absent()?;
                let gone = absent.into_iter().filter(|absent| missing.contains(&absent.rank)).map(|absent| absent.how);
                let gone: Vec<String> = gone.collect();
                if !gone.is_empty() {
                    return Ok(Met::Without(gone.join("; ")));
                }
                if late && !missing.is_empty() {
                    return Ok(Met::Without(self.late(&missing, limit)));
                }
            }
        }
        Ok(Met::All)
    }

    /// The ranks that are gone, as far as their heartbeats tell. A heart counts as still once it has stood for most of
    /// the time-out between calls of this.
    pub(super) fn absent(&self) -> Outcome<Vec<Absent>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut absent = Vec::new();
        for rank in (0..self.world_size).filter(|&rank| rank != self.rank) {
            let beat = Beat::parse(&self.store.get(&format!("{}beat/{rank}", self.keys))?);
            let (count, since) = &mut seen[rank];
            if *count != beat.count {
                (*count, *since) = (beat.count, Instant::now());
            }
            let still = since.elapsed();
            let (left, how) = match beat.state {
                State::Left => (true, format!("rank {rank} has left")),
                State::Failed => (false, format!("rank {rank} has failed: its own message says why")),
                State::Running if still > self.timeout.mul_f64(SILENT_SHARE) => (
                    false,
                    format!("rank {rank} has stopped answering for {:.0} s, dead or frozen", still.as_secs_f64()),
                ),
                State::Running => continue,
            };
            absent.push(Absent { rank, left, how });
        }
        Ok(absent)
    }

    fn missing(&self, key: &str) -> Outcome<Vec<usize>> {
        let ranks = (0..self.world_size).map(|rank| Ok((rank, self.store.has(&format!("{key}{rank}"))?)));
        let ranks: Outcome<Vec<(usize, bool)>> = ranks.collect();
        Ok(ranks?.into_iter().filter(|(_, here)| !here).map(|(rank, _)| rank).collect())
    }

    fn late(&self, missing: &[usize], limit: Duration) -> String {
        let names: Vec<String> = missing.iter().map(|rank| format!("rank {rank}")).collect();
        let secs = limit.as_secs_f64();
        format!("alive, but not here {secs:.0} s after the others: {}; a longer start may be allowed", names.join(", "))
    }
}
