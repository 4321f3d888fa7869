//! A set of places among the first 64: to ask it costs nothing, where to look at each place costs memory that no
//! processor has at hand.

/// A set of places among the first 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(u64);

impl Places {
    /// How many there are.
    pub(super) const COUNT: usize = u64::BITS as usize;

    /// Adds a place, which has to be below [`Self::COUNT`].
    pub(super) fn insert(&mut self, place: usize) {
        self.0 |= 1 << place;
    }

    pub(super) fn remove(&mut self, place: usize) {
        self.0 &= !(1 << place);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Ascending.
impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = (!self.is_empty()).then(|| self.0.trailing_zeros() as usize)?;
        self.remove(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_in_order_whichever_way_they_went_in() {
        let mut places = Places::default();
        assert!(places.is_empty());
        for place in [63, 0, 7, 2, 7] {
            places.insert(place);
        }
        places.remove(2);
        places.remove(3);
        assert_eq!(places.collect::<Vec<_>>(), [0, 7, 63]);
        places.remove(0);
        places.remove(7);
        places.remove(63);
        assert!(places.is_empty());
    }
}
