//! Links that have the same frames to write, as after a broadcast, share their bytes.

use bytes::Bytes;

use super::lanes::Batch;

/// Frames for one link after the other, put into pieces. A link that writes what the one before it wrote gets
/// the same pieces, and not a copy of its own: as long as one group of links is written after the other, a
/// broadcast's bytes exist once.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    /// For the next link.
    frames: Vec<Bytes>,
    /// What the link before it wrote, and the pieces of that.
    before: Vec<Bytes>,
    pieces: Vec<Bytes>,
}

impl Alike {
    /// Adds a frame that is encoded already.
    pub(crate) fn add(&mut self, frame: Bytes) {
        self.frames.push(frame);
    }

    /// The pieces of all that was added since the last time.
    pub(crate) fn pieces(&mut self) -> Vec<Bytes> {
        if let [frame] = &*self.frames {
            let piece = frame.clone();
            self.frames.clear();
            return vec![piece];
        }
        if !is_same(&self.frames, &self.before) {
            let mut batch = Batch::for_frames(self.frames.iter().map(Bytes::len).sum());
            for frame in &self.frames {
                batch.encoded(frame.clone());
            }
            self.pieces = batch.into_pieces();
            std::mem::swap(&mut self.frames, &mut self.before);
        }
        self.frames.clear();
        self.pieces.clone()
    }

    /// No other link will want the same.
    pub(crate) fn forget(&mut self) {
        if !self.pieces.is_empty() {
            *self = Self::default();
        }
    }
}

/// Whether these are the same bytes in memory. Both are alive, so that no place was used again.
fn is_same(frames: &[Bytes], others: &[Bytes]) -> bool {
    let place = |frame: &Bytes| (frame.as_ptr(), frame.len());
    frames.iter().map(place).eq(others.iter().map(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: u8, size: usize) -> Vec<Bytes> {
        (0..count).map(|n| vec![n; size].into()).collect()
    }

    fn pieces(alike: &mut Alike, frames: &[Bytes]) -> Vec<Bytes> {
        frames.iter().for_each(|frame| alike.add(frame.clone()));
        alike.pieces()
    }

    #[test]
    fn links_with_the_same_frames_share_memory() {
        let mut alike = Alike::default();
        let frames = frames(5, 100);
        let (one, other) = (pieces(&mut alike, &frames), pieces(&mut alike, &frames));
        assert_eq!(one.concat(), frames.concat());
        assert!(is_same(&one, &other));
    }

    #[test]
    fn each_link_gets_its_own_frames() {
        let mut alike = Alike::default();
        let frames = frames(5, 100);
        for range in [0..5, 1..5, 0..4, 2..3, 0..5, 3..5] {
            let expected = &frames[range];
            assert_eq!(pieces(&mut alike, expected).concat(), expected.concat());
        }
        let equal: Vec<_> = frames.iter().map(|f| Bytes::copy_from_slice(f)).collect();
        let (one, other) = (pieces(&mut alike, &frames), pieces(&mut alike, &equal));
        assert_eq!(one.concat(), other.concat());
    }

    #[test]
    fn nothing_is_kept_once_it_is_forgotten() {
        let mut alike = Alike::default();
        let frames = frames(5, 100);
        drop(pieces(&mut alike, &frames));
        alike.forget();
        assert!(frames.iter().all(Bytes::is_unique));
    }

    #[test]
    fn a_frame_alone_is_not_copied() {
        let mut alike = Alike::default();
        let frames = frames(1, 100);
        assert!(is_same(&pieces(&mut alike, &frames), &frames));
        assert!(frames.iter().all(Bytes::is_unique));
    }
}
