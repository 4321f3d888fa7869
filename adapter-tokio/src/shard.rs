//! A runtime on a thread of its own, for one shard of a server.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use trunkline_core::driver::Task;

/// Held by whoever needs the thread; it ends with the last of them.
pub(crate) type Hold = mpsc::Sender<Infallible>;

/// Where a shard's tasks run: a thread that lasts as long as somebody holds it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    hold: mpsc::WeakSender<Infallible>,
}

impl Shard {
    /// Starts the thread. It ends with `parent` too, if that goes earlier.
    pub(crate) fn start(number: usize, parent: &Handle) -> io::Result<(Self, Handle, Hold)> {
        let (hold, holds) = mpsc::channel(1);
        let (told, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        thread::Builder::new()
            .name(format!("trunkline-{number}"))
            .spawn(move || {
                // Dropped with the thread's other possessions, in whatever way it ends.
                let _over: oneshot::Sender<Infallible> = over;
                match Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => {
                        // Whoever starts the thread waits for this.
                        let _ = told.send(Ok(runtime.handle().clone()));
                        runtime.block_on(either(holds, stopped));
                    }
                    Err(error) => drop(told.send(Err(error))),
                }
            })?;
        let handle = started.recv().map_err(io::Error::other)??;
        parent.spawn(async move {
            // When the parent runtime goes, this task is dropped, and the thread hears of it.
            let _stop: oneshot::Sender<Infallible> = stop;
            let _ = ended.await;
        });
        let shard = Self {
            hold: hold.downgrade(),
        };
        Ok((shard, handle, hold))
    }

    /// Runs a task there, which holds the thread; none, if the thread has ended.
    pub(crate) fn spawn(&self, handle: &Handle, task: Task) {
        if let Some(hold) = self.hold.upgrade() {
            handle.spawn(async move {
                task.await;
                drop(hold);
            });
        }
    }
}

/// Waits until nobody holds the thread, or it is told to stop.
async fn either(mut holds: mpsc::Receiver<Infallible>, stopped: oneshot::Receiver<Infallible>) {
    let (mut unheld, mut stopped) = (pin!(holds.recv()), pin!(stopped));
    poll_fn(|cx| {
        if unheld.as_mut().poll(cx).is_ready() || stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
