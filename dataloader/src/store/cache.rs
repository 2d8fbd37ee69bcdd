//! Copies of an object store's shards on the local disk, named by their hash, within a size limit. Of the processes
//! that want a file, one downloads it and the others wait: it holds the system's lock on the unfinished file.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::access::CacheSection;

/// A download that has not grown for this long belongs to a process that is gone.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// How long ago a whole file counts as written; [`hashes`] records no file that was written within two seconds.
const SETTLED: Duration = Duration::from_secs(4);

/// A folder of shards.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    max_bytes: u64,
}

/// A file that is being downloaded.
#[derive(Debug)]
pub(super) struct Room {
    file: File,
    /// Its path, and its final path; none for a file that nobody else will see.
    places: Option<(PathBuf, PathBuf)>,
}

/// What a process that wants a file finds.
#[derive(Debug)]
pub(super) enum Turn {
    /// The file.
    There(File),
    /// Room for it: this process downloads it.
    Ours(Room),
}

impl Cache {
    pub(super) fn new(section: &CacheSection) -> Self {
        Self { folder: section.folder.clone(), max_bytes: (section.max_gigabytes * 1e9) as u64 }
    }

    /// The file of this hash, if it is in the cache. It counts as just used.
    pub(super) fn get(&self, hash: &str) -> Option<File> {
        let file = File::open(self.path(hash)).ok()?;
        // A file whose time cannot be set is only removed earlier than it should be. The time of modification stays:
        // by it, a hash that was computed once is known to be still the file's.
        let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
        Some(file)
    }

    /// Makes room for a file of `bytes`, unless another process downloads it: then waits for that one. A file that is
    /// larger than the whole cache is not kept.
    pub(super) fn room(&self, hash: &str, bytes: u64) -> io::Result<Turn> {
        if bytes > self.max_bytes {
            return Ok(Turn::Ours(Room { file: tempfile::tempfile()?, places: None }));
        }
        fs::create_dir_all(&self.folder)?;
        let aside = self.folder.join(format!("{hash}.part"));
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&aside)?;
            if let Err(error) = file.lock() {
                tracing::debug!("{}: has no locks ({error}); every process downloads for itself", aside.display());
                return self.own_room(hash, bytes).map(Turn::Ours);
            }
            if let Some(there) = self.get(hash) {
                // This process has made an empty file anew, after the other had moved its whole one.
                if is_at(&file, &aside) {
                    let _ = fs::remove_file(&aside);
                }
                return Ok(Turn::There(there));
            }
            // A download that failed has removed its file.
            if is_at(&file, &aside) {
                file.set_len(0)?;
                self.shrink_to(self.max_bytes - bytes)?;
                return Ok(Turn::Ours(Room { file, places: Some((aside, self.path(hash))) }));
            }
        }
    }

    /// Room that no other process knows of.
    fn own_room(&self, hash: &str, bytes: u64) -> io::Result<Room> {
        self.shrink_to(self.max_bytes - bytes)?;
        let aside = self.folder.join(format!("{hash}.{}.part", std::process::id()));
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&aside)?;
        Ok(Room { file, places: Some((aside, self.path(hash))) })
    }

    pub(super) fn forget(&self, hash: &str) {
        // A damaged file that cannot be removed is found damaged again.
        let _ = fs::remove_file(self.path(hash));
    }

    pub(super) fn path(&self, hash: &str) -> PathBuf {
        self.folder.join(format!("{hash}.parquet"))
    }

    /// Removes what killed downloads left, and the least recently used files until the rest fits. Processes that have
    /// a removed file open can go on reading it.
    fn shrink_to(&self, most: u64) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it since.
            let Ok(metadata) = entry.metadata() else { continue };
            let (path, modified) = (entry.path(), metadata.modified()?);
            match path.extension().and_then(OsStr::to_str) {
                Some("parquet") => files.push((metadata.accessed()?, metadata.len(), path)),
                Some("part") if modified.elapsed().is_ok_and(|age| age > ABANDONED) => drop(fs::remove_file(path)),
                _ => {}
            }
        }
        files.sort();
        let mut held: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if held <= most {
                break;
            }
            let _ = fs::remove_file(path);
            held -= bytes;
        }
        Ok(())
    }
}

/// Whether `file` is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<fs::Metadata>| metadata.map(|m| (m.dev(), m.ino())).ok();
    identity(file.metadata()).is_some_and(|open| identity(fs::metadata(path)) == Some(open))
}

impl Room {
    /// Whether others will find the file.
    pub(super) fn is_kept(&self) -> bool {
        self.places.is_some()
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The whole file, rewound, at its final path.
    pub(super) fn keep(mut self) -> io::Result<File> {
        self.file.rewind()?;
        // Nobody writes to it any more: its hash may be recorded at once, as that of a file that has long been there.
        let times = FileTimes::new().set_accessed(SystemTime::now()).set_modified(SystemTime::now() - SETTLED);
        self.file.set_times(times)?;
        if let Some((aside, place)) = self.places.take() {
            fs::rename(aside, place)?;
        }
        // Whoever waits goes on now: the lock would last as long as any handle on the file.
        let _ = self.file.unlock();
        self.file.try_clone()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((aside, _)) = &self.places {
            // A failed download leaves nothing.
            let _ = fs::remove_file(aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn room(cache: &Cache, hash: &str, bytes: u64) -> Room {
        match cache.room(hash, bytes).expect("room") {
            Turn::Ours(room) => room,
            Turn::There(_) => panic!("it is there already"),
        }
    }

    fn put(cache: &Cache, hash: &str, bytes: &[u8]) {
        let mut room = room(cache, hash, bytes.len() as u64);
        room.file().write_all(bytes).expect("written");
        let mut text = String::new();
        room.keep().expect("kept").read_to_string(&mut text).expect("readable");
        assert_eq!(text.as_bytes(), bytes);
    }

    #[test]
    fn the_least_recently_used_leaves_first_and_nothing_exceeds_the_size() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), max_bytes: 10 };
        let pause = || std::thread::sleep(Duration::from_millis(15));
        for hash in ["a", "b"] {
            put(&cache, hash, b"1234");
            pause();
        }
        assert!(cache.get("a").is_some());
        pause();
        put(&cache, "c", b"1234");
        let held = |hash: &str| cache.path(hash).exists();
        assert_eq!((held("a"), held("b"), held("c")), (true, false, true));
        put(&cache, "big", &[b'x'; 11]);
        assert!(!held("big") && held("a"), "what does not fit is not kept and drives nothing out");
        cache.forget("a");
        assert!(cache.get("a").is_none());
    }

    #[test]
    fn of_several_that_want_a_file_one_downloads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), max_bytes: 10 };
        let want = || match cache.room("a", 4).expect("room") {
            Turn::There(_) => 0,
            Turn::Ours(mut room) => {
                std::thread::sleep(Duration::from_millis(20));
                room.file().write_all(b"1234").expect("written");
                room.keep().expect("kept");
                1
            }
        };
        let downloads: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(want)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(downloads, 1);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing but the file is left");
    }

    #[test]
    fn after_a_download_that_failed_the_next_waiter_downloads() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), max_bytes: 10 };
        let failing = room(&cache, "a", 4);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| put(&cache, "a", b"1234"));
            std::thread::sleep(Duration::from_millis(30));
            drop(failing);
            waiting.join().expect("it downloads");
        });
        assert!(cache.get("a").is_some());
    }

    #[test]
    fn a_download_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), max_bytes: 10 };
        drop(room(&cache, "a", 4));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn what_a_killed_download_left_goes_and_one_under_way_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache { folder: folder.path().into(), max_bytes: 10 };
        let (old, new) = (folder.path().join("a.1.part"), folder.path().join("b.2.part"));
        let abandoned = SystemTime::now() - 2 * ABANDONED;
        File::create(&old).and_then(|file| file.set_modified(abandoned)).expect("written");
        File::create(&new).expect("written");
        put(&cache, "c", b"1234");
        assert!(!old.exists() && new.exists());
    }
}
