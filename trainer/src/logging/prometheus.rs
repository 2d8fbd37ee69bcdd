//! The newest values over HTTP, in Prometheus' text exposition format 0.0.4: one gauge for each tag.
//!
//! One page for one kind of client is these few lines on a thread of their own. A server's crate would bring a runtime or a
//! global registry into the training process, and its tests would be no shorter.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;

/// How long a client may take: a silent one must not block the next.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rank 0's endpoint, on a thread of its own.
pub struct Prometheus {
    page: Arc<Mutex<String>>,
}

impl Prometheus {
    /// Listens at `address` until the process ends.
    pub fn serve(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("watch.prometheus: {address}"))?;
        let at = listener.local_addr()?;
        tracing::info!("metrics at http://{at}/metrics");
        let page = Arc::new(Mutex::new(String::new()));
        let shown = page.clone();
        std::thread::Builder::new().name("prometheus".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let text = shown.lock().map(|page| page.clone()).unwrap_or_default();
                // A client that disconnects is no error.
                let _ = answer(stream, &text);
            }
        })?;
        Ok(Self { page })
    }

    /// Serves the values of `step` from now on.
    pub fn publish(&self, step: u64, scalars: &[(String, f64)]) {
        let mut text = String::new();
        gauge(&mut text, "step", step as f64);
        scalars.iter().for_each(|(tag, value)| gauge(&mut text, tag, *value));
        if let Ok(mut page) = self.page.lock() {
            *page = text;
        }
    }
}

/// loss/total becomes emotion_trainer_loss_total.
fn gauge(text: &mut String, tag: &str, value: f64) {
    let name: String = tag.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let _ = writeln!(text, "# TYPE emotion_trainer_{name} gauge\nemotion_trainer_{name} {value}");
}

fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A request's head is short; bytes beyond this are not read.
    let mut reader = BufReader::new(stream.try_clone()?.take(16 << 10));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (status, body) = match request.split(' ').nth(1) {
        Some("/metrics") => ("200 OK", text),
        _ => ("404 Not Found", "see /metrics\n"),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn the_newest_values_are_served() -> anyhow::Result<()> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let prometheus = Prometheus::serve(free)?;
        prometheus.publish(7, &[("loss/total".into(), 0.25), ("perf/data_wait_pct".into(), f64::NAN)]);
        let answer = get(free, "/metrics")?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("# TYPE emotion_trainer_step gauge\nemotion_trainer_step 7\n"), "{answer}");
        assert!(answer.contains("\nemotion_trainer_loss_total 0.25\n"), "{answer}");
        assert!(answer.contains("\nemotion_trainer_perf_data_wait_pct NaN\n"), "{answer}");
        assert!(get(free, "/")?.starts_with("HTTP/1.1 404"));
        Ok(())
    }
}
