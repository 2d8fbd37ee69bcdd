//! Who computes what: all processes of a run share the work where all see one folder, else those of each machine.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use dataloader::inversions::pool::Pool;
use program::Progress;

use crate::run::context::RunContext;
use crate::run::world::World;

/// How long what another machine has written may take to be seen: a client of a network file system asks for a
/// folder's content again after a minute at most.
const SEEN_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Rows that are to be in a pool.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a, T> {
    /// What the progress shows.
    pub name: &'static str,
    /// Where they are kept.
    pub pool: &'a Pool,
    /// What they are of, the same on every process.
    pub items: &'a [T],
    /// How many one process computes before it stores them.
    pub block: usize,
}

/// The processes that share some work, and which of them this one is.
#[derive(Clone, Copy, Debug)]
pub struct Workers {
    rank: usize,
    size: usize,
}

impl Workers {
    /// Those who see `folder`, which is made.
    pub fn of(world: &World, folder: &Path) -> anyhow::Result<Self> {
        let at = || folder.display().to_string();
        std::fs::create_dir_all(folder).with_context(at)?;
        let all = Self { rank: world.rank, size: world.size };
        if world.size == world.local_size {
            return Ok(all);
        }
        let name = world.agree(&[RandomState::new().hash_one(world.rank) as i64])?[0];
        let mark = folder.join(format!(".mark-{name:016x}"));
        world.on_first(|| durable::write(&mark, b"").with_context(at))?;
        let unseen = world.max(u64::from(!mark.exists()))?;
        world.on_first(|| std::fs::remove_file(&mark).with_context(at))?;
        if unseen == 0 {
            return Ok(all);
        }
        if world.is_first() {
            tracing::info!("{}: not shared by all machines; each computes what it needs", folder.display());
        }
        Ok(Self { rank: world.local_rank, size: world.local_size })
    }

    /// Computes by `work` those items of which `is_there` says no, and merges the pool. One process works on each block;
    /// all synchronise after each round, so that a lost process or a signal is noticed.
    pub fn fill<T: Copy>(
        self, run: &RunContext<'_>, task: Task<'_, T>, is_there: impl Fn(T) -> bool,
        work: impl Fn(&[T]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Task { name, pool, items, block } = task;
        let world = run.world;
        pool.refresh()?;
        // Every process must divide the same items, and another run may be adding some at this moment.
        let lacking = world.any(&items.iter().map(|&item| !is_there(item)).collect::<Vec<_>>())?;
        let missing: Vec<T> = items.iter().zip(lacking).filter(|(_, lacks)| *lacks).map(|(&item, _)| item).collect();
        let blocks: Vec<_> = missing.chunks(block).collect();
        let progress = Progress::new(name, "images", missing.len() as u64, world.is_first() && !missing.is_empty());
        for round in 0..world.max(blocks.len().div_ceil(self.size) as u64)? as usize {
            run.stop.check()?;
            if let Some(items) = blocks.get(round * self.size + self.rank) {
                pool.refresh()?;
                let items: Vec<T> = items.iter().copied().filter(|&item| !is_there(item)).collect();
                if !items.is_empty() {
                    work(&items)?;
                }
            }
            world.barrier()?;
            progress.set(((round + 1) * self.size * block).min(missing.len()) as u64);
        }
        self.merge(run, pool)?;
        wait_for_sight(pool, items, is_there)?;
        world.barrier()
    }

    /// Makes large files of small ones. Nobody else works meanwhile: all would write at once.
    fn merge(self, run: &RunContext<'_>, pool: &Pool) -> anyhow::Result<()> {
        let groups = if self.rank == 0 { pool.mergeable()? } else { Vec::new() };
        for round in 0..run.world.max(groups.len() as u64)? as usize {
            run.stop.check()?;
            groups.get(round).map_or(Ok(()), |names| pool.merge(names))?;
            run.world.barrier()?;
        }
        Ok(())
    }
}

/// Returns once this process sees all `items`.
fn wait_for_sight<T: Copy>(pool: &Pool, items: &[T], is_there: impl Fn(T) -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        pool.refresh()?;
        let unseen = items.iter().filter(|&&item| !is_there(item)).count();
        if unseen == 0 {
            return Ok(());
        }
        if begun.elapsed() > SEEN_WITHIN {
            let (folder, waited) = (pool.folder().display(), SEEN_WITHIN.as_secs());
            anyhow::bail!(
                "{folder}: {unseen} of {} rows are not seen here, {waited} s after they were written",
                items.len()
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
