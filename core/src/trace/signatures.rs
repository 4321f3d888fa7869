//! Signatures without a key.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::format::Record;
use super::replay::Unlike;
use crate::quic::{SignatureTap, digest_of_signed};
use crate::tap::Signature;

/// The recorded signatures, in the order in which they are asked for.
#[derive(Debug, Default)]
pub(super) struct Signatures(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    recorded: VecDeque<Signature>,
    /// What was expected, if anything was, and what was asked for.
    unlike: Option<(Option<Signature>, &'static str)>,
}

impl Signatures {
    pub(super) fn add(&self, signature: Signature) {
        self.waiting().recorded.push_back(signature);
    }

    /// The first time that something else was asked for than what was recorded; if some may be missing,
    /// than what is there.
    pub(super) fn unlike(&self, some_missing: bool) -> Option<Unlike> {
        let (expected, asked) = self.waiting().unlike.take()?;
        let expected = match expected {
            Some(expected) => Record::Signature(expected).to_string(),
            None if some_missing => return None,
            None => "no use of the private key".into(),
        };
        Some((expected, asked.to_owned()))
    }

    fn next(
        &self,
        asked: &'static str,
        fits: impl FnOnce(&Signature) -> bool,
    ) -> Option<Signature> {
        let mut waiting = self.waiting();
        let next = waiting.recorded.pop_front();
        if next.as_ref().is_some_and(fits) {
            return next;
        }
        waiting.unlike.get_or_insert((next, asked));
        None
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureTap for Signatures {
    fn scheme(&self, _: Option<u16>) -> Option<u16> {
        let scheme = |signature: &Signature| matches!(signature, Signature::Scheme(_));
        match self.next("a choice of how to sign", scheme)? {
            Signature::Scheme(scheme) => scheme,
            Signature::Made { .. } => None,
        }
    }

    fn signature(&self, message: &[u8], _: &mut dyn FnMut() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let digest = digest_of_signed(message);
        let same = |signature: &Signature| matches!(signature, Signature::Made { message, .. } if *message == digest);
        match self.next("something else to be signed", same)? {
            Signature::Made { signature, .. } => signature,
            Signature::Scheme(_) => None,
        }
    }
}
