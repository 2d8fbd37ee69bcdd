//! `editor serve`: a page for people with a photo, over a JSON interface, over the same edit as on the command line.
//!
//! tokio's threads talk to clients; two more decode and encode; one owns the editors and takes jobs from a bounded line
//! (`queue.rs`). Photos live in memory (`store.rs`). No file is written, and nothing is asked of other machines once
//! the models are there.

mod api;
mod args;
mod cache;
mod engine;
mod guard;
mod id;
mod page;
mod queue;
mod refusal;
mod runs;
mod sending;
mod store;
mod upload;

use std::future::IntoFuture;
use std::net::{SocketAddr, TcpListener};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataloader::making::worker_rank::WorkerRank;
use diffusion::run::Run;
use hub::Hub;
use program::output;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::{watch, Semaphore};
use tracing::{info, warn};

use self::api::App;
use self::args::Limits;
pub use self::args::ServeArgs;
use self::engine::{Engine, Models};
use self::guard::Access;
use self::queue::Queue;
use self::runs::Card;
use self::sending::Outbox;
use self::store::{Room, Store};
use crate::failure::BadInput;
use crate::job;

/// Threads that decode and encode photos.
const DESKS: usize = 2;
/// How long answers may still take after a signal.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often photos are looked through for those to forget.
const SWEEP: Duration = Duration::from_secs(1);
const MB: u64 = 1_000_000;
/// 128 + SIGINT, as shells report it.
const ENDED_BY_SIGNAL: i32 = 130;

/// Serves until a signal. Prints the address when the models are read.
pub fn run(args: &ServeArgs, hub: &Hub) -> Result<()> {
    check_access(args)?;
    let runs = args.run.iter().map(|folder| Run::open(folder)).collect::<diffusion::Result<Vec<_>>>()?;
    for run in &runs {
        run.config.edit.warning().iter().for_each(|warning| warn!("{}: {warning}", run.folder.display()));
    }
    let models = Models { model: args.model.as_deref(), device: job::device(args.device, &WorkerRank::ALONE)?, hub };
    let listener = TcpListener::bind(args.bind).with_context(|| format!("--bind {}", args.bind))?;
    let (store, queue) = (Arc::new(Store::new(room(&args.limits))), Arc::new(Queue::new(args.limits.max_queue)));
    std::thread::scope(|scope| {
        let (sender, loaded) = mpsc::channel();
        let (runs, models, line, photos) = (&runs, &models, &queue, &store);
        scope.spawn(move || match Engine::load(runs, models, memory(&args.limits) / 8) {
            Ok((engine, seen)) => {
                // Whoever waits for it is below.
                let _ = sender.send(Ok(seen));
                engine.work(line, photos);
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        });
        let served = loaded.recv().context("the thread that reads the models ended").and_then(|seen| {
            let app = app(args, runs, &seen?, (&store, &queue), listener.local_addr()?)?;
            serve(Arc::new(app), listener)
        });
        queue.close(); // the thread above ends
        served
    })
}

fn check_access(args: &ServeArgs) -> Result<()> {
    let refusal = match &args.token {
        Some(token) if token.is_empty() => "--token is empty; choose one that nobody guesses".to_string(),
        None if !args.bind.ip().is_loopback() => {
            format!("--bind {}: others can reach this address; add --token, or listen at 127.0.0.1", args.bind)
        }
        _ => return Ok(()),
    };
    Err(BadInput(refusal).into())
}

fn memory(limits: &Limits) -> u64 {
    limits.max_memory * MB
}

/// Half of the memory is for photos; inversions, changes and answers share the rest.
fn room(limits: &Limits) -> Room {
    let bytes = memory(limits) / 2;
    Room { sessions: limits.max_sessions, photos: limits.max_photos, bytes, keep: limits.keep_minutes }
}

fn app(
    args: &ServeArgs, runs: &[Run], seen: &[Option<String>], (store, queue): (&Arc<Store>, &Arc<Queue>), at: SocketAddr,
) -> Result<App> {
    Ok(App {
        cards: Card::of_all(runs, seen)?,
        store: store.clone(),
        queue: queue.clone(),
        limits: args.limits.clone(),
        access: Access::new(args.token.as_deref(), &args.host, at),
        desks: Arc::new(Semaphore::new(DESKS)),
        outbox: Outbox::new(memory(&args.limits) / 4),
    })
}

/// The part that runs on tokio.
fn serve(app: Arc<App>, listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(DESKS + 1).enable_all().build()?;
    let served = runtime.block_on(async {
        let at = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(forget_old_photos(app.store.clone()));
        let stopped = stop_on_signals(app.queue.clone())?;
        output::print(format!("http://{at}/\n").as_bytes())?;
        info!(runs = app.cards.len(), "serving at http://{at}/");
        let serving = axum::serve(listener, api::router(app)).with_graceful_shutdown(told(stopped.clone()));
        let farewell = async {
            told(stopped).await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! { served = serving.into_future() => served.map_err(Into::into), () = farewell => Ok(()) }
    });
    runtime.shutdown_timeout(FAREWELL);
    served
}

/// The first Ctrl-C or SIGTERM closes the line and tells the receiver; the second ends the process.
fn stop_on_signals(queue: Arc<Queue>) -> Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        info!("stopping; a second signal ends it at once");
        queue.close();
        // If nobody hears it any more, it has stopped already.
        let _ = stop.send(true);
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(ENDED_BY_SIGNAL);
    });
    Ok(stopped)
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // An error says that the sender is gone: that is the end as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn forget_old_photos(store: Arc<Store>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let forgotten = store.expire(Instant::now());
        if forgotten > 0 {
            info!(forgotten, "photos forgotten");
        }
    }
}
