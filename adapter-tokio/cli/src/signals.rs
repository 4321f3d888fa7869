//! The user's wish to stop.

/// The wishes of the user or the system that the program ends: Ctrl-C, and SIGTERM on Unix. Every one from the beginning
/// on, so that a second one is not missed.
#[derive(Debug)]
pub(crate) struct StopSignals {
    asked: u32,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
}

impl StopSignals {
    /// From now on they end the program no more by themselves; where one cannot be caught, it still
    /// does.
    pub(crate) fn listen() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Self {
                asked: 0,
                interrupt: signal(SignalKind::interrupt()).ok(),
                terminate: signal(SignalKind::terminate()).ok(),
            }
        }
        #[cfg(not(unix))]
        Self { asked: 0 }
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        self.received().await;
        self.asked += 1;
    }

    /// Whether there was one.
    pub(crate) fn asked(&self) -> bool {
        self.asked > 0
    }

    /// Whether there were two: the first asks for an orderly end, the second for one at once.
    pub(crate) fn at_once(&self) -> bool {
        self.asked > 1
    }

    #[cfg(unix)]
    async fn received(&mut self) {
        tokio::select! {
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.terminate) => {}
        }
    }

    #[cfg(not(unix))]
    async fn received(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
