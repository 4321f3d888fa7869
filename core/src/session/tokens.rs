//! A session's name and the secrets that resume it.

use subtle::ConstantTimeEq;
use trunkline_proto as wire;
use zeroize::Zeroize;

use crate::id::SessionId;
use crate::planted::{Bug, planted};

/// 128 secret bits.
#[derive(Clone)]
pub(crate) struct Token([u8; wire::TOKEN_LEN]);

impl Token {
    pub(crate) fn new(bytes: [u8; wire::TOKEN_LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; wire::TOKEN_LEN] {
        &self.0
    }

    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The name, the present token, and the one before it while the client may not know the present one.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) id: SessionId,
    pub(crate) epoch: u64,
    /// Server: the attempt that resumed the session last; 0 if none has.
    attempt: u64,
    current: Token,
    previous: Option<Token>,
}

impl Tokens {
    pub(crate) fn new(id: SessionId, epoch: u64, token: Token) -> Self {
        Self {
            id,
            epoch,
            attempt: 0,
            current: token,
            previous: None,
        }
    }

    pub(crate) fn current(&self) -> &Token {
        &self.current
    }

    /// Whether the token resumes this session. Compares in constant time.
    pub(crate) fn admits(&self, token: &Token) -> bool {
        self.current.is(token)
            | self
                .previous
                .as_ref()
                .is_some_and(|previous| previous.is(token))
    }

    /// Whether the client made this attempt after the one that resumed the session last.
    pub(crate) fn follows(&self, attempt: u64) -> bool {
        attempt > self.attempt
    }

    /// The session goes on under a new epoch. The token that the client has just shown stays good
    /// until it is [`confirmed`](Self::confirmed), for the Welcome may be lost.
    pub(crate) fn rotate(&mut self, shown: Token, new: Token, attempt: u64) {
        self.epoch += 1;
        self.attempt = attempt;
        self.previous = Some(shown).filter(|_| !planted(Bug::ForgetPreviousToken));
        self.current = new;
    }

    /// The client has spoken under `epoch`.
    pub(crate) fn confirmed(&mut self, epoch: u64) {
        if epoch == self.epoch {
            self.previous = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_token_stays_good_until_the_client_confirms() {
        let [first, second, third] = [1, 2, 3].map(|n| Token::new([n; 16]));
        let mut tokens = Tokens::new(SessionId([9; 16]), 1, first.clone());
        tokens.rotate(first.clone(), second.clone(), 1);
        assert!(tokens.admits(&first) && tokens.admits(&second) && !tokens.admits(&third));
        // The Welcome was lost: the client shows the first token again.
        assert!(!tokens.follows(0) && !tokens.follows(1) && tokens.follows(2));
        tokens.rotate(first.clone(), third.clone(), 4);
        assert!(!tokens.follows(3) && !tokens.follows(4) && tokens.follows(5));
        assert!(tokens.admits(&first) && !tokens.admits(&second) && tokens.admits(&third));
        tokens.confirmed(2);
        assert!(tokens.admits(&first), "an old epoch confirms nothing");
        tokens.confirmed(3);
        assert!(!tokens.admits(&first) && tokens.admits(&third));
    }
}
