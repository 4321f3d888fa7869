//! What waits for a thread that writes it: so many lines and no more. What finds no room is counted, and its number stands
//! where it is missing, which is behind all that waited by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

/// With room for so many.
pub(crate) fn backlog<T>(room: usize) -> (Backlog<T>, Reader<T>) {
    let (waiting, received) = mpsc::channel(room);
    let missing = Arc::<AtomicU64>::default();
    let reader = Reader {
        received,
        taken: Vec::new(),
        missing: missing.clone(),
    };
    (Backlog { waiting, missing }, reader)
}

/// Where it waits; cheap to clone.
#[derive(Debug)]
pub(crate) struct Backlog<T> {
    waiting: mpsc::Sender<Entry<T>>,
    /// So many found no room since the last that did.
    missing: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Entry<T> {
    /// So many are missing before it.
    missing: u64,
    what: T,
}

/// The thread's end.
#[derive(Debug)]
pub(crate) struct Reader<T> {
    received: mpsc::Receiver<Entry<T>>,
    taken: Vec<Entry<T>>,
    missing: Arc<AtomicU64>,
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    Told(T),
    /// So many are missing here.
    Missing(u64),
}

impl<T> Clone for Backlog<T> {
    fn clone(&self) -> Self {
        Self {
            waiting: self.waiting.clone(),
            missing: self.missing.clone(),
        }
    }
}

impl<T> Backlog<T> {
    /// Has it written if there is room, without waiting.
    pub(crate) fn tell(&self, what: T) {
        match self.waiting.try_reserve() {
            Ok(room) => room.send(self.entry(what)),
            Err(_) => {
                self.missing.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Has it written once there is room. Nothing happens if nobody writes any more.
    pub(crate) async fn enqueue(&self, what: T) {
        if let Ok(room) = self.waiting.reserve().await {
            room.send(self.entry(what));
        }
    }

    fn entry(&self, what: T) -> Entry<T> {
        Entry {
            missing: self.missing.swap(0, Ordering::Relaxed),
            what,
        }
    }
}

impl<T> Reader<T> {
    /// Waits for what is to be written next, and adds so many at most and what is missing among them; `false`: that was all.
    pub(crate) fn read(&mut self, most: usize, batch: &mut Vec<Next<T>>) -> bool {
        self.received.blocking_recv_many(&mut self.taken, most);
        let missing = |lines: u64| (lines > 0).then_some(Next::Missing(lines));
        for entry in self.taken.drain(..) {
            batch.extend(missing(entry.missing));
            batch.push(Next::Told(entry.what));
        }
        // There may be none for long that could say so.
        if self.received.is_empty() {
            batch.extend(missing(self.missing.swap(0, Ordering::Relaxed)));
        }
        !batch.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let (backlog, mut reader) = backlog(2);
        let mut read = |most| {
            let mut batch = Vec::new();
            assert_eq!(reader.read(most, &mut batch), !batch.is_empty());
            batch
        };
        for number in 1..=4 {
            backlog.tell(number);
        }
        assert_eq!(read(1), [Next::Told(1)]);
        backlog.tell(5);
        let rest = [Next::Told(2), Next::Missing(2), Next::Told(5)];
        assert_eq!(read(9), rest);
        for number in 6..=8 {
            backlog.tell(number);
        }
        // Nobody tells more, and it is said all the same.
        let rest = [Next::Told(6), Next::Told(7), Next::Missing(1)];
        assert_eq!(read(9), rest);
        drop(backlog);
        assert_eq!(read(9), []);
    }
}
