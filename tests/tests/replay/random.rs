//! Random runs with all faults: crashes, pauses, clocks that jump, peers that do not read. Each process
//! of each node is a trace, and replays identical.

use trunkline_testkit::swarm::{Plan, run_recorded};
use trunkline_testkit::{Certificates, Recording};

use crate::conversation::replayed;

#[test]
fn whatever_random_runs_do_above_quic_replays_identical() {
    replay_all(Recording::Link);
}

#[test]
fn whatever_random_runs_send_and_get_replays_identical() {
    replay_all(Recording::Wire);
}

fn replay_all(recording: Recording) {
    let certificates = Certificates::new().unwrap();
    let (mut traces, mut restarts, mut records) = (0, 0, 0);
    for seed in 900_000..900_010 {
        let mut plan = Plan::new(seed);
        // Plans never ask for it; what a node keeps of TLS sessions is seeded as all else.
        let resumes = seed % 2 == 0;
        plan.server.transport.tls_resumption = resumes;
        plan.client.transport.tls_resumption = resumes;
        let ran = run_recorded(&plan, &certificates, Some(recording));
        for (node, processes) in ran.recorded.unwrap().traces {
            for (process, trace) in processes.iter().enumerate() {
                let report = replayed(trace);
                assert!(
                    report.is_identical(),
                    "seed {seed}, node {node}, process {process}: {report}"
                );
                traces += 1;
                restarts += usize::from(process > 0);
                records += report.records;
            }
        }
    }
    println!("{traces} traces, {restarts} of a restarted process, {records} records");
    assert!(traces > 20 && restarts > 5 && records > 10_000);
}
