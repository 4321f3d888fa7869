//! Names of hosts, looked up by threads of their own: the system's look-up blocks, for half a minute where no name server
//! answers, and neither a runtime nor the application's blocking work is to wait for that.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Mutex;
use std::thread;

use crate::driver::runtime::Task;
use crate::driver::slot::{Filler, slot};
use crate::driver::watch::lock;

/// So many names are looked up at a time, for all clients of the process.
const THREADS: usize = 32;

type Found = io::Result<Vec<SocketAddr>>;

/// The addresses of `host:port`. Who asks for a name that is being looked up already is told what is found then: however
/// many clients dial a name whose servers do not answer, it takes one thread. Cancel-safe.
pub fn look_up(host: &str) -> Task<Found> {
    let host = host.to_owned();
    Box::pin(async move {
        let (filler, found) = slot();
        if lock(&NAMES).ask(host, filler) {
            start();
        }
        found.await.map_err(io::Error::other)?
    })
}

static NAMES: Mutex<Names> = Mutex::new(Names::new());

/// Which names are being looked up, and for whom.
struct Names {
    asking: BTreeMap<String, Vec<Filler<Found>>>,
    /// Those that no thread has begun with.
    waiting: VecDeque<String>,
    threads: usize,
}

impl Names {
    const fn new() -> Self {
        Self {
            asking: BTreeMap::new(),
            waiting: VecDeque::new(),
            threads: 0,
        }
    }

    /// Somebody wants to know a name's addresses. Says whether another thread is to be started for that.
    fn ask(&mut self, host: String, filler: Filler<Found>) -> bool {
        if let Some(others) = self.asking.get_mut(&host) {
            others.push(filler);
            return false;
        }
        self.waiting.push_back(host.clone());
        self.asking.insert(host, vec![filler]);
        let room = self.threads < THREADS;
        self.threads += usize::from(room);
        room
    }

    /// What a thread does next; without anything, it ends. What nobody waits for any more goes to `unawaited`, to be dropped
    /// without the lock.
    fn next(&mut self, unawaited: &mut Vec<Filler<Found>>) -> Option<String> {
        while let Some(host) = self.waiting.pop_front() {
            let asking = self.asking.get(&host);
            if asking.is_some_and(|fillers| fillers.iter().any(Filler::is_awaited)) {
                return Some(host);
            }
            unawaited.extend(self.answered(&host));
        }
        self.threads -= 1;
        None
    }

    /// Who is to be told of a name.
    fn answered(&mut self, host: &str) -> Vec<Filler<Found>> {
        self.asking.remove(host).unwrap_or_default()
    }
}

/// Starts a thread that looks up all that waits.
fn start() {
    let thread = thread::Builder::new().name("trunkline-lookup".into());
    let Err(error) = thread.spawn(work) else {
        return;
    };
    // It has no thread: the others go on with what waits, if there are any.
    let mut names = lock(&NAMES);
    names.threads -= 1;
    if names.threads == 0 {
        let waiting = std::mem::take(&mut names.waiting);
        let told: Vec<_> = waiting.iter().map(|host| names.answered(host)).collect();
        drop(names);
        let found = Err(error);
        told.into_iter().for_each(|fillers| tell(fillers, &found));
    }
}

fn work() {
    loop {
        let mut unawaited = Vec::new();
        let next = lock(&NAMES).next(&mut unawaited);
        drop(unawaited);
        let Some(host) = next else {
            return;
        };
        let found = host.to_socket_addrs().map(Iterator::collect);
        let fillers = lock(&NAMES).answered(&host);
        tell(fillers, &found);
    }
}

fn tell(fillers: Vec<Filler<Found>>, found: &Found) {
    for filler in fillers {
        filler.fill(match found {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake};

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_asks_for_the_same_name_is_told_together_and_takes_one_thread() {
        let mut names = Names::new();
        let (filler, first) = slot();
        assert!(names.ask("a:1".into(), filler));
        assert_eq!(names.next(&mut Vec::new()).as_deref(), Some("a:1"));
        let (filler, second) = slot();
        assert!(!names.ask("a:1".into(), filler));
        let found = Ok(vec![SocketAddr::from(([1, 1, 1, 1], 1))]);
        tell(names.answered("a:1"), &found);
        for heard in [first, second] {
            assert_eq!(heard.now_or_never().unwrap().unwrap().unwrap().len(), 1);
        }
        assert_eq!(names.next(&mut Vec::new()), None);
        assert_eq!((names.threads, names.asking.len()), (0, 0));
    }

    #[test]
    fn names_that_wait_for_a_thread_have_their_turn() {
        let mut names = Names::new();
        let mut asked: Vec<_> = (0..=THREADS)
            .map(|number| {
                let (filler, filled) = slot();
                (names.ask(format!("{number}:1"), filler), filled)
            })
            .collect();
        assert_eq!(asked.iter().filter(|(start, _)| *start).count(), THREADS);
        // One has gone meanwhile.
        let mut unawaited = Vec::new();
        drop(asked.swap_remove(7));
        for number in (0..=THREADS).filter(|number| *number != 7) {
            assert_eq!(names.next(&mut unawaited), Some(format!("{number}:1")));
        }
        assert_eq!(names.next(&mut unawaited), None);
        assert_eq!(unawaited.len(), 1);
        assert!(!names.asking.contains_key("7:1"));
    }

    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait(mut task: Task<Found>) -> Found {
        let waker = Arc::new(Unpark(thread::current())).into();
        let mut cx = Context::from_waker(&waker);
        loop {
            match task.as_mut().poll(&mut cx) {
                Poll::Ready(found) => return found,
                Poll::Pending => thread::park(),
            }
        }
    }

    #[test]
    fn what_is_no_name_is_an_error_and_an_address_needs_no_server() {
        assert!(wait(look_up("nobody")).is_err());
        let found = wait(look_up("127.0.0.1:7")).unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 7))]);
    }
}
