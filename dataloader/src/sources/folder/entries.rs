//! Every entry below a folder, looked at once: images, metadata tables, and everything else, which is counted or
//! named.
//!
//! Folders are told apart by device and inode, not by path, so that a link to a parent leads nowhere twice. If an
//! entry has a real name and links to it, the real name is used, in whatever order the system lists them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::kinds::{suffix, Kind, Table};
use crate::error::{Error, Result};
use crate::format::account::Account;
use crate::format::manifest::Quarantined;

/// What lies below a folder.
#[derive(Debug, Default)]
pub struct Entries {
    /// Paths of pictures, from the folder on, with `/` between their parts.
    pub images: BTreeSet<String>,
    /// Metadata tables, by path.
    pub tables: BTreeMap<String, Table>,
    /// Tables whose names say that they are metadata, in formats that imagefolder does not read.
    pub foreign_tables: Vec<String>,
    /// Pictures and folders that cannot be used, with the reason.
    pub quarantined: Vec<Quarantined>,
    /// Everything else.
    pub account: Account,
}

impl Entries {
    /// The entries below `root`. Fails if `root` itself cannot be listed; what cannot be read below it is
    /// quarantined.
    pub fn below(root: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::store(root.display().to_string(), e);
        let place = fs::canonicalize(root).map_err(failed)?;
        fs::read_dir(root).map_err(failed)?;
        let mut walk = Walk { root, place, found: Self::default(), visited: BTreeSet::new(), links: VecDeque::new() };
        walk.folder(String::new())?;
        walk.follow_links()?;
        Ok(walk.found)
    }
}

/// Device and inode: the identity of a file or folder under any name.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

struct Walk<'a> {
    root: &'a Path,
    /// The root without links in its path.
    place: PathBuf,
    found: Entries,
    visited: BTreeSet<Identity>,
    /// Links that were seen and not yet followed.
    links: VecDeque<String>,
}

impl Walk<'_> {
    /// The folder `path` and all folders below it. Links are only collected.
    fn folder(&mut self, path: String) -> Result<()> {
        let mut folders = vec![path];
        while let Some(path) = folders.pop() {
            let entries = match self.entries(&path) {
                Ok(entries) => entries,
                Err(error) => {
                    self.quarantine(&path, format!("the folder cannot be read: {error}"));
                    continue;
                }
            };
            for (name, kind) in entries {
                let Some(path) = self.path_of(&path, &name) else { continue };
                match kind {
                    kind if kind.is_dir() => folders.push(path),
                    kind if kind.is_symlink() => self.links.push_back(path),
                    kind if kind.is_file() => self.file(path),
                    kind => self.special(path, kind)?,
                }
            }
        }
        Ok(())
    }

    /// The entries of a folder, sorted by name; none if the folder was visited before.
    fn entries(&mut self, path: &str) -> std::io::Result<Vec<(OsString, FileType)>> {
        let full = self.root.join(path);
        if !self.visited.insert(identity(&fs::metadata(&full)?)) {
            self.found.account.links += 1; // the same folder, mounted twice
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(full)?.map(|entry| entry.and_then(|e| Ok((e.file_name(), e.file_type()?))));
        let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    /// The path of an entry to look at; none if it is hidden, or if its name cannot be stored in a column.
    fn path_of(&mut self, folder: &str, name: &OsStr) -> Option<String> {
        let lossy = name.to_string_lossy();
        if lossy.starts_with('.') {
            self.found.account.hidden += 1;
            return None;
        }
        let path = if folder.is_empty() { lossy.to_string() } else { format!("{folder}/{lossy}") };
        if name.to_str().is_some() {
            return Some(path);
        }
        match suffix(&lossy) {
            Some(suffix) if !Kind::of(&lossy).is_picture() => self.found.account.add_other(Some(&suffix)),
            _ => self.quarantine(&path, "its name is not UTF-8; rename it".into()),
        }
        None
    }

    fn file(&mut self, path: String) {
        let name = path.rsplit('/').next().unwrap_or_default();
        match Kind::of(name) {
            Kind::Picture => drop(self.found.images.insert(path)),
            Kind::Undeveloped(what) => self.quarantine(&path, what.into()),
            Kind::Metadata(table) => drop(self.found.tables.insert(path, table)),
            Kind::ForeignTable => self.found.foreign_tables.push(path),
            Kind::Other => self.found.account.add_other(suffix(name).as_deref()),
        }
    }

    /// A named pipe, a socket or a device. It is never opened: reading it may wait for ever.
    fn special(&mut self, path: String, kind: FileType) -> Result<()> {
        let what = match kind {
            kind if kind.is_fifo() => "a named pipe",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        };
        match Kind::of(path.rsplit('/').next().unwrap_or_default()) {
            kind if kind.is_picture() => self.quarantine(&path, format!("{what}, no file")),
            Kind::Metadata(_) => {
                return Err(Error::invalid(self.root.join(&path).display().to_string(), format!("is {what}, no file")))
            }
            _ => self.found.account.special_files += 1,
        }
        Ok(())
    }

    /// Reads what can only be reached through links.
    fn follow_links(&mut self) -> Result<()> {
        if self.links.is_empty() {
            return Ok(());
        }
        let named = self.found.images.iter().chain(self.found.tables.keys());
        let real: BTreeSet<Identity> =
            named.filter_map(|path| fs::metadata(self.root.join(path)).ok()).map(|m| identity(&m)).collect();
        while let Some(path) = self.links.pop_front() {
            let full = self.root.join(&path);
            match fs::metadata(&full) {
                Err(error) => self.dead_link(&path, &full, &error),
                Ok(metadata) if metadata.is_dir() => match self.is_new(&full, &metadata) {
                    true => self.folder(path)?,
                    false => self.known(&path, &full),
                },
                Ok(metadata) if metadata.is_file() => match real.contains(&identity(&metadata)) {
                    true => self.known(&path, &full),
                    false => self.file(path),
                },
                Ok(metadata) => self.special(path, metadata.file_type())?,
            }
        }
        Ok(())
    }

    /// Whether a folder is still to be visited and does not contain the root, which would be read again.
    fn is_new(&self, full: &Path, metadata: &Metadata) -> bool {
        let holds_root = fs::canonicalize(full).is_ok_and(|place| self.place.starts_with(place));
        !holds_root && !self.visited.contains(&identity(metadata))
    }

    fn known(&mut self, path: &str, full: &Path) {
        tracing::info!("{path} is a link to {}, read under its own name if at all", target(full));
        self.found.account.links += 1;
    }

    /// A broken link to a picture or a folder is quarantined; one to a file of another kind is only counted.
    fn dead_link(&mut self, path: &str, full: &Path, error: &std::io::Error) {
        let name = path.rsplit('/').next().unwrap_or_default();
        match suffix(name).filter(|_| !Kind::of(name).is_picture()) {
            Some(suffix) => self.found.account.add_other(Some(&suffix)),
            None => self.quarantine(path, format!("a link to {}, which cannot be read: {error}", target(full))),
        }
    }

    fn quarantine(&mut self, path: &str, reason: String) {
        tracing::warn!("{path} is quarantined: {reason}");
        self.found.quarantined.push(Quarantined { path: path.into(), reason });
    }
}

fn target(link: &Path) -> String {
    fs::read_link(link).map_or_else(|e| e.to_string(), |target| target.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{symlink, PermissionsExt};
    use std::process::Command;

    fn put(root: &Path, paths: &[&str]) {
        for path in paths {
            let place = root.join(path);
            fs::create_dir_all(place.parent().expect("a parent")).expect("made");
            fs::write(place, "").expect("written");
        }
    }

    fn paths(entries: &Entries) -> Vec<&str> {
        entries.images.iter().map(String::as_str).collect()
    }

    fn reasons(entries: &Entries) -> BTreeMap<&str, &str> {
        entries.quarantined.iter().map(|q| (q.path.as_str(), q.reason.as_str())).collect()
    }

    #[test]
    fn every_entry_is_an_image_a_table_named_or_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        put(root, &["awe/a.JPG", "b.jfif", "c.jpe", "d.HEIC", "e.dng", "notes.txt", "x.txt", "film.MP4", "LICENSE"]);
        put(root, &[".DS_Store", ".x/f.png", "train/metadata.csv"]);
        fs::write(root.join(OsStr::from_bytes(b"g\xe9.jpg")), "").expect("written");
        fs::write(root.join(OsStr::from_bytes(b"g\xe9.txt")), "").expect("written");
        let entries = Entries::below(root).expect("listed");
        assert_eq!(paths(&entries), ["awe/a.JPG", "b.jfif", "c.jpe", "d.HEIC"]);
        assert_eq!(entries.tables.keys().collect::<Vec<_>>(), ["train/metadata.csv"]);
        let reasons = reasons(&entries);
        assert!(reasons["e.dng"].contains("raw file") && reasons["g\u{fffd}.jpg"].contains("not UTF-8"), "{reasons:?}");
        assert_eq!(reasons.len(), 2);
        let counts = ["5 files of other kinds: .txt 3, .mp4 1, no suffix 1", "2 hidden names, not looked into"];
        assert_eq!(entries.account.describe(), counts);
    }

    #[test]
    fn links_multiply_nothing_and_give_no_labels() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = &folder.path().join("photos");
        put(root, &["awe/0.jpg", "fear/1.jpg"]);
        put(folder.path(), &["elsewhere/deep/2.jpg", "elsewhere/3.jpg"]);
        for (target, link) in [
            ("..", "awe/up"),                     // the root, from below it
            (".", "all"),                         // the root
            ("../..", "fear/above"),              // contains the root
            ("fear", "a_happy"),                  // a sibling, listed before it
            ("awe/0.jpg", "a.jpg"),               // a file that is read
            ("../elsewhere", "outside"),          // read: nothing else leads there
            ("../elsewhere/deep", "z_again"),     // read by then
            ("../elsewhere/3.jpg", "single.jpg"), // two names of one outside file are two images, as copies are
            ("gone", "dead.jpg"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).expect("linked");
        }
        let entries = Entries::below(root).expect("listed");
        assert_eq!(paths(&entries), ["awe/0.jpg", "fear/1.jpg", "outside/3.jpg", "outside/deep/2.jpg", "single.jpg"]);
        assert_eq!(entries.account.links, 6, "{:?}", entries.account);
        let reasons = reasons(&entries);
        assert!(reasons["dead.jpg"].contains("a link to gone") && reasons.contains_key("loop"), "{reasons:?}");
    }

    #[test]
    fn pipes_and_sockets_are_never_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        put(root, &["0.jpg"]);
        let pipe = |name: &str| {
            assert!(Command::new("mkfifo").arg(root.join(name)).status().expect("mkfifo runs").success());
        };
        pipe("pipe.jpg");
        pipe("pipe");
        symlink("pipe", root.join("link.png")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("bound");
        let entries = Entries::below(root).expect("listed");
        assert_eq!(paths(&entries), ["0.jpg"]);
        assert_eq!(entries.account.special_files, 2);
        let reasons = reasons(&entries);
        assert_eq!((reasons["pipe.jpg"], reasons["link.png"]), ("a named pipe, no file", "a named pipe, no file"));
        pipe("metadata.csv");
        assert!(Entries::below(root).expect_err("refused").to_string().contains("is a named pipe"));
    }

    #[test]
    fn an_unreadable_folder_is_named_and_the_rest_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        put(root, &["a/0.jpg", "b/1.jpg"]);
        let locked = root.join("a");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).expect("locked");
        let is_root = fs::read_dir(&locked).is_ok(); // root can read it whatever its permissions
        let entries = Entries::below(root).expect("listed");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o755)).expect("unlocked");
        match is_root {
            true => assert_eq!(paths(&entries), ["a/0.jpg", "b/1.jpg"]),
            false => {
                assert_eq!(paths(&entries), ["b/1.jpg"]);
                assert!(reasons(&entries)["a"].contains("cannot be read"), "{:?}", entries.quarantined);
            }
        }
    }

    #[test]
    fn tables_of_another_kind_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        put(folder.path(), &["0.jpg", "train/metadata.json"]);
        let entries = Entries::below(folder.path()).expect("listed");
        assert_eq!(entries.foreign_tables, ["train/metadata.json"]);
    }
}
