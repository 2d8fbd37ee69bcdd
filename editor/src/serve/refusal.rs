//! What is answered instead of a picture: `{"error": what was wrong, "hint": what to do}`.

use axum::http::{header, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use diffusion::Error;
use serde_json::{json, Value};

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 4xx, or 5xx where the server is at fault.
    pub status: StatusCode,
    /// What was wrong.
    pub error: String,
    /// What to do.
    pub hint: String,
    /// Seconds after which it may go better.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal that stays.
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: hint.into(), retry_after: None }
    }

    /// The request itself is wrong.
    pub fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    /// Everybody together asks for too much.
    pub fn busy(error: impl AsRef<str>, seconds: u64) -> Self {
        Self::later(StatusCode::SERVICE_UNAVAILABLE, error, seconds)
    }

    /// One session asks for too much.
    pub fn too_many(error: impl AsRef<str>, seconds: u64) -> Self {
        Self::later(StatusCode::TOO_MANY_REQUESTS, error, seconds)
    }

    fn later(status: StatusCode, error: impl AsRef<str>, seconds: u64) -> Self {
        let hint = format!("try again in {seconds} seconds");
        Self { status, error: format!("busy: {}", error.as_ref()), hint, retry_after: Some(seconds) }
    }

    /// No photo of this name belongs to the session; it makes no difference whether another session has it.
    pub fn no_such_photo() -> Self {
        let hint = "photos belong to one session and are forgotten after a while; send the photo again";
        Self::new(StatusCode::NOT_FOUND, "there is no such photo", hint)
    }

    /// The server is about to end.
    pub fn stopping() -> Self {
        Self::busy("the server is stopping", 10)
    }

    /// An edit or a picture that could not be made.
    pub fn of_edit(error: &Error) -> Self {
        match error {
            Error::NotFinite { .. } | Error::Invalid { .. } => {
                let hint = "choose a smaller strength, smaller weights or another format";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), hint)
            }
            _ => {
                tracing::error!("an edit failed: {error}");
                Self::failed()
            }
        }
    }

    /// A fault of the server; its log says more.
    pub fn failed() -> Self {
        let hint = "try again; the server's log says more";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the edit failed", hint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = as_json(self.status, &json!({"error": self.error, "hint": self.hint}));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// An answer in JSON.
pub fn as_json(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
