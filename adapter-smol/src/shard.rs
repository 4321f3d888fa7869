//! An executor on a thread of its own, for one shard of a server.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use smol::Executor;
use smol::channel::{Sender, WeakSender, bounded};
use smol::future::or;
use trunkline_core::driver::Task;

/// Held by whoever needs the thread; it ends with the last of them.
pub(crate) type Hold = Sender<Infallible>;

/// Where a shard's tasks run: a thread that lasts as long as somebody holds it.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    executor: Weak<Executor<'static>>,
    hold: WeakSender<Infallible>,
}

impl Shard {
    /// Starts the thread. The task that comes with it is to run wherever the server was started:
    /// when it is dropped, the thread ends too.
    pub(crate) fn start(number: usize) -> io::Result<(Self, Hold, Task)> {
        let (hold, holds) = bounded(1);
        let (stop, stopped) = bounded::<Infallible>(1);
        let (over, ended) = bounded::<Infallible>(1);
        let executor = Arc::new(Executor::new());
        let shard = Self {
            executor: Arc::downgrade(&executor),
            hold: Sender::downgrade(&hold),
        };
        thread::Builder::new()
            .name(format!("trunkline-{number}"))
            .spawn(move || {
                let _over = over;
                // Either ends when all senders are gone: nothing is ever sent.
                let until = or(holds.recv(), stopped.recv());
                let _ = smol::block_on(executor.run(until));
            })?;
        let watch = Box::pin(async move {
            let _stop = stop;
            let _ = ended.recv().await;
        });
        Ok((shard, hold, watch))
    }

    /// Runs a task there, which holds the thread; none, if the thread has ended.
    pub(crate) fn spawn(&self, task: Task) {
        if let (Some(executor), Some(hold)) = (self.executor.upgrade(), self.hold.upgrade()) {
            let held = async move {
                task.await;
                drop(hold);
            };
            executor.spawn(held).detach();
        }
    }
}
