//! `dataloader fetch findingemo` against a server that misbehaves.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataloader::sources::fetch::{fetch, FetchPolicy, Line, Outcome, Summary, REPORT};

use crate::fixtures::fixture;

/// How often each path was asked for, and when.
type Asked = Arc<Mutex<BTreeMap<String, Vec<Instant>>>>;

/// A server whose answers its paths name; its address, and what it was asked.
fn server() -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let asked = Asked::default();
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || answer(stream, &seen));
        }
    });
    (address, asked)
}

fn answer(stream: TcpStream, seen: &Asked) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() {
        return;
    }
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
        header.clear();
    }
    let path = request.split_whitespace().nth(1).unwrap_or_default().to_string();
    let times = {
        let mut seen = seen.lock().expect("no panic");
        let times = seen.entry(path.clone()).or_default();
        times.push(Instant::now());
        times.len()
    };
    let photo = fs::read(fixture("dataloader/rotated.jpg")).expect("a fixture");
    let (status, body): (&str, &[u8]) = match path.as_str() {
        "/gone.jpg" => ("404 Not Found", b"no"),
        "/page.jpg" => ("200 OK", b"<!DOCTYPE html><html></html>"),
        "/busy.jpg" if times < 3 => ("503 Service Unavailable", b"later"),
        "/down.jpg" => ("500 Internal Server Error", b"oh"),
        path if path.starts_with("/drips") => return drip(stream, &photo),
        "/stalls.jpg" => return std::thread::sleep(Duration::from_secs(5)),
        _ => ("200 OK", &photo),
    };
    let length = if path == "/short.jpg" && times < 2 { body.len() * 2 } else { body.len() };
    let mut stream = stream;
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// A body that never stops coming, but comes so slowly that it never ends.
fn drip(mut stream: TcpStream, photo: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", photo.len());
    let _ = stream.write_all(head.as_bytes());
    for byte in photo {
        std::thread::sleep(Duration::from_millis(100));
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
    }
}

fn urls(folder: &Path, address: &str, list: &[(&str, &[&str])]) -> std::path::PathBuf {
    let rows: Vec<serde_json::Value> = list
        .iter()
        .flat_map(|(path, urls)| urls.iter().enumerate().map(move |(n, url)| (path, n, url)))
        .map(|(path, n, url)| {
            let url = if url.starts_with('/') { format!("{address}{url}") } else { url.to_string() };
            serde_json::json!({"rel_path": path, "idx_url": n + 1, "url": url})
        })
        .collect();
    let file = folder.join("urls.json");
    fs::write(&file, serde_json::to_string(&rows).expect("plain data")).expect("written");
    file
}

fn policy() -> FetchPolicy {
    FetchPolicy {
        pause: Duration::from_millis(20),
        backoff: Duration::from_millis(10),
        timeout: Duration::from_secs(5),
        deadline: Duration::from_secs(1),
        allow_private: true,
        ..FetchPolicy::default()
    }
}

fn report(output: &Path) -> BTreeMap<String, Line> {
    let text = fs::read_to_string(output.join(REPORT)).expect("a report");
    let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line"));
    lines.map(|line| (line.path.clone(), line)).collect()
}

#[test]
fn what_can_be_had_is_fetched_and_the_rest_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("images");
    let (address, asked) = server();
    let list = urls(
        folder.path(),
        &address,
        &[
            ("/Run_1/a b/good.jpg", &["/good.jpg"]),
            ("/Run_1/second.jpg", &["/gone.jpg", "/second.jpg"]),
            ("/Run_1/page.jpg", &["/page.jpg"]),
            ("/Run_1/busy.jpg", &["/busy.jpg"]),
            ("/Run_2/down.jpg", &["/down.jpg"]),
            ("/Run_2/short.jpg", &["/short.jpg"]),
            ("/Run_2/stalls.jpg", &["/stalls.jpg"]),
            ("/Run_2/nowhere.jpg", &["images/newbldg-4.jpg"]),
        ],
    );
    let summary = fetch(&list, &output, &policy()).expect("fetched");
    assert_eq!(summary, Summary { fetched: 4, there: 0, dead: 2, failed: 2 });
    let photo = fs::read(fixture("dataloader/rotated.jpg")).expect("a fixture");
    for path in ["Run_1/a b/good.jpg", "Run_1/second.jpg", "Run_1/busy.jpg", "Run_2/short.jpg"] {
        assert_eq!(fs::read(output.join(path)).expect("fetched"), photo, "{path}");
    }
    let lines = report(&output);
    let outcome = |path: &str| (&lines[path].outcome, lines[path].reason.as_str());
    assert_eq!(outcome("Run_1/page.jpg"), (&Outcome::Dead, "what it gives is no image"));
    assert_eq!(outcome("Run_2/down.jpg"), (&Outcome::Failed, "HTTP 500"));
    assert_eq!(*outcome("Run_2/stalls.jpg").0, Outcome::Failed);
    assert_eq!(outcome("Run_2/nowhere.jpg"), (&Outcome::Dead, "no usable URL is published"));
    let count = |path: &str| asked.lock().expect("no panic")[path].len();
    assert_eq!((count("/busy.jpg"), count("/down.jpg"), count("/gone.jpg"), count("/short.jpg")), (3, 3, 1, 2));
    assert!(fs::read_dir(output.join("Run_1"))
        .expect("a folder")
        .flatten()
        .all(|e| !e.file_name().to_string_lossy().ends_with(".part")));

    // A second run asks only for what may have come back.
    let again = fetch(&list, &output, &policy()).expect("fetched");
    assert_eq!(again, Summary { fetched: 0, there: 4, dead: 2, failed: 2 });
    assert_eq!((count("/good.jpg"), count("/page.jpg"), count("/down.jpg")), (1, 1, 6));
    let retried = fetch(&list, &output, &FetchPolicy { retry_dead: true, ..policy() }).expect("fetched");
    assert_eq!((retried.dead, count("/page.jpg")), (2, 2));
}

#[test]
fn a_host_is_asked_one_thing_at_a_time_with_a_pause_between() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, asked) = server();
    let names: Vec<String> = (0..6).map(|n| format!("/{n}.jpg")).collect();
    let list: Vec<(&str, Vec<&str>)> = names.iter().map(|name| (name.as_str(), vec![name.as_str()])).collect();
    let list: Vec<(&str, &[&str])> = list.iter().map(|(path, urls)| (*path, urls.as_slice())).collect();
    let list = urls(folder.path(), &address, &list);
    let pause = Duration::from_millis(100);
    fetch(&list, &folder.path().join("images"), &FetchPolicy { pause, ..policy() }).expect("fetched");
    let mut times: Vec<Instant> = asked.lock().expect("no panic").values().flatten().copied().collect();
    times.sort();
    assert_eq!(times.len(), 6);
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] >= pause, "{:?}", pair[1] - pair[0]);
    }
}

#[test]
fn a_body_that_drips_in_ends_at_the_deadline_and_a_slow_host_is_given_up_without_holding_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let ((slow, asked), (quick, _)) = (server(), server());
    let slow_names: Vec<String> = (0..8).map(|n| format!("{slow}/drips-{n}.jpg")).collect();
    let names: Vec<String> = (0..8).map(|n| format!("{}/{n}.jpg", quick.replace("127.0.0.1", "localhost"))).collect();
    // The slow host's images come first in the list, and there are fewer workers than it has images.
    let list: Vec<(String, &str)> = (0..8)
        .map(|n| (format!("/a/{n}.jpg"), slow_names[n].as_str()))
        .chain((0..8).map(|n| (format!("/b/{n}.jpg"), names[n].as_str())))
        .collect();
    let one: Vec<[&str; 1]> = list.iter().map(|(_, url)| [*url]).collect();
    let list: Vec<(&str, &[&str])> = list.iter().zip(&one).map(|((path, _), url)| (path.as_str(), &url[..])).collect();
    let list = urls(folder.path(), "", &list);
    let output = folder.path().join("images");
    let policy = FetchPolicy { concurrency: 2, attempts: 1, host_patience: 2, ..policy() };
    let summary = fetch(&list, &output, &policy).expect("fetched");
    assert_eq!(summary, Summary { fetched: 8, there: 0, dead: 0, failed: 8 });
    assert_eq!(asked.lock().expect("no panic").len(), 2, "a host that does not answer twice in a row is left alone");
    let text = fs::read_to_string(output.join(REPORT)).expect("a report");
    let order: Vec<bool> = text.lines().map(|line| line.contains("\"/b/") || line.contains("\"b/")).collect();
    assert!(order[0], "the first result is the quick host's: {text}");
    assert!(text.contains("2 times in a row"), "{text}");
}

#[test]
fn an_address_of_this_machine_is_refused_and_nothing_of_a_urls_password_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, asked) = server();
    let secret = format!("{}/a.jpg?token=s3cret", address.replace("http://", "http://ada:s3cret@"));
    let list = urls(folder.path(), &address, &[("/a.jpg", &[&secret])]);
    let output = folder.path().join("images");
    let summary = fetch(&list, &output, &FetchPolicy { allow_private: false, ..policy() }).expect("done");
    assert_eq!(summary, Summary { dead: 1, ..Summary::default() });
    assert!(asked.lock().expect("no panic").is_empty(), "it was never asked");
    let text = fs::read_to_string(output.join(REPORT)).expect("a report");
    assert!(text.contains("--allow-private-addresses") && !text.contains("s3cret"), "{text}");
}
