//! Shards behind a web server that refuses, breaks off, stalls and cuts short.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use dataloader::making::config::ShardConfig;
use dataloader::making::shard;
use dataloader::making::worker_rank::WorkerRank;
use dataloader::{Access, Dataset, Filter, Stream};
use hub::Hub;

use crate::fixtures::{fixture, pocket, program};

/// What goes wrong with the first requests for each file, in turn.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// 503.
    Busy,
    /// The connection is closed before any answer.
    Reset,
    /// Half the body, then the connection is closed.
    BreaksOff,
}

/// A server of `folder` that commits `faults` on each file's first requests, then answers well.
struct Server {
    url: String,
    requests: Arc<Mutex<HashMap<String, usize>>>,
}

impl Server {
    fn start(folder: PathBuf, faults: &'static [Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/set", listener.local_addr().expect("bound"));
        let requests: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let counts = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, counts) = (folder.clone(), counts.clone());
                std::thread::spawn(move || answer(stream, &folder, &counts, faults));
            }
        });
        Self { url, requests }
    }

    fn requests(&self, name: &str) -> usize {
        self.requests.lock().expect("no panic").get(name).copied().unwrap_or(0)
    }
}

fn answer(
    mut stream: TcpStream, folder: &Path, counts: &Mutex<HashMap<String, usize>>, faults: &[Fault],
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut words = request.split_whitespace();
    let (method, path) = (words.next()?.to_string(), words.next()?.to_string());
    let mut range = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(bytes) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (first, last) = bytes.trim().split_once('-')?;
            range = Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?));
        }
    }
    let name = path.strip_prefix("/set/")?.to_string();
    let fault = {
        let mut counts = counts.lock().ok()?;
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        faults.get(*count - 1).copied()
    };
    match fault {
        Some(Fault::Busy) => {
            return stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
        }
        Some(Fault::Reset) => return None,
        _ => {}
    }
    let Ok(bytes) = fs::read(folder.join(&name)) else {
        return stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok();
    };
    let (status, part, place) = match range {
        Some((first, last)) => {
            let last = last.min(bytes.len() - 1);
            let place = format!("Content-Range: bytes {first}-{last}/{}\r\n", bytes.len());
            ("206 Partial Content", &bytes[first..=last], place)
        }
        None => ("200 OK", &bytes[..], String::new()),
    };
    let date = "Last-Modified: Sun, 01 Nov 2026 10:00:00 GMT\r\nETag: \"1\"\r\n";
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{place}{date}Connection: close\r\n\r\n", part.len());
    stream.write_all(head.as_bytes()).ok()?;
    match (method.as_str(), fault) {
        ("HEAD", _) => Some(()),
        (_, Some(Fault::BreaksOff)) => stream.write_all(&part[..part.len() / 2]).ok(),
        _ => stream.write_all(part).ok(),
    }
}

/// A data set of a few photos.
fn dataset(folder: &Path) -> ShardConfig {
    let photos = folder.join("photos");
    fs::create_dir_all(&photos).expect("made");
    for name in ["grey.png", "rotated.jpg", "cmyk.jpg", "transparent.png"] {
        fs::copy(fixture("dataloader").join(name), photos.join(name)).expect("copied");
    }
    let path = folder.join("recipe.yaml");
    let text = format!(
        "source: {{kind: folder, path: {}}}\nresolution: 32\nvae: {}\noutput: {}\n",
        photos.display(),
        pocket("vae").display(),
        folder.join("out").display()
    );
    fs::write(&path, text).expect("written");
    let config: ShardConfig = recipe::load(&path, &[]).expect("a valid recipe");
    shard::run(&config, &Hub::offline("none"), &WorkerRank::ALONE).expect("encoded");
    config
}

fn access(cache: &Path) -> Access {
    let mut access = Access::default();
    access.cache.folder = cache.into();
    access
}

const SHARD: &str = "train-00000-of-00001.parquet";

#[test]
fn faults_are_retried_and_the_rows_are_those_of_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = dataset(folder.path());
    let near = Dataset::open(&config.output.to_string_lossy()).expect("a data set");
    let rows = near.shard_rows(0).expect("readable");
    for faults in [
        &[Fault::Busy, Fault::Busy][..],
        &[Fault::Reset],
        &[Fault::BreaksOff],
        &[Fault::Busy, Fault::BreaksOff, Fault::Reset],
    ] {
        let server = Server::start(config.output.clone(), Vec::leak(faults.to_vec()));
        let cache = tempfile::tempdir().expect("a folder");
        let far = Dataset::open_with(&server.url, &access(cache.path())).expect("a data set");
        assert_eq!(far.shard_rows(0).expect("readable"), rows);
        assert!(server.requests(SHARD) > faults.len(), "the faults were met");
        let stream = Stream::new(Arc::new(far), &Filter::default(), 0).expect("rows");
        assert_eq!(stream.rows().len(), 4);
    }
}

#[test]
fn a_shard_is_fetched_once_and_a_damaged_copy_is_fetched_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = dataset(folder.path());
    let server = Server::start(config.output.clone(), &[]);
    let cache = folder.path().join("cache");
    let read = || Dataset::open_with(&server.url, &access(&cache)).and_then(|set| set.shard_rows(0));
    let rows = read().expect("readable");
    let fetched = server.requests(SHARD);
    assert_eq!(read().expect("readable"), rows);
    assert_eq!(server.requests(SHARD), fetched, "the second reading is from the cache");
    let kept = fs::read_dir(&cache).expect("a folder").flatten().next().expect("the shard").path();
    let mut bytes = fs::read(&kept).expect("readable");
    bytes[40] ^= 1;
    fs::write(&kept, bytes).expect("damaged");
    assert!(read().expect_err("damaged").to_string().contains(SHARD), "a damaged copy is never read");
    assert_eq!(read().expect("fetched again"), rows);
    assert!(server.requests(SHARD) > fetched);
}

#[test]
fn what_is_not_there_and_a_server_that_is_down_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path().to_path_buf(), &[]);
    let error = Dataset::open_with(&server.url, &access(folder.path())).expect_err("empty").to_string();
    assert!(error.contains("not a data set") && error.contains(&server.url), "{error}");
    let config = dataset(folder.path());
    let server = Server::start(config.output.clone(), &[]);
    fs::remove_file(config.output.join(SHARD)).expect("removed");
    let set = Dataset::open_with(&server.url, &access(folder.path())).expect("a manifest");
    let error = set.shard_rows(0).expect_err("missing").to_string();
    assert!(error.contains(SHARD) && error.contains("missing"), "{error}");
}

/// Four ranks that begin at once on one machine read each shard once for its hash, and fetch it once; ranks that come
/// later read and fetch nothing for it.
#[test]
fn ranks_of_one_machine_hash_and_fetch_each_shard_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = dataset(folder.path());
    let server = Server::start(config.output.clone(), &[]);
    for entry in fs::read_dir(&config.output).expect("a folder").flatten() {
        // A file that was written within the last seconds is not recorded.
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        fs::File::options().write(true).open(entry.path()).and_then(|f| f.set_modified(then)).expect("aged");
    }
    let ranks = |url: &str| {
        let start = |_| {
            let mut command = Command::new(program("dataloader"));
            command.args(["inspect", url]).env("XDG_CACHE_HOME", folder.path().join("cache"));
            command.current_dir(folder.path()).env("RUST_LOG", "hashes=debug,dataloader=debug");
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let ranks: Vec<_> = (0..4).map(start).collect();
        let said = ranks.into_iter().map(|rank| {
            let ended = rank.wait_with_output().expect("it ends");
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            String::from_utf8_lossy(&ended.stderr).into_owned()
        });
        let said: String = said.collect();
        let count = |word: &str| said.lines().filter(|line| line.contains(word)).count();
        (count("hashing "), count("downloading "))
    };
    let near = config.output.to_string_lossy().into_owned();
    assert_eq!(ranks(&near), (1, 0), "one shard, one rank");
    assert_eq!(ranks(&near), (0, 0), "and nobody at the second start");
    assert_eq!(ranks(&server.url), (1, 1), "one download");
    assert_eq!(ranks(&server.url), (0, 0));
    // A shard that was damaged since is hashed again, and never read.
    let path = config.output.join(SHARD);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[40] ^= 1;
    fs::write(&path, bytes).expect("damaged");
    let mut command = Command::new(program("dataloader"));
    let ended = command.args(["inspect", &near]).env("XDG_CACHE_HOME", folder.path().join("cache")).output();
    assert!(String::from_utf8_lossy(&ended.expect("it ran").stderr).contains("damaged shard"));
}
