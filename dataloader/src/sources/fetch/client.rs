//! One request: it ends within its deadline, and goes to public addresses alone.

use std::error::Error as _;
use std::io::Read;
use std::time::Duration;

use super::addresses::{Private, Resolver};
use super::FetchPolicy;

/// How requests name the program to servers.
const USER_AGENT: &str = concat!("emotion-editor-dataloader/", env!("CARGO_PKG_VERSION"), " (research dataset fetch)");

const MAX_REDIRECTS: u32 = 5;

/// Why a URL gave no image.
#[derive(Debug)]
pub(super) enum Refusal {
    /// For a lasting reason.
    Dead(String),
    /// For a temporary reason, perhaps for at least this long.
    Later(String, Option<Duration>),
    /// The host could not be reached, or did not answer in time.
    Silent(String),
}

/// Requests by one policy, over one pool of connections.
pub(super) struct Client {
    agent: ureq::Agent,
    max_bytes: u64,
}

impl Client {
    pub(super) fn new(policy: &FetchPolicy) -> Self {
        Self::with_resolver(policy, Resolver { timeout: policy.timeout, allow_private: policy.allow_private })
    }

    fn with_resolver(policy: &FetchPolicy, resolver: impl ureq::Resolver + 'static) -> Self {
        let agent = ureq::AgentBuilder::new()
            .timeout_connect(policy.timeout)
            // Of the request with its redirects and the whole body: a body that drips in must end, too.
            .timeout(policy.deadline)
            .resolver(resolver)
            .redirects(MAX_REDIRECTS)
            .user_agent(USER_AGENT)
            .build();
        Self { agent, max_bytes: policy.max_bytes }
    }

    /// The image at `url`.
    pub(super) fn image(&self, url: &str) -> Result<Vec<u8>, Refusal> {
        let response = self.agent.get(url).call().map_err(refusal)?;
        let stated: Option<u64> = response.header("Content-Length").and_then(|text| text.parse().ok());
        let mut bytes = Vec::new();
        let limit = self.max_bytes;
        let read = response.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => {
                Refusal::Silent(format!("the body stalled: {e}"))
            }
            _ => Refusal::Later(format!("the body broke off: {e}"), None),
        })?;
        if bytes.len() as u64 > limit {
            return Err(Refusal::Dead(format!("larger than {limit} bytes")));
        }
        if stated.is_some_and(|stated| stated > bytes.len() as u64) {
            return Err(Refusal::Later("the body is shorter than announced".into(), None));
        }
        match image::guess_format(&bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(Refusal::Dead("what it gives is no image".into())),
        }
    }
}

fn refusal(error: ureq::Error) -> Refusal {
    use ureq::ErrorKind::{BadHeader, BadStatus, InvalidUrl, TooManyRedirects, UnknownScheme};
    match error {
        ureq::Error::Status(code @ (408 | 425 | 429 | 500..), response) => {
            let after = response.header("Retry-After").and_then(|text| text.parse().ok());
            Refusal::Later(format!("HTTP {code}"), after.map(Duration::from_secs))
        }
        ureq::Error::Status(code, _) => Refusal::Dead(format!("HTTP {code}")),
        ureq::Error::Transport(error) => match (private(&error), error.kind()) {
            (Some(private), _) => Refusal::Dead(private),
            (None, InvalidUrl | UnknownScheme | TooManyRedirects) => Refusal::Dead(error.to_string()),
            (None, BadStatus | BadHeader) => Refusal::Later(error.to_string(), None),
            _ => Refusal::Silent(error.to_string()),
        },
    }
}

/// The reason, if an address was refused.
fn private(error: &ureq::Transport) -> Option<String> {
    let io: &std::io::Error = error.source()?.downcast_ref()?;
    Some(io.get_ref()?.downcast_ref::<Private>()?.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use ureq::Resolver as _;

    use super::*;

    /// A public host that sends everybody on to a private one.
    #[test]
    fn a_redirect_into_a_private_network_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("one request");
            let _ = stream.read(&mut [0; 1024]);
            let answer =
                format!("HTTP/1.1 302 Found\r\nLocation: http://{address}/secret\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("answered");
            drop(stream);
            listener.set_nonblocking(true).expect("set");
            std::thread::sleep(Duration::from_millis(200));
            listener.accept().is_ok()
        });
        let policy = FetchPolicy::default();
        let real = Resolver { timeout: policy.timeout, allow_private: false };
        let resolver = move |netloc: &str| match netloc.starts_with("public.example") {
            true => Ok(vec![address]),
            false => real.resolve(netloc),
        };
        match Client::with_resolver(&policy, resolver).image("http://public.example/a.jpg") {
            Err(Refusal::Dead(reason)) => assert!(reason.contains("127.0.0.1"), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(!server.join().expect("no panic"), "the private host was asked");
    }
}
