//! The photos of every session, in memory alone: apart from each other, bounded, and forgotten after a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diffusion::images::{self, Photo, Pixels};

use super::id::Id;
use super::refusal::Refusal;

/// The longer side of a preview, in pixels: a page shows no more of a photo.
pub const PREVIEW_SIDE: u32 = 1280;
/// When a full server is worth another try.
const RETRY_SECONDS: u64 = 30;

/// A photo's way to its first edit.
#[derive(Clone, Debug)]
pub enum State {
    /// In the queue.
    Waiting,
    /// So many timesteps of so many are inverted.
    Inverting(usize, usize),
    /// Edits start at once.
    Ready,
    /// It cannot be edited.
    Failed(Refusal),
}

/// One photo of one session.
pub struct Entry {
    /// Its name.
    pub id: Id,
    /// Whose it is.
    pub session: Id,
    /// The photo.
    pub photo: Photo,
    /// It in sRGB at the size of a page; `None` if it is no larger.
    smaller: Option<Photo>,
    bytes: u64,
    state: Mutex<State>,
    used: Mutex<Instant>,
    gone: AtomicBool,
}

impl Entry {
    /// Takes time for large photos: it makes the preview.
    pub fn new(session: Id, photo: Photo) -> diffusion::Result<Self> {
        let smaller = smaller(&photo)?;
        let bytes = bytes_of(&photo) + smaller.as_ref().map_or(0, bytes_of);
        let (state, used) = (Mutex::new(State::Waiting), Mutex::new(Instant::now()));
        Ok(Self { id: Id::random(), session, photo, smaller, bytes, state, used, gone: AtomicBool::new(false) })
    }

    /// The photo at the size of a page.
    pub fn preview(&self) -> &Photo {
        self.smaller.as_ref().unwrap_or(&self.photo)
    }

    /// How far it is.
    pub fn state(&self) -> State {
        locked(&self.state).clone()
    }

    /// Says how far it is.
    pub fn set_state(&self, state: State) {
        *locked(&self.state) = state;
    }

    /// Counts as used now.
    pub fn touch(&self) {
        *locked(&self.used) = Instant::now();
    }

    /// Whether it was removed or forgotten; then nothing more is to be computed for it.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

fn smaller(photo: &Photo) -> diffusion::Result<Option<Photo>> {
    let (width, height) = photo.dimensions();
    if width.max(height) <= PREVIEW_SIDE {
        return Ok(None);
    }
    let scale = f64::from(PREVIEW_SIDE) / f64::from(width.max(height));
    let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
    images::resize(&photo.to_srgb(), side(width), side(height)).map(|pixels| Some(Photo::of_srgb(pixels)))
}

fn bytes_of(photo: &Photo) -> u64 {
    let (width, height) = photo.dimensions();
    let level = if matches!(photo.pixels, Pixels::Eight(_)) { 1 } else { 2 };
    3 * level * u64::from(width) * u64::from(height)
}

/// How much the store holds.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Sessions with photos.
    pub sessions: usize,
    /// Photos of one session.
    pub photos: usize,
    /// Bytes of all photos.
    pub bytes: u64,
    /// How long a photo is kept without a request for it.
    pub keep: Duration,
}

/// All photos.
pub struct Store {
    room: Room,
    sessions: Mutex<HashMap<Id, HashMap<Id, Arc<Entry>>>>,
}

impl Store {
    /// An empty one.
    pub fn new(room: Room) -> Self {
        Self { room, sessions: Mutex::default() }
    }

    /// Whether a session that has photos has this name. A name that the server did not give, or no longer knows, is
    /// never taken on.
    pub fn knows(&self, session: Id) -> bool {
        locked(&self.sessions).contains_key(&session)
    }

    /// Whether one more photo of `session` (`None`: a new one) has room; asked before it is received.
    pub fn admits(&self, session: Option<Id>) -> Result<(), Refusal> {
        self.has_room(&locked(&self.sessions), session, 0)
    }

    /// Keeps a photo.
    pub fn add(&self, entry: Entry) -> Result<Arc<Entry>, Refusal> {
        let mut sessions = locked(&self.sessions);
        self.has_room(&sessions, Some(entry.session), entry.bytes)?;
        let entry = Arc::new(entry);
        sessions.entry(entry.session).or_default().insert(entry.id, entry.clone());
        Ok(entry)
    }

    fn has_room(&self, held: &Sessions, session: Option<Id>, bytes: u64) -> Result<(), Refusal> {
        let own = session.and_then(|session| held.get(&session));
        if own.is_some_and(|photos| photos.len() >= self.room.photos) {
            let error = format!("this session has {} photos here, and no more at once", self.room.photos);
            let mut refusal = Refusal::too_many(error, RETRY_SECONDS);
            refusal.hint = "remove one of them first".into();
            return Err(refusal);
        }
        if own.is_none() && held.len() >= self.room.sessions {
            return Err(Refusal::busy(format!("{} sessions are here already", self.room.sessions), RETRY_SECONDS));
        }
        let all: u64 = held.values().flat_map(HashMap::values).map(|entry| entry.bytes).sum();
        match all + bytes <= self.room.bytes {
            true => Ok(()),
            false => Err(Refusal::busy("there is no memory left for photos", RETRY_SECONDS)),
        }
    }

    /// The session's photo of this name; it counts as used now.
    pub fn find(&self, session: Option<Id>, id: &str) -> Result<Arc<Entry>, Refusal> {
        let sessions = locked(&self.sessions);
        let photos = session.and_then(|session| sessions.get(&session));
        let entry = photos.zip(id.parse().ok()).and_then(|(photos, id)| photos.get(&id));
        let entry = entry.ok_or_else(Refusal::no_such_photo)?.clone();
        entry.touch();
        Ok(entry)
    }

    /// Forgets the session's photo of this name.
    pub fn remove(&self, session: Option<Id>, id: &str) -> Result<(), Refusal> {
        let entry = self.find(session, id)?;
        self.retain(|other| other.id != entry.id);
        Ok(())
    }

    /// Forgets what has not been used for long; returns how many photos that were. What a request or a job holds is
    /// in use.
    pub fn expire(&self, now: Instant) -> usize {
        let is_fresh = |entry: &Entry| now.saturating_duration_since(*locked(&entry.used)) < self.room.keep;
        self.retain(|entry| is_fresh(entry) || Arc::strong_count(entry) > 1)
    }

    /// Whether a photo of this name is kept for anybody.
    pub fn holds(&self, id: Id) -> bool {
        locked(&self.sessions).values().any(|photos| photos.contains_key(&id))
    }

    fn retain(&self, keep: impl Fn(&Arc<Entry>) -> bool) -> usize {
        let mut sessions = locked(&self.sessions);
        let mut dropped = 0;
        for photos in sessions.values_mut() {
            photos.retain(|_, entry| {
                let kept = keep(entry);
                if !kept {
                    entry.gone.store(true, Ordering::Relaxed);
                    dropped += 1;
                }
                kept
            });
        }
        sessions.retain(|_, photos| !photos.is_empty());
        dropped
    }
}

type Sessions = HashMap<Id, HashMap<Id, Arc<Entry>>>;

/// What a thread that panicked left is whole: every change here is one operation.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use image::RgbImage;

    const ROOM: Room = Room { sessions: 2, photos: 2, bytes: 1000, keep: Duration::from_secs(60) };

    fn entry(session: Id, side: u32) -> Entry {
        Entry::new(session, Photo::of_srgb(RgbImage::new(side, 1))).expect("an entry")
    }

    fn status<T>(result: Result<T, Refusal>) -> Option<StatusCode> {
        result.err().map(|refusal| refusal.status)
    }

    #[test]
    fn a_session_finds_its_own_photos_only() {
        let store = Store::new(ROOM);
        let [a, b] = [Id::random(), Id::random()];
        let [of_a, of_b] = [a, b].map(|session| store.add(entry(session, 1)).expect("room").id.to_string());
        assert!(store.find(Some(a), &of_a).is_ok() && store.find(Some(b), &of_b).is_ok());
        for (session, id) in [(Some(a), &*of_b), (Some(b), &of_a), (None, &of_a), (Some(a), "x"), (Some(a), "")] {
            assert_eq!(status(store.find(session, id)), Some(StatusCode::NOT_FOUND));
            assert_eq!(status(store.remove(session, id)), Some(StatusCode::NOT_FOUND));
        }
        store.remove(Some(a), &of_a).expect("its own");
        assert_eq!(status(store.find(Some(a), &of_a)), Some(StatusCode::NOT_FOUND));
        assert!(!store.knows(a) && store.knows(b));
    }

    #[test]
    fn every_bound_is_an_answer() {
        let store = Store::new(ROOM);
        let [a, b, c] = [Id::random(), Id::random(), Id::random()];
        store.add(entry(a, 1)).expect("room");
        store.add(entry(a, 1)).expect("room");
        assert_eq!(status(store.add(entry(a, 1))), Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(status(store.add(entry(b, 334))), Some(StatusCode::SERVICE_UNAVAILABLE), "1002 bytes more");
        store.add(entry(b, 300)).expect("room");
        assert_eq!(status(store.add(entry(c, 1))), Some(StatusCode::SERVICE_UNAVAILABLE), "a third session");
        assert_eq!(status(store.admits(None)), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert!(store.admits(Some(b)).is_ok());
    }

    #[test]
    fn what_is_not_used_is_forgotten() {
        let store = Store::new(ROOM);
        let session = Id::random();
        let held = store.add(entry(session, 1)).expect("room");
        let id = held.id;
        let later = Instant::now() + Duration::from_secs(59);
        assert_eq!(store.expire(later), 0);
        assert_eq!(store.expire(later + Duration::from_secs(2)), 0, "it is in use");
        drop(held);
        assert_eq!((store.expire(later), store.expire(later + Duration::from_secs(2))), (0, 1));
        assert!(!store.knows(session) && !store.holds(id));
    }

    #[test]
    fn a_preview_is_as_large_as_a_page() {
        let large = Entry::new(Id::random(), Photo::of_srgb(RgbImage::new(2560, 100))).expect("an entry");
        assert_eq!(large.preview().dimensions(), (1280, 50));
        assert_eq!(entry(Id::random(), 1280).preview().dimensions(), (1280, 1));
    }
}
