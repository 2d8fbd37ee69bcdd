//! Models by a hub id, against a server that speaks the hub's protocol and caches that huggingface_hub would have left.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hub::Hub;

use crate::fixtures::pocket;

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A hub that has one repository, org/pocket, and notes what it is asked for.
struct Server {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(files: BTreeMap<String, Vec<u8>>, token: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let notes = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = answer(stream, &files, token, &notes);
            }
        });
        Self { endpoint, asked }
    }

    fn downloads(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("not poisoned");
        let mut files: Vec<String> =
            asked.iter().filter_map(|p| p.split("/resolve/main/").nth(1).map(String::from)).collect();
        files.sort();
        files.dedup();
        files
    }
}

/// One request: the list of files, or a range of one.
fn answer(
    stream: TcpStream, files: &BTreeMap<String, Vec<u8>>, token: Option<&str>, notes: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_string();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|l| l.to_lowercase()).collect();
    notes.lock().expect("not poisoned").push(path.clone());
    let (mut status, mut headers, mut body) = ("404 Not Found", String::new(), Vec::new());
    let allowed = token.is_none_or(|token| head.contains(&format!("authorization: bearer {token}")));
    if !allowed {
        status = "401 Unauthorized";
    } else if path.starts_with("/api/models/org/pocket") {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        (status, body) = ("200 OK", serde_json::json!({"siblings": siblings, "sha": COMMIT}).to_string().into_bytes());
    } else if let Some(file) = path.split("/resolve/main/").nth(1).and_then(|name| files.get(name)) {
        let range = head.iter().find_map(|line| line.strip_prefix("range: bytes="));
        let (from, to) = range.and_then(|r| r.split_once('-')).unwrap_or(("0", ""));
        let from: usize = from.parse().unwrap_or(0);
        let to = to.parse().unwrap_or(usize::MAX).min(file.len() - 1);
        body = file[from..=to].to_vec();
        let etag = blake3::hash(file).to_hex();
        headers = format!(
            "X-Repo-Commit: {COMMIT}\r\nETag: \"{etag}\"\r\nContent-Range: bytes {from}-{to}/{}\r\n",
            file.len()
        );
        status = "206 Partial Content";
    }
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(&body)
}

/// The pocket pipeline's files by name.
fn repository() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([("README.md".to_string(), b"a card".to_vec())]);
    files.insert("model_index.json".into(), fs::read(pocket("model_index.json")).expect("read"));
    for part in ["vae", "text_encoder", "tokenizer", "scheduler"] {
        for entry in fs::read_dir(pocket(part)).expect("a part") {
            let path = entry.expect("an entry").path();
            let name = format!("{part}/{}", path.file_name().expect("a name").to_string_lossy());
            files.insert(name, fs::read(&path).expect("read"));
        }
    }
    // Only what marks a UNet: its weights are large, and nobody loads them here.
    files.insert("unet/config.json".into(), fs::read(pocket("unet/config.json")).expect("read"));
    files.insert("unet/diffusion_pytorch_model.safetensors".into(), b"weights".to_vec());
    files
}

fn hub(cache: &Path, server: &Server) -> Hub {
    Hub { offline: false, endpoint: server.endpoint.clone(), ..Hub::offline(cache) }
}

#[test]
fn a_model_is_fetched_into_pythons_layout_and_found_there_offline() {
    let (cache, server) = (tempfile::tempdir().expect("a folder"), Server::start(repository(), None));
    let folder = hub(cache.path(), &server).model("org/pocket").expect("fetched");
    let snapshot = cache.path().join("models--org--pocket/snapshots").join(COMMIT);
    assert_eq!(folder, snapshot);
    let reference = fs::read_to_string(cache.path().join("models--org--pocket/refs/main")).expect("a reference");
    assert_eq!(reference.trim(), COMMIT);
    let link = fs::read_link(snapshot.join("vae/config.json")).expect("a link to a blob, as Python lays it");
    assert!(link.to_string_lossy().contains("../blobs/"), "{}", link.display());
    assert_eq!(Hub::offline(cache.path()).model("org/pocket").expect("cached"), snapshot);
    let before = server.asked.lock().expect("not poisoned").len();
    assert_eq!(hub(cache.path(), &server).model("org/pocket").expect("cached"), snapshot);
    assert_eq!(server.asked.lock().expect("not poisoned").len(), before, "what is whole is not asked for again");
}

#[test]
fn a_snapshot_in_part_is_completed_or_its_missing_files_are_named() {
    let (cache, files) = (tempfile::tempdir().expect("a folder"), repository());
    let repository = cache.path().join("models--org--pocket");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(repository.join("refs")).expect("a folder");
    fs::write(repository.join("refs/main"), COMMIT).expect("written");
    for name in ["model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "unet/config.json"] {
        let path = snapshot.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, &files[name]).expect("written");
    }
    let offline = Hub::offline(cache.path());
    let message = offline.model("org/pocket").expect_err("in part").to_string();
    for missing in ["unet/diffusion_pytorch_model.safetensors", "text_encoder/config.json", "tokenizer/vocab.json"] {
        assert!(message.contains(missing), "{message}");
    }
    assert!(!message.contains("vae/"), "{message}");
    assert_eq!(offline.parts("org/pocket", &["vae"]).expect("its VAE is whole"), snapshot);
    let server = Server::start(files, None);
    assert_eq!(hub(cache.path(), &server).model("org/pocket").expect("completed"), snapshot);
    let downloads = server.downloads();
    assert!(downloads.iter().all(|name| !name.starts_with("vae/c") && name != "unet/config.json"), "{downloads:?}");
    assert!(downloads.contains(&"tokenizer/merges.txt".to_string()) && !downloads.contains(&"README.md".to_string()));
}

#[test]
fn the_token_is_shown_and_its_lack_is_explained() {
    let (cache, server) = (tempfile::tempdir().expect("a folder"), Server::start(repository(), Some("hf_secret")));
    let message = hub(cache.path(), &server).model("org/pocket").expect_err("not everybody's").to_string();
    assert!(message.contains("HF_TOKEN"), "{message}");
    let known = Hub { token: Some("hf_secret".into()), ..hub(cache.path(), &server) };
    known.model("org/pocket").expect("fetched");
}

#[test]
fn what_is_not_there_says_where_it_was_sought_and_what_to_do() {
    let cache = tempfile::tempdir().expect("a folder");
    let message = Hub::offline(cache.path()).model("org/none").expect_err("not there").to_string();
    for part in ["org/none", "models--org--none", "hf download"] {
        assert!(message.contains(part), "{message}");
    }
    let nowhere = Hub { cache: None, ..Hub::offline("") };
    assert!(nowhere.model("org/none").expect_err("no cache").to_string().contains("HF_HOME"));
    let folder = pocket("vae");
    let name = folder.to_str().expect("a name");
    assert_eq!(nowhere.model(name).expect("a folder needs no cache"), folder);
}
