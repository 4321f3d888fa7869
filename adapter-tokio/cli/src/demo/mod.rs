//! The main job, shown at work: a server and its clients over real sockets, and a path between
//! them that can be cut.
//!
//! Whether it worked is judged by numbers that the messages carry: senders and receivers keep
//! books of them ([`ledger`]), and [`report`] compares the books. What the library says of itself
//! counts for nothing there.

mod cast;
mod cut;
mod ledger;
mod lifecycle;
mod measured;
mod messages;
mod plan;
mod report;
mod steps;
mod story;
mod traffic;

pub(crate) use plan::{MESSAGES_MAX, Plan};
pub(crate) use report::Report;
pub(crate) use story::{Sink, Story, Teller};

use std::time::Duration;

use tokio::time::Instant;

use self::steps::Stage;
use crate::failure::Failure;

/// What all the waiting of a demonstration may add up to, its cut apart. Every single wait has a
/// bound of its own; this one holds if the machine is far too slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plays the whole demonstration, and judges it.
pub(crate) async fn play(plan: &Plan, story: &Story) -> Result<Report, Failure> {
    let start = Instant::now();
    let limit = plan.cut + PATIENCE;
    let played = tokio::time::timeout(limit, async {
        let mut stage = Stage::set(plan, story).await?;
        stage.requests().await;
        stage.messages().await;
        stage.broadcasts().await;
        stage.cut().await?;
        stage.leave().await
    });
    let ended = played.await.map_err(|_| {
        Failure::failed(format!(
            "the demo did not end within {limit:?}: is this machine very busy, or the path very bad?"
        ))
    })??;
    Ok(Report::new(ended, start.elapsed()))
}
