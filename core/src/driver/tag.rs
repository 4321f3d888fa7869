//! The tag of a Rust type, worked out once a thread.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use prost::Name;

use crate::Tag;

/// The tag of a message type. `Name::full_name` builds a string each time, and a type's tag never
/// changes: each thread remembers it.
pub(crate) fn tag_of<M: Name + 'static>() -> Tag {
    thread_local! {
        static TAGS: RefCell<HashMap<TypeId, Tag, BuildHasherDefault<Spread>>> = RefCell::default();
    }
    let known = TAGS.with_borrow(|tags| tags.get(&TypeId::of::<M>()).copied());
    known.unwrap_or_else(|| {
        // The application's, which may come here itself.
        let tag = Tag::of(&M::full_name());
        TAGS.with_borrow_mut(|tags| tags.insert(TypeId::of::<M>(), tag));
        tag
    })
}

/// A hasher for keys that are numbers which nobody chose to collide: type ids, slots, tags that
/// this side registered.
#[derive(Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the product's high bits depend on all bits of the number.
        self.0 = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {}

    impl Name for Inner {
        const NAME: &'static str = "Inner";
        const PACKAGE: &'static str = "test.v1";
        fn full_name() -> String {
            "test.v1.Outer.Inner".into()
        }
    }

    #[test]
    fn a_nested_type_is_routed_by_its_full_name() {
        assert_eq!(tag_of::<Inner>(), Tag::of("test.v1.Outer.Inner"));
        assert_eq!(tag_of::<Inner>(), tag_of::<Inner>());
    }
}
