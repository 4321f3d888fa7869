//! The user's wish to stop.

/// Waits until the user or the system asks the program to end: Ctrl-C, and SIGTERM on Unix.
/// Cancel-safe.
pub(crate) async fn stop_requested() {
    #[cfg(unix)]
    if let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        tokio::select! {
            () = interrupt() => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    interrupt().await;
}

/// Waits for Ctrl-C. Where it cannot be caught, it ends the program by itself.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
