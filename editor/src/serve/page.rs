//! The page: a few files that are part of the program. It asks for nothing from elsewhere.

use axum::http::header;
use axum::routing::{get, MethodRouter};
use axum::Router;

/// Address, content type, content.
type Asset = (&'static str, &'static str, &'static str);

const ASSETS: [Asset; 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/api.js", "text/javascript; charset=utf-8", include_str!("page/api.js")),
    ("/divider.js", "text/javascript; charset=utf-8", include_str!("page/divider.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/openapi.json", "application/json", include_str!("page/openapi.json")),
];

/// The routes of all assets.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.into_iter().fold(Router::new(), |router, asset| router.route(asset.0, served(asset)))
}

fn served<S: Clone + Send + Sync + 'static>((_, kind, content): Asset) -> MethodRouter<S> {
    get(move || async move { ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content) })
}
