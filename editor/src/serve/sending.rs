//! Pictures on their way to clients: a client that reads slowly must not fill the memory.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{header, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::Semaphore;

use super::queue::{EditRequest, Format, Quality};
use super::refusal::Refusal;

const CHUNK: usize = 64 << 10;
const KIB: u64 = 1 << 10;
/// When a full outbox is worth another try.
const RETRY_SECONDS: u64 = 10;

/// The room for answers, in KiB.
pub struct Outbox {
    room: Arc<Semaphore>,
    kib: u32,
}

impl Outbox {
    /// Room for `bytes`.
    pub fn new(bytes: u64) -> Self {
        let kib = (bytes / KIB).clamp(1, u64::from(u32::MAX >> 4)) as u32;
        Self { room: Arc::new(Semaphore::new(kib as usize)), kib }
    }

    /// An answer with this content; its room is free again when the client has it, or has left. An answer larger than
    /// the outbox takes all of it.
    pub fn send(&self, content: Vec<u8>, kind: &'static str, name: Option<String>) -> Result<Response, Refusal> {
        let kib = (content.len() as u64).div_ceil(KIB).clamp(1, u64::from(self.kib)) as u32;
        let permit = self.room.clone().try_acquire_many_owned(kib);
        let permit = permit.map_err(|_| Refusal::busy("too many pictures are on their way", RETRY_SECONDS))?;
        let (length, content) = (content.len(), Bytes::from(content));
        let chunks = stream::unfold((content, permit), |(mut left, permit)| async move {
            let chunk = left.split_to(left.len().min(CHUNK));
            (!chunk.is_empty()).then_some((Ok::<_, std::convert::Infallible>(chunk), (left, permit)))
        });
        let mut response = (StatusCode::OK, Body::from_stream(chunks)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Some(name) = name.and_then(|name| HeaderValue::from_str(&format!("inline; filename=\"{name}\"")).ok()) {
            headers.insert(header::CONTENT_DISPOSITION, name);
        }
        Ok(response)
    }
}

impl Format {
    /// Its media type.
    pub fn kind(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Webp => "image/webp",
        }
    }

    /// Its files' suffix.
    pub fn suffix(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Webp => "webp",
        }
    }
}

impl EditRequest {
    /// A name for its file: photo.awe.strength-0.5.png.
    pub fn file_name(&self) -> String {
        let emotions: Vec<String> = self.emotions.iter().map(|(emotion, _)| plain(emotion)).collect();
        let preview = if self.quality == Quality::Preview { ".preview" } else { "" };
        format!("photo.{}.strength-{}{preview}.{}", emotions.join("-"), self.strength, self.format.suffix())
    }
}

/// A run's emotions are whatever its recipe says.
fn plain(emotion: &str) -> String {
    emotion.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
