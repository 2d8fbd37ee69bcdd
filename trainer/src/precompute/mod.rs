//! What is computed once, before the first step. The processes of each machine share the work.

pub mod inversions;
pub mod references;
pub mod thresholds;

use program::Progress;

use crate::run::context::RunContext;

/// Divides `items`, which are the same on every process of a machine, into blocks; one process works on each block.
/// All synchronise after each round, so that a lost process or a signal is noticed. `name` is shown in the progress.
pub fn in_blocks<T>(
    run: &RunContext<'_>, name: &'static str, items: &[T], block: usize, work: impl Fn(&[T]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let world = run.world;
    // Nobody starts to write files before every process has seen which are missing.
    world.barrier()?;
    let blocks: Vec<_> = items.chunks(block).collect();
    let rounds = world.max(blocks.len().div_ceil(world.local_size) as u64)? as usize;
    let visible = world.is_first() && !items.is_empty();
    let progress = Progress::new(name, "images", items.len() as u64, visible);
    for round in 0..rounds {
        run.stop.check()?;
        if let Some(items) = blocks.get(round * world.local_size + world.local_rank) {
            work(items)?;
        }
        world.barrier()?;
        progress.set(((round + 1) * world.local_size * block).min(items.len()) as u64);
    }
    Ok(())
}
