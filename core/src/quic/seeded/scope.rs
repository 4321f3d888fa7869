//! Which session's generator rustls draws from.
//!
//! rustls asks its provider for randomness through `&'static` objects and hands them no context,
//! so the only way to tell sessions apart is to say, around each call into rustls, on whose behalf
//! it is made. That is why a thread-local variable stands here. It holds nothing outside of such a
//! call: there is no randomness at all then, and drawing fails.

use std::cell::Cell;

use rustls::crypto::GetRandomFailed;

use crate::seed::SeededRng;

thread_local! {
    static CURRENT: Cell<Option<Box<SeededRng>>> = const { Cell::new(None) };
}

/// One TLS session's generator, lent to the thread while rustls works for that session.
pub(super) struct SessionRng(Option<Box<SeededRng>>);

impl SessionRng {
    pub(super) fn new(rng: SeededRng) -> Self {
        Self(Some(Box::new(rng)))
    }

    /// Runs `work` with this generator as the only source of randomness of rustls on this thread.
    /// Scopes nest; the generator comes back even when `work` panics, and knows no more what was drawn.
    pub(super) fn scope<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let outer = CURRENT.replace(self.0.take());
        let _lent = Lent { owner: self, outer };
        work()
    }
}

struct Lent<'a> {
    owner: &'a mut SessionRng,
    outer: Option<Box<SeededRng>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.owner.0 = CURRENT.replace(self.outer.take());
        if let Some(rng) = &mut self.owner.0 {
            rng.erase_past();
        }
    }
}

/// Fills the buffer from the generator of the session that is being worked for.
///
/// # Errors
/// There is none: rustls was called outside of [`SessionRng::scope`].
pub(super) fn draw(buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
    let mut rng = CURRENT.take().ok_or(GetRandomFailed)?;
    rng.fill(buffer);
    CURRENT.set(Some(rng));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn drawn() -> Option<[u8; 8]> {
        let mut bytes = [0; 8];
        draw(&mut bytes).ok().map(|()| bytes)
    }

    /// What is drawn in so many scopes, so many times in each.
    fn expected<const SCOPES: usize>(label: &str, draws: [usize; SCOPES]) -> Vec<[u8; 8]> {
        let mut rng = Seed::new([1; 32]).rng(label, 0);
        let mut drawn = Vec::new();
        for count in draws {
            drawn.extend((0..count).map(|_| rng.next_u64().to_le_bytes()));
            rng.erase_past();
        }
        drawn
    }

    #[test]
    fn a_draw_outside_of_a_scope_fails() {
        assert_eq!(drawn(), None);
        let mut rng = SessionRng::new(Seed::new([1; 32]).rng("a", 0));
        assert!(rng.scope(drawn).is_some());
        assert_eq!(drawn(), None);
    }

    #[test]
    fn scopes_nest_and_go_on_where_they_were() {
        let seed = Seed::new([1; 32]);
        let mut outer = SessionRng::new(seed.rng("outer", 0));
        let mut inner = SessionRng::new(seed.rng("inner", 0));
        let mut seen = Vec::new();
        outer.scope(|| {
            seen.extend(drawn());
            assert_eq!(inner.scope(drawn), expected("inner", [1]).first().copied());
            seen.extend(drawn());
        });
        seen.extend(outer.scope(drawn));
        assert_eq!(seen, expected("outer", [2, 1]));
    }

    #[test]
    fn a_panic_leaves_no_generator_behind() {
        let mut rng = SessionRng::new(Seed::new([1; 32]).rng("a", 0));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            rng.scope(|| panic!("on purpose"))
        }));
        assert!(outcome.is_err());
        assert_eq!(drawn(), None);
        assert_eq!(rng.scope(drawn), expected("a", [0, 1]).first().copied());
    }
}
