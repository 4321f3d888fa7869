//! Admission that the application decides about.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use trunkline_core::driver::Admit;
use trunkline_core::{AdmissionRequest, Refusal};

use super::lab::Lab;
use super::{Certificate, MILLISECOND};

/// Counts itself as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who says hello and goes, again and again, does not have the function run for all those that have gone.
#[test]
fn nobody_decides_for_long_about_who_has_gone() {
    Lab::run(async |lab| {
        let certificate = Certificate::new();
        let (asked, running) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (asked.clone(), running.clone());
        let never = move |_: AdmissionRequest| {
            counts.0.fetch_add(1, Ordering::Relaxed);
            let counted = Counted::new(&counts.1);
            async move {
                let _counted = counted;
                pending::<Result<(), Refusal>>().await
            }
        };
        let server = certificate.server().admission(Admit::ask(never));
        let server = server.await.unwrap();
        let start = lab.now();
        for number in 0..200 {
            let client = certificate.client(server.local_addr(), &format!("client-{number}"));
            let client = client.start().await.unwrap();
            while asked.load(Ordering::Relaxed) == number {
                lab.pass(MILLISECOND).await;
            }
            drop(client);
            lab.pass(20 * MILLISECOND).await;
            assert!(running.load(Ordering::Relaxed) <= 80, "after {number}");
        }
        assert!(lab.now() - start < trunkline_core::Timeouts::default().admission);
    });
}
