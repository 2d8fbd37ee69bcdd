//! The JSON interface; openapi.json beside the page describes it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{middleware, Router};
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::sync::{oneshot, Semaphore};

use super::args::Limits;
use super::engine::{at_size, encoded};
use super::guard::{self, Access};
use super::queue::{EditRequest, Format, Quality, Queue, Work};
use super::refusal::{as_json, Refusal};
use super::runs::Card;
use super::sending::Outbox;
use super::store::{Entry, State as PhotoState, Store};
use super::{page, upload};
use crate::args::Mixture;

/// Strengths and weights beyond this are never meant.
const MOST: f64 = 10.0;

/// What all requests share.
pub struct App {
    /// The runs' cards.
    pub cards: Vec<Card>,
    /// The photos.
    pub store: Arc<Store>,
    /// The line before the model.
    pub queue: Arc<Queue>,
    /// What was set on the command line.
    pub limits: Limits,
    /// Who may ask.
    pub access: Access,
    /// How many photos may be received or encoded at once, beside the line.
    pub desks: Arc<Semaphore>,
    /// Pictures on their way to clients.
    pub outbox: Outbox,
}

impl App {
    /// The session's photo.
    fn photo(&self, headers: &HeaderMap, id: &str) -> Result<Arc<Entry>, Refusal> {
        self.store.find(self.access.session(headers), id)
    }

    /// Waits for at most the time limit.
    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let limit = self.limits.time_limit;
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late(limit, self.queue.seconds_to_wait())))
    }

    /// Work on a thread that may take its time, a few at once.
    pub async fn at_a_desk<T: Send + 'static>(
        &self, work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let permit = self.desks.clone().acquire_owned().await.map_err(|_| Refusal::stopping())?;
        let guarded = move || {
            let done = work();
            drop(permit);
            done
        };
        tokio::task::spawn_blocking(guarded).await.unwrap_or_else(|_| Err(Refusal::failed()))
    }
}

fn late(limit: Duration, seconds: u64) -> Refusal {
    Refusal::busy(format!("it took longer than {} seconds", limit.as_secs_f64()), seconds)
}

/// All routes, guarded.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/runs", get(runs))
        .route("/api/runs/{run}/files/{*file}", get(run_file))
        .route("/api/photos", axum::routing::post(upload::receive))
        .route("/api/photos/{id}", get(state).delete(remove))
        .route("/api/photos/{id}/original", get(original))
        .route("/api/photos/{id}/edit", get(edit))
        .merge(page::routes())
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn runs(State(app): State<Arc<App>>) -> Response {
    let limits = &app.limits;
    let runs: Vec<&Value> = app.cards.iter().map(|card| &card.json).collect();
    let keep = limits.keep_minutes.as_secs_f64() / 60.0;
    let limits = json!({"max_bytes": limits.max_bytes, "max_pixels": limits.max_pixels, "keep_minutes": keep});
    as_json(StatusCode::OK, &json!({"runs": runs, "limits": limits}))
}

async fn run_file(State(app): State<Arc<App>>, Path((run, file)): Path<(String, String)>) -> Result<Response, Refusal> {
    let card = app.cards.iter().find(|card| card.name == run);
    let path = card.and_then(|card| card.file(&file)).map(std::path::Path::to_path_buf);
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "there is no such file", "GET /api/runs lists them");
    let path = path.ok_or_else(unknown)?;
    let read = move || {
        std::fs::read(&path).map_err(|e| {
            tracing::error!("{}: {e}", path.display());
            unknown()
        })
    };
    let content = app.at_a_desk(read).await?;
    let kind = match file.rsplit('.').next() {
        Some("yaml") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    app.outbox.send(content, kind, None)
}

async fn state(State(app): State<Arc<App>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    let entry = app.photo(&headers, &id)?;
    Ok(as_json(StatusCode::OK, &describe(&app, &entry)))
}

/// A photo's state for clients.
pub fn describe(app: &App, entry: &Entry) -> Value {
    let size = |(width, height): (u32, u32)| json!({"width": width, "height": height});
    let mut text = json!({
        "id": entry.id.to_string(),
        "size": size(entry.photo.dimensions()),
        "preview": size(entry.preview().dimensions()),
        "warnings": entry.photo.warnings,
    });
    let more = match entry.state() {
        PhotoState::Waiting => json!({"state": "waiting", "place": app.queue.place(entry).unwrap_or(0)}),
        PhotoState::Inverting(done, of) => json!({"state": "inverting", "step": done, "steps": of}),
        PhotoState::Ready => json!({"state": "ready"}),
        PhotoState::Failed(refusal) => json!({"state": "failed", "error": refusal.error, "hint": refusal.hint}),
    };
    if let (Some(all), Value::Object(more)) = (text.as_object_mut(), more) {
        all.extend(more);
    }
    text
}

async fn remove(
    State(app): State<Arc<App>>, Path(id): Path<String>, headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    app.store.remove(app.access.session(&headers), &id)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginalQuery {
    #[serde(default = "png")]
    format: Format,
    #[serde(default = "full")]
    quality: Quality,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EditQuery {
    run: Option<String>,
    emotions: Option<String>,
    #[serde(default = "as_trained")]
    strength: f64,
    #[serde(default = "png")]
    format: Format,
    #[serde(default = "full")]
    quality: Quality,
}

fn png() -> Format {
    Format::Png
}

fn full() -> Quality {
    Quality::Full
}

fn as_trained() -> f64 {
    1.0
}

fn parsed<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    let refused = |e: QueryRejection| Refusal::bad(e.body_text(), "see /openapi.json for the parameters");
    query.map(|Query(query)| query).map_err(refused)
}

async fn original(
    State(app): State<Arc<App>>, Path(id): Path<String>, query: Result<Query<OriginalQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = app.photo(&headers, &id)?;
    let OriginalQuery { format, quality } = parsed(query)?;
    let encode = move || encoded(at_size(&entry, quality), format);
    let content = app.in_time(app.at_a_desk(encode)).await?;
    app.outbox.send(content, format.kind(), Some(format!("photo.{}", format.suffix())))
}

async fn edit(
    State(app): State<Arc<App>>, Path(id): Path<String>, query: Result<Query<EditQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = app.photo(&headers, &id)?;
    let request = resolved(&app.cards, parsed(query)?)?;
    let name = request.file_name();
    let kind = request.format.kind();
    let (sender, receiver) = oneshot::channel();
    // Dropped with this future, that is when the client leaves.
    let ticket = app.queue.push(&entry, Work::Edit(request, sender))?;
    let answered = async { receiver.await.unwrap_or_else(|_| Err(Refusal::stopping())) };
    let content = app.in_time(answered).await?;
    drop(ticket);
    app.outbox.send(content, kind, Some(name))
}

/// A query as an edit of one of the runs.
fn resolved(cards: &[Card], query: EditQuery) -> Result<EditRequest, Refusal> {
    let within = |number: f64| number.abs() <= MOST; // NaN is not
    if !within(query.strength) {
        return Err(Refusal::bad(format!("strength {}", query.strength), format!("use −{MOST} to {MOST}")));
    }
    let mixture = query.emotions.as_deref().map(str::parse::<Mixture>).transpose();
    let mixture = mixture.map_err(|e| Refusal::bad(format!("emotions: {e}"), "write awe or awe:0.7,fear:0.3"))?;
    let named = |card: &&Card| query.run.as_ref().is_none_or(|run| card.name == *run);
    let knows = |card: &Card, Mixture(all): &Mixture| all.iter().all(|(emotion, _)| card.emotions.contains(emotion));
    let fits = |card: &&Card| mixture.as_ref().is_none_or(|mixture| knows(card, mixture));
    let card = cards.iter().find(|card| named(card) && fits(card));
    let card = card.ok_or_else(|| Refusal::bad("no run here knows these emotions", known(cards)))?;
    let emotions = match (mixture, card.emotions.as_slice()) {
        (Some(Mixture(emotions)), _) => emotions,
        (None, [only]) => vec![(only.clone(), 1.0)],
        (None, _) => return Err(Refusal::bad("emotions is missing", known(cards))),
    };
    if let Some((emotion, weight)) = emotions.iter().find(|(_, weight)| !within(*weight)) {
        return Err(Refusal::bad(format!("weight {weight} of {emotion}"), format!("use −{MOST} to {MOST}")));
    }
    let run = cards.iter().position(|other| other.name == card.name).expect("invariant: names are unique");
    Ok(EditRequest { run, emotions, strength: query.strength, format: query.format, quality: query.quality })
}

/// Every run with its emotions, for hints.
fn known(cards: &[Card]) -> String {
    let runs: Vec<String> = cards.iter().map(|card| format!("{}: {}", card.name, card.emotions.join(", "))).collect();
    format!("an edit takes the emotions of one run; {}", runs.join("; "))
}
