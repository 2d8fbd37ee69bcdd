//! Who may ask: the right name of the server (DNS rebinding), the right origin, the token, and whose session it is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{header, HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::api::App;
use super::id::Id;
use super::refusal::Refusal;

/// The page may load what this server has, and nothing else; nobody may frame it.
const POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What requests are held against.
pub struct Access {
    token: Option<blake3::Hash>,
    /// Names beside localhost.
    hosts: Vec<String>,
    /// Whether any address will do as a name, or a loopback one only.
    any_address: bool,
    /// Cookies do not know ports: two servers on one machine must not take each other's.
    session_cookie: String,
    token_cookie: String,
}

impl Access {
    /// For a server that listens at `at`.
    pub fn new(token: Option<&str>, hosts: &[String], at: SocketAddr) -> Self {
        Self {
            token: token.map(|token| blake3::hash(token.as_bytes())),
            hosts: hosts.to_vec(),
            any_address: !at.ip().is_loopback(),
            session_cookie: format!("editor-session-{}", at.port()),
            token_cookie: format!("editor-token-{}", at.port()),
        }
    }

    /// The session that a request says it belongs to.
    pub fn session(&self, headers: &HeaderMap) -> Option<Id> {
        cookie(headers, &self.session_cookie)?.parse().ok()
    }

    /// A header's value that makes a browser belong to `session`.
    pub fn set_session(&self, session: Id) -> HeaderValue {
        set_cookie(&self.session_cookie, &session.to_string())
    }

    /// Lets a request in, or answers it: with a refusal, or, where it brought the token, with a cookie for later.
    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let refused = |refusal: Refusal| Box::new(refusal.into_response());
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.filter(|host| self.is_own(host)).ok_or_else(|| refused(wrong_host()))?;
        let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
        let from_elsewhere = origin.is_some_and(|origin| origin.split_once("://").map(|(_, name)| name) != Some(host));
        if from_elsewhere && !method.is_safe() {
            let error = "this request comes from another site's page";
            return Err(refused(Refusal::new(StatusCode::FORBIDDEN, error, "use the page of this server")));
        }
        let Some(token) = self.token else { return Ok(()) };
        if uri.path() == "/" && token_in_query(uri).is_some_and(|given| given == token) {
            let cookie = set_cookie(&self.token_cookie, &token.to_hex());
            return Err(Box::new(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()));
        }
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).map(|given| blake3::hash(given.as_bytes()));
        let kept = || cookie(headers, &self.token_cookie).and_then(|hex| blake3::Hash::from_hex(hex).ok());
        // Hashes are compared in constant time.
        match bearer.or_else(kept).is_some_and(|given| given == token) {
            true => Ok(()),
            false => Err(refused(no_token())),
        }
    }

    /// Whether a Host header names this server; the port does not matter.
    fn is_own(&self, host: &str) -> bool {
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name);
        let name = bracketed.or_else(|| host.split(':').next()).unwrap_or_default();
        let address = name.parse::<IpAddr>().is_ok_and(|ip| self.any_address || ip.is_loopback());
        address || name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Stands before every route, and behind it: what leaves has JSON errors and headers that keep browsers careful.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut response = match app.access.check(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(response) => *response,
    };
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if (response.status().is_client_error() || response.status().is_server_error()) && !is_json {
        let reason = response.status().canonical_reason().unwrap_or("refused").to_lowercase();
        let refusal = Refusal::new(response.status(), reason, "see /openapi.json for what may be asked");
        let allow = response.headers_mut().remove(header::ALLOW);
        response = refusal.into_response();
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn wrong_host() -> Refusal {
    let hint = "open it as localhost or by its address, or start it with --host NAME";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, "this server is not known by that name", hint)
}

fn no_token() -> Refusal {
    let hint = "open /?token=TOKEN once, or send the header Authorization: Bearer TOKEN";
    Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong", hint)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

fn set_cookie(name: &str, value: &str) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&text).expect("names and hexadecimal digits are ASCII")
}

fn token_in_query(uri: &Uri) -> Option<blake3::Hash> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    let (_, token) = pairs.0.into_iter().find(|(key, _)| key == "token")?;
    Some(blake3::hash(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token: Option<&str>, at: &str) -> Access {
        Access::new(token, &["photos.example.org".into()], at.parse().expect("an address"))
    }

    /// The status of the answer that keeps a request out, if it is kept out.
    fn kept_out(access: &Access, method: Method, uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().expect("a name");
            map.append(name, value.parse().expect("a value"));
        }
        access.check(&method, &uri.parse().expect("an address"), &map).err().map(|response| response.status().as_u16())
    }

    #[test]
    fn a_page_elsewhere_cannot_reach_it_by_its_own_name() {
        let [local, open] = ["127.0.0.1:8080", "0.0.0.0:8080"].map(|at| access(None, at));
        for (host, by_local, by_open) in [
            ("localhost:8080", true, true),
            ("127.0.0.1:8080", true, true),
            ("[::1]:8080", true, true),
            ("Photos.example.org", true, true),
            ("192.168.0.9:8080", false, true),
            ("evil.example:8080", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("", false, false),
        ] {
            let may = |access: &Access| kept_out(access, Method::GET, "/", &[("host", host)]).is_none();
            assert_eq!((may(&local), may(&open)), (by_local, by_open), "{host}");
        }
        assert_eq!(kept_out(&local, Method::GET, "/", &[]), Some(421));
    }

    #[test]
    fn another_sites_page_changes_nothing() {
        let access = access(None, "127.0.0.1:8080");
        let with = |method, origin| kept_out(&access, method, "/", &[("host", "localhost:8080"), ("origin", origin)]);
        assert_eq!(with(Method::POST, "http://localhost:8080"), None);
        for origin in ["http://localhost:9090", "https://evil.example", "null"] {
            assert_eq!(with(Method::POST, origin), Some(403), "{origin}");
            assert_eq!(with(Method::GET, origin), None, "what it reads it is not shown");
        }
    }

    #[test]
    fn the_token_opens_by_header_by_cookie_and_once_by_address() {
        let access = access(Some("se cret"), "0.0.0.0:80");
        let host = ("host", "10.0.0.1");
        let cookie = format!("a=b; editor-token-80={}", blake3::hash(b"se cret"));
        assert_eq!(kept_out(&access, Method::GET, "/api/runs", &[host]), Some(401));
        assert_eq!(kept_out(&access, Method::GET, "/", &[host, ("authorization", "Bearer secret")]), Some(401));
        assert_eq!(kept_out(&access, Method::GET, "/", &[host, ("authorization", "Bearer se cret")]), None);
        assert_eq!(kept_out(&access, Method::GET, "/", &[host, ("cookie", &cookie)]), None);
        assert_eq!(kept_out(&access, Method::GET, "/", &[host, ("cookie", "editor-token-80=se cret")]), Some(401));
        assert_eq!(kept_out(&access, Method::GET, "/?token=se%20cret", &[host]), Some(303));
        assert_eq!(kept_out(&access, Method::GET, "/?token=x", &[host]), Some(401));
        assert_eq!(kept_out(&access, Method::GET, "/api/runs?token=se%20cret", &[host]), Some(401));
    }
}
