//! What a node counts and measures.

mod latency;
mod measured;
mod open_metrics;
mod rate;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::error::{CloseCode, DisconnectReason};

pub use self::measured::Measured;

use self::latency::Latency;
use self::rate::Rate;

/// How many different close codes are counted apart, beside those of the protocol. A peer chooses its
/// code among 2^32; more of them than this are counted together.
const CODES_MAX: usize = 256;

macro_rules! metrics {
    (
        gauges { $($(#[doc = $gauge_doc:literal])+ $gauge:ident: $type:ty,)+ }
        counters { $($(#[doc = $doc:literal])+ $counter:ident,)+ }
    ) => {
        /// What a node has right now, counted by whoever holds it.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Gauges {
            $(pub(crate) $gauge: $type,)+
        }

        /// The live counters and measurements of a node. [`MetricsSnapshot`] says what each is.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            $(pub(crate) $counter: u64,)+
            pub(crate) latency: Latency,
            rate: Rate,
            closed_by_code: BTreeMap<CloseCode, u64>,
            closed_by_other_code: u64,
        }

        impl Metrics {
            pub(crate) fn new(now: Instant) -> Self {
                Self {
                    $($counter: 0,)+
                    latency: Latency::new(),
                    rate: Rate::new(now),
                    closed_by_code: BTreeMap::new(),
                    closed_by_other_code: 0,
                }
            }

            /// Everything as it is now. The rate is the node's own.
            pub(crate) fn snapshot(&self, now: Instant, gauges: Gauges) -> MetricsSnapshot {
                let mut snapshot = MetricsSnapshot {
                    $($gauge: gauges.$gauge,)+
                    ..self.counted()
                };
                snapshot.messages_per_second = self.rate.per_second(now);
                snapshot
            }

            /// What outlives the node: what it has counted, and nothing of what it has.
            pub(crate) fn counted(&self) -> MetricsSnapshot {
                let mut snapshot = MetricsSnapshot {
                    $($counter: self.$counter,)+
                    closed_by_code: self.closed_by_code.clone(),
                    closed_by_other_code: self.closed_by_other_code,
                    ..MetricsSnapshot::default()
                };
                snapshot.measure(&self.latency);
                snapshot
            }
        }

        impl MetricsSnapshot {
            /// Every counter and its name, which is that of its field: what an exporter wants, whatever
            /// counters there are in a later version. Gauges and latencies have functions of their own
            /// ([`gauges`](Self::gauges), [`latency_buckets`](Self::latency_buckets)), and close codes
            /// fields.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                self.described_counters().map(|(name, _, value)| (name, value))
            }

            /// Every gauge and its name, which is that of its field.
            pub fn gauges(&self) -> impl Iterator<Item = (&'static str, f64)> {
                self.described_gauges().map(|(name, _, value)| (name, value))
            }

            /// The same as [`counters`](Self::counters), with what each counts, in words, between name and
            /// value.
            pub fn described_counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($counter), concat!($($doc),+).trim_ascii(), self.$counter),)+].into_iter()
            }

            /// The same as [`gauges`](Self::gauges), with what each is, in words, between name and value.
            pub fn described_gauges(&self) -> impl Iterator<Item = (&'static str, &'static str, f64)> {
                [$((stringify!($gauge), concat!($($gauge_doc),+).trim_ascii(), self.$gauge as f64),)+].into_iter()
            }
        }

        impl MetricsSnapshot {
            /// Adds up what can be added. Latencies are measured anew, from all histograms together.
            fn add(&mut self, more: &Self) {
                $(self.$gauge += more.$gauge;)+
                $(self.$counter += more.$counter;)+
                for (code, count) in &more.closed_by_code {
                    *self.closed_by_code.entry(*code).or_default() += count;
                }
                self.closed_by_other_code += more.closed_by_other_code;
            }
        }

        /// What a node counted and measured at one moment. Counters start at zero with the node
        /// and only grow; none carries a label for each client. A server with shards adds up those
        /// of all of them (a bare one with [`Measured::sum`]), and its latencies are those of all of them together; a shard that has ended counts
        /// with what it had counted, and gauges are of those that run.
        ///
        /// For an exporter, [`open_metrics`](Self::open_metrics) is all of it as a text;
        /// [`counters`](Self::counters), [`gauges`](Self::gauges) and
        /// [`latency_buckets`](Self::latency_buckets) name what there is.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[doc = $gauge_doc])+ pub $gauge: $type,)+
            /// Promises of this node whose latency was measured, since it began, as for all of the
            /// latencies: from making one to its ack or reply.
            pub latency_count: u64,
            /// The sum of all latencies, exactly. With `latency_count` and
            /// [`latency_buckets`](Self::latency_buckets) it can be added up over several processes, which
            /// the mean and the quantiles cannot.
            pub latency_sum: Duration,
            /// Mean latency; zero if none was measured.
            pub latency_mean: Duration,
            /// Latency that half of the promises did not exceed, within 1 % (2 % below 2 µs).
            pub latency_p50: Duration,
            /// Latency that 99 % of the promises did not exceed, within 1 %.
            pub latency_p99: Duration,
            /// Latency that 99.9 % of the promises did not exceed, within 1 %.
            pub latency_p999: Duration,
            /// Longest latency.
            pub latency_max: Duration,
            /// How many latencies did not exceed each bound.
            within_bounds: [u64; Latency::BOUNDS.len()],
            $($(#[doc = $doc])+ pub $counter: u64,)+
            /// Links that were closed with a code, by code, whichever side closed them.
            pub closed_by_code: BTreeMap<CloseCode, u64>,
            /// Links that were closed with yet other codes than the protocol's, when 256 different
            /// ones had been seen.
            pub closed_by_other_code: u64,
        }
    };
}

metrics! {
    gauges {
        /// Nodes that run: the shards of a server that have not ended, or 1.
        shards_running: usize,
        /// Nodes that were started: all shards of a server, or 1. With fewer that run, clients of the others come
        /// anew to those that are left.
        shards_started: usize,
        /// Sessions that exist, with or without a link.
        sessions: usize,
        /// Sessions that have a link: connected clients, on a server.
        connected: usize,
        /// Promises that are pending.
        promises: usize,
        /// Deliveries that the application owes an answer for. Where it only grows, some are never answered, and their
        /// lanes will not be read any more.
        deliveries: usize,
        /// Bytes in all outboxes, answers aside.
        outbox_bytes: usize,
        /// Bytes of answers that peers are not known to hold.
        answer_bytes: usize,
        /// Messages, requests, replies and best-effort messages a second, both ways, over the
        /// last 9 to 10 seconds (or since the start of the node, if that is less).
        messages_per_second: f64,
    }
    counters {
        /// One-way reliable messages that were taken for sending.
        messages_sent,
        /// One-way reliable messages that were handed to the application.
        messages_received,
        /// Requests that were taken for sending.
        requests_sent,
        /// Requests that were handed to the application.
        requests_received,
        /// Replies that the application gave.
        replies_sent,
        /// Replies that settled a promise.
        replies_received,
        /// Acks that the application gave.
        acks_sent,
        /// Acks that settled a promise.
        acks_received,
        /// Rejections that the application gave.
        rejects_sent,
        /// Rejections that settled a promise.
        rejects_received,
        /// Broadcasts, to all or to all but one; what became of them is counted as best-effort messages.
        broadcasts,
        /// Best-effort messages that were queued, one for each session of a broadcast.
        best_effort_sent,
        /// Best-effort messages that were handed to the application.
        best_effort_received,
        /// Best-effort messages that were dropped: by the policy for slow consumers, or with their link.
        best_effort_dropped,
        /// Best-effort messages that were not queued, for their session had no link.
        best_effort_away,
        /// Messages that arrived a second time and were dropped.
        duplicates_dropped,
        /// Acks, replies and rejections for promises that had settled otherwise.
        late_answers,
        /// Acks, replies and rejections that answered nothing: their promise was never made, was answered
        /// before, or waits for another kind of answer.
        unasked_answers,
        /// Promises that settled as `TimedOut`.
        promises_timed_out,
        /// Promises that settled as `Cancelled`.
        promises_cancelled,
        /// Promises that settled as `Lost`.
        promises_lost,
        /// Promises that settled as `Evicted`.
        promises_evicted,
        /// Messages without a promise that were given back as undelivered.
        undelivered,
        /// Sessions that were opened.
        sessions_opened,
        /// Links that carried on an earlier link's session.
        sessions_resumed,
        /// Clients that asked this server for a session that it does not have, and were given another.
        sessions_unknown,
        /// Sessions that were lost: unknown to the server, or not resumed within the retention time.
        sessions_lost,
        /// Sessions that ended because a newer one of their client has their place
        /// (`SessionsFull::EndOldest`).
        sessions_replaced,
        /// Sessions that were closed.
        sessions_closed,
        /// Links that began: connections that were accepted or dialled, admitted or not.
        links_opened,
        /// Links that ended and are forgotten.
        links_closed,
        /// Connections that ended because one side speaks no `trunkline/1`, most of them in the handshake.
        protocol_mismatches,
        /// Connections that ended because a certificate was missing or not accepted, whichever side's.
        certificates_refused,
        /// Connections that ended by any other fault in QUIC or TLS.
        transport_faults,
        /// Connections to this server whose client had not said who it is in time.
        handshakes_timed_out,
        /// Links that ended by a stateless reset: the peer knows nothing of them any more, as after a restart.
        links_reset,
        /// Links whose peer was silent for `heartbeat.misses` intervals.
        heartbeat_timeouts,
        /// Attempts of clients to come back.
        redials,
        /// Clients that admission refused, whose certificate does not stand for their id, or about whom was not
        /// decided in time.
        admissions_refused,
        /// Clients that had said who they are and were not let in, for whatever reason. Each is an event, `Refused`,
        /// but for those of `refusals_untold`.
        clients_refused,
        /// Clients that were refused without an event, for too many such events waited.
        refusals_untold,
        /// Attempts to send that found an outbox full. A node gives the message back to the caller; the servers and clients
        /// of an adapter keep it and try again when there is room, and each try counts.
        outbox_full,
        /// Attempts to send that found a promise table full; tried again as with an outbox, and each try counts.
        promises_full,
        /// Calls whose time was earlier than that of a call before.
        clock_ran_back,
        /// UDP datagrams that were handled.
        datagrams_in,
        /// UDP datagrams that were given out to send.
        datagrams_out,
        /// UDP datagrams that the system refused to send, of those that were given out; QUIC finds them lost.
        datagrams_unsent,
        /// Times that receiving from the socket failed.
        receives_failed,
        /// Answers outside of connections (Retry, refusal, stateless reset) that were not sent, for too many waited.
        responses_dropped,
        /// Bytes of the UDP datagrams that were handled, without UDP and IP headers.
        bytes_in,
        /// Bytes of the UDP datagrams that were given out to send, without UDP and IP headers.
        bytes_out,
        /// UDP datagrams that came to another shard's socket than they name and were handed over to that
        /// shard. Only a server with shards counts them.
        datagrams_forwarded,
        /// UDP datagrams that were to be handed over so and were lost, for too many waited, or too
        /// many bytes.
        forwarded_dropped,
        /// Connection attempts that were dropped without an answer, for there were too many.
        incoming_ignored,
        /// Connection attempts that were asked to validate their address (QUIC Retry).
        incoming_retried,
        /// Connection attempts that were refused.
        incoming_refused,
        /// Requests that were not handed to the application, for their cancel overtook them.
        cancelled_early,
        /// Links that were looked at because they had work.
        links_visited,
        /// Times that the reading of a link was put off by a millisecond, for its peer had sent much that came to nothing.
        reads_throttled,
        /// Frames that were read, on all streams.
        frames_in,
        /// Frames that were written, on all streams.
        frames_out,
    }
}

impl MetricsSnapshot {
    /// How many latencies did not exceed 100 µs, 250 µs, 500 µs, 1 ms and so on up to 10 s, 30 s (what a
    /// promise waits for, unless told otherwise) and 60 s: each bound, ascending, with the count of all
    /// latencies up to it. The bounds are always the same, so that counts of several processes can be added
    /// bound by bound; how many there are in all says `latency_count`.
    ///
    /// None that did not exceed a bound is missing from its count. Some may be in it that did by less than
    /// 1.6 %: that is how finely latencies are measured.
    pub fn latency_buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        Latency::BOUNDS.into_iter().zip(self.within_bounds)
    }

    /// Takes over what was measured of latencies.
    fn measure(&mut self, latency: &Latency) {
        self.latency_count = latency.count();
        self.latency_sum = latency.sum();
        self.latency_mean = latency.mean();
        self.latency_p50 = latency.quantile(0.5);
        self.latency_p99 = latency.quantile(0.99);
        self.latency_p999 = latency.quantile(0.999);
        self.latency_max = latency.max();
        self.within_bounds = latency.within_bounds();
    }
}

impl Metrics {
    /// Counts messages of any kind, sent or received, for [`MetricsSnapshot::messages_per_second`].
    pub(crate) fn traffic(&mut self, now: Instant, messages: u64) {
        self.rate.add(now, messages);
    }

    /// Counts how a connection ended, if not this side closed it: that has a code of its own.
    pub(crate) fn ended(&mut self, reason: &DisconnectReason) {
        match reason {
            DisconnectReason::Peer { code, .. } => self.closed(*code),
            DisconnectReason::NoCommonProtocol => self.protocol_mismatches += 1,
            DisconnectReason::Certificate(_) | DisconnectReason::CertificateExpired(_) => {
                self.certificates_refused += 1;
            }
            DisconnectReason::Transport(_) => self.transport_faults += 1,
            DisconnectReason::Local { .. }
            | DisconnectReason::HeartbeatTimeout
            | DisconnectReason::ConnectTimeout => {}
            DisconnectReason::Reset => self.links_reset += 1,
        }
    }

    /// Counts a link that was closed with that code.
    pub(crate) fn closed(&mut self, code: CloseCode) {
        if let Some(count) = self.closed_by_code.get_mut(&code) {
            *count += 1;
        } else if self.closed_by_code.len() < CODES_MAX || CloseCode::ALL.contains(&code) {
            self.closed_by_code.insert(code, 1);
        } else {
            self.closed_by_other_code += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_snapshot_holds_what_was_counted() {
        let start = Instant::now();
        let mut metrics = Metrics::new(start);
        metrics.messages_sent += 3;
        metrics.frames_out += 4;
        metrics.traffic(start, 20);
        metrics.latency.record(micros(1_000));
        metrics.closed(CloseCode(3));
        metrics.closed(CloseCode(3));
        let gauges = Gauges {
            shards_running: 1,
            shards_started: 2,
            sessions: 5,
            connected: 4,
            promises: 3,
            deliveries: 6,
            outbox_bytes: 2,
            answer_bytes: 4,
            ..Gauges::default()
        };
        let snapshot = metrics.snapshot(start + Duration::from_secs(2), gauges);
        assert_eq!(
            (
                snapshot.messages_sent,
                snapshot.frames_out,
                snapshot.frames_in
            ),
            (3, 4, 0)
        );
        assert_eq!((snapshot.sessions, snapshot.connected), (5, 4));
        assert_eq!((snapshot.promises, snapshot.outbox_bytes), (3, 2));
        assert_eq!(snapshot.deliveries, 6);
        assert_eq!(snapshot.answer_bytes, 4);
        assert_eq!(snapshot.messages_per_second, 10.0);
        let counters: BTreeMap<_, _> = snapshot.counters().collect();
        assert_eq!((counters["messages_sent"], counters["frames_out"]), (3, 4));
        let gauges = [
            ("shards_running", 1.0),
            ("shards_started", 2.0),
            ("sessions", 5.0),
            ("connected", 4.0),
            ("promises", 3.0),
            ("deliveries", 6.0),
            ("outbox_bytes", 2.0),
            ("answer_bytes", 4.0),
            ("messages_per_second", 10.0),
        ];
        assert_eq!(snapshot.gauges().collect::<Vec<_>>(), gauges);
        assert_eq!(
            (snapshot.latency_count, snapshot.latency_max),
            (1, micros(1_000))
        );
        assert_eq!(
            (snapshot.latency_mean, snapshot.latency_p99),
            (micros(1_000), micros(1_000))
        );
        assert_eq!(snapshot.latency_sum, micros(1_000));
        for (bound, count) in snapshot.latency_buckets() {
            assert_eq!(count, u64::from(bound >= micros(1_000)), "{bound:?}");
        }
        assert_eq!(snapshot.closed_by_code, BTreeMap::from([(CloseCode(3), 2)]));
    }

    #[test]
    fn how_a_connection_ended_is_counted_once() {
        let mut metrics = Metrics::new(Instant::now());
        metrics.ended(&DisconnectReason::NoCommonProtocol);
        metrics.ended(&DisconnectReason::Certificate(String::new()));
        metrics.ended(&DisconnectReason::Transport(String::new()));
        metrics.ended(&DisconnectReason::Reset);
        assert_eq!(metrics.links_reset, 1);
        let [code, reason] = [CloseCode::FLOODED, CloseCode::INTERNAL];
        metrics.ended(&DisconnectReason::Peer {
            code,
            reason: String::new(),
            retry_after: None,
        });
        metrics.ended(&DisconnectReason::Local {
            code: reason,
            reason: String::new(),
        });
        assert_eq!(
            (
                metrics.protocol_mismatches,
                metrics.certificates_refused,
                metrics.transport_faults
            ),
            (1, 1, 1)
        );
        assert_eq!(metrics.closed_by_code, BTreeMap::from([(code, 1)]));
    }

    #[test]
    fn a_peer_that_makes_up_close_codes_takes_no_memory() {
        let mut metrics = Metrics::new(Instant::now());
        for code in 1_000..10_000 {
            metrics.closed(CloseCode(code));
        }
        assert_eq!(metrics.closed_by_code.len(), CODES_MAX);
        assert_eq!(metrics.closed_by_other_code, 9_000 - CODES_MAX as u64);
        metrics.closed(CloseCode(1_000));
        assert_eq!(metrics.closed_by_code[&CloseCode(1_000)], 2);
        // Nor does it hide what is counted by the protocol's own codes.
        metrics.closed(CloseCode::SEQUENCE_GAP);
        assert_eq!(metrics.closed_by_code[&CloseCode::SEQUENCE_GAP], 1);
    }
}
