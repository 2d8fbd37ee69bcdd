//! Photos as clients send them: bounded while they come in, and decoded on a thread of their own.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{header, HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use diffusion::images::Photo;
use diffusion::Error;
use futures::StreamExt;

use super::api::{describe, App};
use super::id::Id;
use super::queue::Work;
use super::refusal::{as_json, Refusal};
use super::store::Entry;

/// POST /api/photos: the body is the file. Answers with the photo's name as soon as it is decoded; its inversion waits
/// in the line.
pub async fn receive(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let known = app.access.session(&headers).filter(|session| app.store.knows(*session));
    app.store.admits(known)?;
    let max_bytes = app.limits.max_bytes;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > max_bytes) {
        return Err(too_large(max_bytes));
    }
    let session = known.unwrap_or_else(Id::random);
    let (store, max_pixels) = (app.store.clone(), app.limits.max_pixels);
    let work = async {
        let content = read(body, max_bytes).await?;
        app.at_a_desk(move || store.add(decoded(&content, max_pixels, session)?)).await
    };
    let entry = app.in_time(work).await?;
    match app.queue.push(&entry, Work::Invert(0)) {
        Ok(ticket) => ticket.stay(),
        Err(refusal) => {
            app.store.remove(Some(session), &entry.id.to_string())?;
            return Err(refusal);
        }
    }
    let location = format!("/api/photos/{}", entry.id);
    let mut response = as_json(StatusCode::CREATED, &describe(&app, &entry));
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).expect("hexadecimal digits are ASCII"));
    headers.insert(header::SET_COOKIE, app.access.set_session(session));
    Ok(response)
}

async fn read(body: Body, max_bytes: u64) -> Result<Vec<u8>, Refusal> {
    let mut content = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let broken = |_| Refusal::bad("the photo did not arrive whole", "send it again");
        let chunk = chunk.map_err(broken)?;
        if (content.len() + chunk.len()) as u64 > max_bytes {
            return Err(too_large(max_bytes));
        }
        content.extend_from_slice(&chunk);
    }
    match content.is_empty() {
        true => Err(Refusal::bad("there is no photo in the request", "send the file as the request's body")),
        false => Ok(content),
    }
}

fn too_large(max_bytes: u64) -> Refusal {
    let error = format!("the file is larger than {} MB", max_bytes as f64 / 1e6);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error, "send a smaller file, for example a JPEG")
}

/// The photo as `editor` reads it. What a decoder does not survive is no photo.
fn decoded(content: &[u8], max_pixels: u64, session: Id) -> Result<Entry, Refusal> {
    let unreadable = |message: String| {
        let error = format!("this is not a photo that can be read: {message}");
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error, "choose another file")
    };
    let decode = || {
        let photo = Photo::decode(content, Path::new("photo"), max_pixels)?.with_way_back();
        Entry::new(session, photo)
    };
    match std::panic::catch_unwind(decode) {
        Ok(entry) => entry.map_err(|error| match error {
            Error::Image { message, .. } => unreadable(message),
            error => unreadable(error.to_string()),
        }),
        Err(_) => {
            tracing::error!("a decoder panicked over {} bytes", content.len());
            Err(unreadable("its decoder failed".into()))
        }
    }
}
