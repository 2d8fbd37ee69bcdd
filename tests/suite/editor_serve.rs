//! `editor serve` as browsers and programs meet it: over HTTP, with the real program. The client is a socket, so that a
//! test can say anything and hang up at any time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use diffusion::images;
use serde_json::Value;

use crate::editor::run_folder;
use crate::fixtures::{fixture, program};

const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; its working folder and temporary folder are empty ones of its own.
struct Server {
    child: Child,
    at: String,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(extra: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().with_extension("log");
        let mut command = Command::new(program("editor"));
        command.arg("serve").arg("--run").arg(run_folder()).args([
            "--bind",
            "127.0.0.1:0",
            "--device",
            "cpu",
            "--offline",
        ]);
        command.args(extra).env("OMP_NUM_THREADS", "1").env("TMPDIR", folder.path()).env("HOME", folder.path());
        command.env("RUST_LOG", "info,editor=debug").current_dir(folder.path()).stdout(Stdio::piped());
        command.stderr(std::fs::File::create(log).expect("a log"));
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its address");
        let at = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')).map(str::to_string);
        Self { at: at.unwrap_or_else(|| panic!("no address: {line}")), child, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().with_extension("log")).unwrap_or_default()
    }

    fn client(&self) -> Client<'_> {
        Client { at: &self.at, cookie: None }
    }

    /// Ctrl-C; returns the exit code.
    fn stop(&mut self) -> Option<i32> {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal could be sent");
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not stop: {}", self.log());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(self.folder.path().with_extension("log"));
    }
}

/// One session.
#[derive(Clone)]
struct Client<'a> {
    at: &'a str,
    cookie: Option<String>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts that it is an error for people: what was wrong, and what to do.
    #[track_caller]
    fn refuses(&self, status: u16) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{text}");
        let json = self.json();
        let [error, hint] = ["error", "hint"].map(|key| json[key].as_str().unwrap_or_default().to_string());
        assert!(!error.is_empty() && !hint.is_empty(), "{text}");
        error + ": " + &hint
    }
}

impl Client<'_> {
    fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.begin(method, path, headers, body);
        let mut raw = Vec::new();
        // A server that refuses a body need not have read it: then the connection is reset behind the answer.
        let read = stream.read_to_end(&mut raw);
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {read:?}"));
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers: Vec<(String, String)> =
            lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_string())).collect();
        let answer = Answer { status: status.expect("a status"), headers, body: raw[end + 4..].to_vec() };
        if let Some(cookie) = answer.header("set-cookie") {
            assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().map(str::to_string);
        }
        answer
    }

    /// Sends a request and does not wait for the answer.
    fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.at);
        }
        self.cookie.iter().for_each(|cookie| head += &format!("Cookie: {cookie}\r\n"));
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let mut stream = TcpStream::connect(self.at).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all((head + "\r\n").as_bytes()).expect("sent");
        let _ = stream.write_all(body); // see `ask`
        stream
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], &[])
    }

    fn post(&mut self, content: &[u8]) -> Answer {
        self.ask("POST", "/api/photos", &[], content)
    }

    /// Sends a photo and waits until edits can start; returns its address.
    #[track_caller]
    fn send(&mut self, content: &[u8]) -> String {
        let answer = self.post(content);
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let path = answer.header("location").expect("its address").to_string();
        let begun = Instant::now();
        loop {
            let state = self.get(&path).json();
            match state["state"].as_str() {
                Some("ready") => return path,
                Some("waiting" | "inverting") if begun.elapsed() < PATIENCE => {}
                _ => panic!("{state}"),
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

/// What `editor` writes for the same photo.
fn by_editor(photo: &Path, suffix: &str, arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out").with_extension(suffix);
    let mut command = Command::new(program("editor"));
    command.arg("--run").arg(run_folder()).arg("--image").arg(photo).arg("--output").arg(&output);
    command.args(arguments).args(["--device", "cpu", "--offline"]).env("OMP_NUM_THREADS", "1");
    let ran = command.output().expect("the editor starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    std::fs::read(output).expect("the edit")
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(fixture(path)).expect("a fixture")
}

#[test]
fn a_downloaded_edit_is_the_editors_file_byte_for_byte() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let cases: [(&str, &str, &str, &str); 5] = [
        ("images/landscape.png", "awe", "0.5", "png"),
        ("photos/colour/p3_16.png", "fear", "1", "png"),
        ("photos/exif/dated.jpg", "awe:0.7,fear:0.3", "-0.5", "jpg"),
        ("photos/colour/p3.jpg", "awe", "1.5", "webp"),
        ("images/exif6.jpg", "awe", "0", "png"),
    ];
    for (photo, emotions, strength, suffix) in cases {
        let path = client.send(&read(photo));
        let answer = client.get(&format!("{path}/edit?emotions={emotions}&strength={strength}&format={suffix}"));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let expected = by_editor(&fixture(photo), suffix, &["--emotion", emotions, "--strength", strength]);
        assert!(answer.body == expected, "{photo} {emotions} {strength}: {} bytes", answer.body.len());
        assert!(answer.header("content-disposition").is_some_and(|name| name.contains(suffix)), "{answer:?}");
        assert_eq!(client.ask("DELETE", &path, &[], &[]).status, 204);
        client.get(&path).refuses(404);
    }
}

#[test]
fn a_preview_is_the_same_edit_at_the_size_of_a_page() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large.png");
    let photo = images::read_photo(&fixture("images/landscape.png")).expect("a photo");
    images::write(&file, &images::resize(&photo, 1920, 1200).expect("resized")).expect("written");
    let path = client.send(&std::fs::read(&file).expect("read"));
    let state = client.get(&path).json();
    assert_eq!((&state["size"]["width"], &state["preview"]["width"]), (&1920.into(), &1280.into()));
    let mut picture = |what: &str| {
        let answer = client.get(&format!("{path}/{what}"));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        std::fs::write(&file, answer.body).expect("written");
        images::read_photo(&file).expect("a picture")
    };
    let preview = picture("edit?emotions=awe&strength=1&quality=preview");
    let full = picture("edit?emotions=awe&strength=1");
    assert_eq!((preview.dimensions(), full.dimensions()), ((1280, 800), (1920, 1200)));
    let mean = |a: &image::RgbImage, b: &image::RgbImage| {
        let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(x, y)| u64::from(x.abs_diff(*y))).sum();
        sum as f64 / a.as_raw().len() as f64
    };
    let scaled = images::resize(&full, 1280, 800).expect("resized");
    let original = picture("original?quality=preview");
    let (from_full, from_original) = (mean(&preview, &scaled), mean(&preview, &original));
    assert!(from_full < 1.0 && from_original > 4.0 * from_full, "{from_full} {from_original}");
    assert_eq!(picture("original").dimensions(), (1920, 1200));
}

#[test]
fn sessions_at_once_get_their_own_pictures_and_nobody_elses() {
    let server = Server::start(&[]);
    let photos: Vec<Vec<u8>> =
        ["landscape.png", "small.png", "exif6.jpg"].iter().map(|name| read(&format!("images/{name}"))).collect();
    let expected = ["landscape.png", "small.png", "exif6.jpg"]
        .map(|name| by_editor(&fixture(&format!("images/{name}")), "png", &["--emotion", "awe"]));
    let barrier = Barrier::new(2 * photos.len());
    let session = |which: usize| {
        let mut client = server.client();
        let path = client.send(&photos[which]);
        barrier.wait();
        for _ in 0..3 {
            let answer = client.get(&format!("{path}/edit?emotions=awe"));
            match answer.status {
                200 => assert!(answer.body == expected[which], "photo {which}"),
                _ => assert!(answer.refuses(503).contains("busy")),
            }
        }
        (client, path)
    };
    let session = &session;
    let held: Vec<(Client<'_>, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * photos.len()).map(|i| scope.spawn(move || session(i % 3))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a session")).collect()
    });
    let paths: Vec<&String> = held.iter().map(|(_, path)| path).collect();
    for (at, (client, own)) in held.iter().enumerate() {
        let mut client = client.clone();
        for path in paths.iter().filter(|path| **path != own) {
            for what in ["", "/original", "/edit?emotions=awe"] {
                client.get(&format!("{path}{what}")).refuses(404);
            }
            client.ask("DELETE", path, &[], &[]).refuses(404);
        }
        assert_eq!(client.get(own).status, 200, "session {at} still has its own");
        for guess in ["0".repeat(32), "x".into(), own[12..43].to_string(), own[12..].to_uppercase() + "a"] {
            client.get(&format!("/api/photos/{guess}")).refuses(404);
        }
    }
    // A session's name that the server did not give is not taken on.
    let chosen = held[0].0.cookie.as_deref().and_then(|cookie| cookie.split('=').next()).expect("a cookie");
    let mut stranger = server.client();
    stranger.cookie = Some(format!("{chosen}={}", "0".repeat(32)));
    stranger.send(&photos[1]);
    assert!(!stranger.cookie.as_ref().expect("a cookie").ends_with("0000"), "{:?}", stranger.cookie);
    stranger.get(paths[0]).refuses(404);
}

#[test]
fn what_is_no_photo_is_refused_and_never_a_fault() {
    let server = Server::start(&["--max-bytes", "300000", "--max-pixels", "10000"]);
    let mut client = server.client();
    let whole = read("images/small.png");
    let jpeg = read("images/exif6.jpg");
    for (content, part) in [
        (&whole[..whole.len() / 2], "photo"),
        (&jpeg[..jpeg.len() / 3], "photo"),
        (&read("images/text.png")[..], "photo"),
        (&read("images/bomb.png")[..], "scale it down"),
        (&read("images/landscape.png")[..], "scale it down"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (&[0; 1000], "photo"),
    ] {
        let text = client.post(content).refuses(422);
        assert!(text.contains(part), "{text}");
    }
    assert!(client.post(&[]).refuses(400).contains("no photo"));
    assert!(client.post(&vec![7; 300_001]).refuses(413).contains("0.3"));
    assert!(client.ask("POST", "/api/photos", &[("Transfer-Encoding", "chunked")], b"zz\r\n").status < 500);
    // Damaged files: bytes of good ones replaced, by a fixed rule.
    let mut state = 7u64;
    for round in 0..120 {
        let mut content = if round % 2 == 0 { whole.clone() } else { jpeg.clone() };
        for _ in 0..1 + round % 6 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % content.len();
            content[at] = (state >> 24) as u8;
        }
        let answer = client.post(&content);
        assert!([201, 422].contains(&answer.status), "{round}: {}", String::from_utf8_lossy(&answer.body));
        if let Some(path) = answer.header("location").map(str::to_string) {
            assert_eq!(client.ask("DELETE", &path, &[], &[]).status, 204);
        }
    }
    let path = client.send(&whole);
    for query in [
        "emotions=joy",
        "emotions=awe:much",
        "",
        "emotions=awe&strength=nan",
        "emotions=awe&strength=1e9",
        "emotions=awe&format=gif",
        "emotions=awe&run=none",
        "emotions=awe&more=1",
        "emotions=awe:1e300",
    ] {
        client.get(&format!("{path}/edit?{query}")).refuses(400);
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn every_limit_is_a_clear_answer() {
    let server =
        Server::start(&["--max-sessions", "1", "--max-photos", "2", "--keep-minutes", "0.05", "--max-queue", "1"]);
    let photo = read("images/small.png");
    let [mut first, mut second] = [server.client(), server.client()];
    first.send(&photo);
    let path = first.send(&photo);
    let third = first.post(&photo);
    assert!(third.refuses(429).contains("remove one"), "{third:?}");
    let other = second.post(&photo);
    assert!(other.refuses(503).contains("busy"));
    assert!(other.header("retry-after").and_then(|text| text.parse::<u64>().ok()).is_some_and(|s| s > 0), "{other:?}");

    // More requests at once than may wait: each is served, or told when to come again.
    let ask = |strength: usize| {
        let answer = first.clone().get(&format!("{path}/edit?emotions=awe&strength=0.{strength}"));
        if answer.status != 200 {
            assert!(answer.refuses(503).contains("try again in"), "{answer:?}");
            assert!(answer.header("retry-after").is_some());
        }
        answer.status
    };
    let ask = &ask;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (10..40).map(|strength| scope.spawn(move || ask(strength))).collect();
        threads.into_iter().map(|thread| thread.join().expect("answered")).collect()
    });
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");

    let begun = Instant::now();
    while !server.log().contains("photos forgotten") {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(4)); // both are older than 3 s then
    first.get(&path).refuses(404);
    second.send(&photo);
}

#[test]
fn who_hangs_up_leaves_the_line() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let path = client.send(&read("images/landscape.png"));
    let begun = Instant::now();
    let mut round = 0;
    while !server.log().contains("left the line") {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        let waiting: Vec<TcpStream> = (0..8)
            .map(|i| client.begin("GET", &format!("{path}/edit?emotions=awe&strength=0.{round}{i}"), &[], &[]))
            .collect();
        std::thread::sleep(Duration::from_millis(50));
        drop(waiting);
        round += 1;
    }
    assert_eq!(client.get(&format!("{path}/edit?emotions=awe")).status, 200);
}

#[test]
fn other_sites_and_other_machines_are_kept_out() {
    let mut command = Command::new(program("editor"));
    command.arg("serve").arg("--run").arg(run_folder()).args(["--bind", "0.0.0.0:0", "--offline"]);
    let ran = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(2) && text.contains("0.0.0.0") && text.contains("--token"), "{text}");
    let ran = Command::new(program("editor")).args(["serve", "--run", "none"]).output().expect("it starts");
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
    let ran = Command::new(program("editor")).args(["serve", "--port", "1"]).output().expect("it starts");
    let text = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(2) && text.contains("editor serve --help"), "{text}");

    let server = Server::start(&["--token", "se/cret"]);
    let mut client = server.client();
    assert!(client.get("/").refuses(401).contains("token"));
    client.get("/api/runs").refuses(401);
    client.ask("GET", "/api/runs", &[("Authorization", "Bearer wrong")], &[]).refuses(401);
    assert_eq!(client.ask("GET", "/api/runs", &[("Authorization", "Bearer se/cret")], &[]).status, 200);
    let opened = client.get("/?token=se%2Fcret");
    assert_eq!((opened.status, opened.header("location")), (303, Some("/")));
    let page = client.get("/");
    assert_eq!(page.status, 200);
    for (name, part) in [
        ("content-security-policy", "default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-ref"),
    ] {
        assert!(page.header(name).is_some_and(|value| value.contains(part)), "{name}: {page:?}");
    }
    client.ask("GET", "/", &[("Host", "evil.example")], &[]).refuses(421);
    client.ask("POST", "/api/photos", &[("Origin", "https://evil.example")], b"x").refuses(403);
}

#[test]
fn the_description_is_of_this_interface_and_the_page_is_whole() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let described = client.get("/openapi.json").json();
    let paths = described["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 6, "{:?}", paths.keys());
    for (path, methods) in paths {
        let path = path.replace(['{', '}'], "");
        for method in methods.as_object().expect("methods").keys() {
            let answer = client.ask(&method.to_uppercase(), &path, &[], &[]);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let known = answer.status != 405 && !(answer.status == 404 && text.contains(r#""error":"not found""#));
            assert!(known && answer.status < 500, "{method} {path}: {} {text}", answer.status);
        }
    }
    client.get("/api/none").refuses(404);
    assert_eq!(
        client.ask("PUT", "/api/runs", &[], &[]).refuses(405),
        "method not allowed: see /openapi.json for what may be asked"
    );

    let listed = client.get("/api/runs").json();
    let run = &listed["runs"][0];
    assert_eq!((&run["emotions"], &run["seen_only"]), (&serde_json::json!(["awe", "fear"]), &"drawn people".into()));
    for file in run["files"].as_array().expect("files") {
        let content = client.get(file["url"].as_str().expect("an address")).body;
        assert_eq!(file["blake3"], blake3::hash(&content).to_hex().to_string(), "{file}");
    }
    client.get(&format!("{}/../../x", run["files"][0]["url"].as_str().expect("an address"))).refuses(404);

    // Whatever the page names is here: nothing comes from elsewhere.
    for asset in ["/", "/app.js", "/api.js", "/divider.js", "/style.css"] {
        let answer = client.get(asset);
        let text = String::from_utf8(answer.body).expect("text");
        assert!(answer.status == 200 && !text.contains("https://") && !text.contains("//fonts"), "{asset}");
        for name in
            text.split(['"', '\'']).filter(|part| part.starts_with('/') && part.contains('.') && !part.contains(' '))
        {
            assert!(name.starts_with("/api/") || client.get(name).status == 200, "{asset} names {name}");
        }
    }
}

#[test]
fn ctrl_c_ends_it_whoever_waits_and_nothing_is_left_on_the_disk() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    let path = client.send(&read("images/landscape.png"));
    let waiting: Vec<TcpStream> =
        (0..5).map(|i| client.begin("GET", &format!("{path}/edit?emotions=fear&strength=0.{i}"), &[], &[])).collect();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.stop(), Some(0), "{}", server.log());
    for mut stream in waiting {
        let mut raw = String::new();
        let _ = stream.read_to_string(&mut raw); // a picture is no text
        assert!(raw.is_empty() || raw.starts_with("HTTP/1.1 503") || raw.starts_with("HTTP/1.1 200"), "{raw}");
    }
    let left: Vec<_> = std::fs::read_dir(server.folder.path()).expect("listed").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
