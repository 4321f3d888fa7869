//! Nothing is sent for a while: the server has said that it goes away, and what it gets now it rejects.

use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;

/// Whether something holds the sending up, and until when at most.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    until: Option<Instant>,
}

impl Hold {
    /// The server goes away. It, or another, may be there again; but perhaps there will be none.
    pub(crate) fn begin(&mut self, patience: Duration) {
        self.until.get_or_insert_with(|| Instant::now() + patience);
    }

    /// A server is there.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// Waits until it has lasted too long, and ends it; for ever, if there is none. Cancel-safe.
    pub(crate) async fn too_long(&mut self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => pending().await,
        }
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_by_itself_however_often_it_is_asked_for() {
        let start = Instant::now();
        let mut hold = Hold::default();
        for _ in 0..3 {
            hold.begin(Duration::from_secs(30));
            assert!(hold.is_on());
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        hold.too_long().await;
        assert_eq!(Instant::now() - start, Duration::from_secs(30));
        assert!(!hold.is_on());
    }
}
