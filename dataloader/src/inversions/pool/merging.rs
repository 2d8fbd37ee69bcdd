//! Small files of a pool become large ones.
//!
//! One process at a time merges, by a lock of the system. On storage without locks two may, which does no harm: they
//! write the same files, or rows twice, and remove nothing before it is elsewhere.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::sync::PoisonError;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use parquet::arrow::ArrowWriter;

use super::{keys, keys_of, name_of, Key, Pool, PART};
use crate::error::{Error, Result};

/// The file that who merges has locked.
const LOCK: &str = ".merging";
/// A file that has not grown for so long was left by a killed process.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

impl Pool {
    /// Groups of small files, each of which [`Pool::merge`] makes one file of. Also removes what killed processes left.
    pub fn mergeable(&self) -> Result<Vec<Vec<String>>> {
        self.remove_abandoned();
        self.refresh()?;
        let full = self.layout.rows_per_file as u64;
        let (mut groups, mut rows) = (vec![Vec::new()], 0);
        for (name, file) in &self.index.read().unwrap_or_else(PoisonError::into_inner).files {
            if file.rows * 2 > full {
                continue;
            }
            if rows + file.rows > full {
                groups.push(Vec::new());
                rows = 0;
            }
            rows += file.rows;
            groups.last_mut().expect("one at least").push(name.clone());
        }
        groups.retain(|group| group.len() > 1);
        Ok(groups)
    }

    /// Makes one file of these; nothing if they have gone, or while another process merges.
    pub fn merge(&self, names: &[String]) -> Result<()> {
        let Some(_lock) = self.merging()? else { return Ok(()) };
        self.refresh()?;
        let files: Vec<_> = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            names.iter().filter_map(|name| index.files.get(name).cloned()).collect()
        };
        if files.len() < 2 {
            return Ok(());
        }
        let mut all: Vec<Key> = Vec::new();
        let mut open = Vec::new();
        for file in &files {
            match file.open() {
                // On storage without locks another process may be merging, too.
                Err(_) if !file.path.exists() => return Ok(()),
                opened => open.push(opened?),
            }
            all.extend(keys(open.last().expect("just pushed"))?);
        }
        let mut seen = HashSet::new();
        all.retain(|key| seen.insert(key.clone()));
        let name = name_of(&all);
        self.write(&name, |writer| {
            let mut groups = Groups { pool: self, writer, pending: Vec::new(), written: HashSet::new() };
            for file in &open {
                for group in 0..file.num_groups() {
                    groups.push(file.columns(group, |_| true)?)?;
                }
            }
            groups.flush()
        })?;
        self.add(&name, all);
        // Rows that were made twice may be in one of the files already, all of them: then it is what is wanted.
        let merged = self.folder.join(&name);
        for file in files.iter().filter(|file| file.path != merged) {
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::file(&file.path, error)),
                _ => {}
            }
        }
        self.refresh()
    }

    /// The lock of who merges; none if another process has it.
    fn merging(&self) -> Result<Option<File>> {
        let path = self.folder.join(LOCK);
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|e| Error::file(&path, e))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            // Storage without locks.
            Err(TryLockError::Error(_)) | Ok(()) => Ok(Some(file)),
        }
    }

    fn remove_abandoned(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(PART)) {
            let old =
                entry.metadata().and_then(|m| m.modified()).is_ok_and(|m| m.elapsed().is_ok_and(|a| a > ABANDONED));
            if old {
                // What stays takes room, and does no other harm.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Rows of several files on their way into the row groups of one.
struct Groups<'a, 'b> {
    pool: &'a Pool,
    writer: &'a mut ArrowWriter<&'b File>,
    pending: Vec<RecordBatch>,
    written: HashSet<Key>,
}

impl Groups<'_, '_> {
    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        let keys = keys_of(&rows).map_err(|message| Error::file(&self.pool.folder, message))?;
        let new: Vec<bool> = keys.into_iter().map(|key| self.written.insert(key)).collect();
        let rows = match new.iter().all(|&new| new) {
            true => rows,
            false => filter_record_batch(&rows, &BooleanArray::from(new)).map_err(|e| self.failed(e))?,
        };
        self.pending.push(rows);
        let count: usize = self.pending.iter().map(RecordBatch::num_rows).sum();
        if count >= self.pool.layout.rows_per_group {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Writes what is pending as one row group.
    fn flush(&mut self) -> Result<()> {
        let schema = self.pool.layout.schema.clone();
        let rows = concat_batches(&schema, &self.pending).map_err(|e| self.failed(e))?;
        self.pending.clear();
        if rows.num_rows() == 0 {
            return Ok(());
        }
        self.writer.write(&rows).and_then(|()| self.writer.flush()).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: impl ToString) -> Error {
        Error::file(&self.pool.folder, error.to_string())
    }
}
