//! A snapshot as a text that Prometheus and others read.

use std::fmt;

use super::MetricsSnapshot;

/// Units by which a name may end. The format wants to be told of them.
const UNITS: [&str; 2] = ["bytes", "seconds"];

impl MetricsSnapshot {
    /// Everything that adds up and every gauge as a text in the OpenMetrics format, version 1.0, which
    /// Prometheus reads: the answer to a scrape. Its content type is
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    ///
    /// A gauge is called as its field is, as in `trunkline_sessions`, and so is a counter,
    /// `trunkline_messages_sent_total`; bytes of datagrams are
    /// `trunkline_datagrams_in_bytes_total` and `trunkline_datagrams_out_bytes_total`, links by close code
    /// `trunkline_closed_by_code_total`, with labels `code` and `name`. Latencies are the histogram
    /// `trunkline_latency_seconds` of [`latency_buckets`](Self::latency_buckets); quantiles over many
    /// processes come of it. They are of what this side has sent and waited for: a server that only answers has
    /// none.
    ///
    /// It is a whole exposition and ends with `# EOF`, so metrics of yours stand before it. Each name may
    /// stand in an exposition once: for several servers or clients in one,
    /// [`described_counters`](Self::described_counters), [`described_gauges`](Self::described_gauges) and
    /// [`latency_buckets`](Self::latency_buckets) are what to write samples with labels from.
    ///
    /// ```
    /// # let snapshot = trunkline_core::MetricsSnapshot::default();
    /// let text = snapshot.open_metrics().to_string();
    /// assert!(text.contains("trunkline_messages_sent_total 0\n"));
    /// assert!(text.contains("trunkline_latency_seconds_bucket{le=\"0.0001\"} 0\n"));
    /// ```
    pub fn open_metrics(&self) -> impl fmt::Display {
        fmt::from_fn(|f| self.write_open_metrics(f))
    }

    fn write_open_metrics(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, help, value) in self.described_gauges() {
            begin_family(f, name, "gauge", help)?;
            writeln!(f, "trunkline_{name} {value:?}")?;
        }
        let by_other_code = (
            "closed_by_other_code",
            "Links that were closed with yet other codes.",
            self.closed_by_other_code,
        );
        for (field, help, value) in self.described_counters().chain([by_other_code]) {
            let name = match field {
                // The unit ends the name.
                "bytes_in" => "datagrams_in_bytes",
                "bytes_out" => "datagrams_out_bytes",
                name => name,
            };
            begin_family(f, name, "counter", help)?;
            writeln!(f, "trunkline_{name}_total {value}")?;
        }
        let (name, help) = ("closed_by_code", "Links that were closed with a code.");
        begin_family(f, name, "counter", help)?;
        for (code, count) in &self.closed_by_code {
            let (number, code) = (code.0, code.name());
            let labels = format_args!("code=\"{number}\",name=\"{code}\"");
            writeln!(f, "trunkline_{name}_total{{{labels}}} {count}")?;
        }
        let name = "latency_seconds";
        let help =
            "How long the acked messages and requests of this side waited for their ack or reply.";
        begin_family(f, name, "histogram", help)?;
        for (bound, count) in self.latency_buckets() {
            let bound = bound.as_secs_f64();
            writeln!(f, "trunkline_{name}_bucket{{le=\"{bound:?}\"}} {count}")?;
        }
        let (count, sum) = (self.latency_count, self.latency_sum);
        writeln!(f, "trunkline_{name}_bucket{{le=\"+Inf\"}} {count}")?;
        writeln!(f, "trunkline_{name}_count {count}")?;
        let (seconds, nanos) = (sum.as_secs(), sum.subsec_nanos());
        writeln!(f, "trunkline_{name}_sum {seconds}.{nanos:09}")?;
        f.write_str("# EOF\n")
    }
}

/// What stands before a family's samples. Texts come from the docs of fields, which need no escapes.
fn begin_family(f: &mut fmt::Formatter<'_>, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(f, "# TYPE trunkline_{name} {kind}")?;
    if let Some((_, unit)) = name.rsplit_once('_')
        && UNITS.contains(&unit)
    {
        writeln!(f, "# UNIT trunkline_{name} {unit}")?;
    }
    writeln!(f, "# HELP trunkline_{name} {help}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use super::super::{Gauges, Metrics};
    use super::*;
    use crate::error::CloseCode;

    /// A family of samples, as a reader finds it.
    #[derive(Debug, Default)]
    struct Family {
        kind: String,
        unit: Option<String>,
        help: String,
        /// What follows on the family's name, labels included, and the value.
        samples: Vec<(String, f64)>,
    }

    impl Family {
        fn alone(&self) -> f64 {
            assert_eq!(self.samples.len(), 1, "{self:?}");
            self.samples[0].1
        }
    }

    /// Reads a text as the specification says, and refuses what it forbids.
    fn parsed(text: &str) -> BTreeMap<String, Family> {
        let body = text.strip_suffix("# EOF\n").unwrap();
        assert!(body.ends_with('\n') && !body.contains('\r'));
        let mut families = BTreeMap::<String, Family>::new();
        let mut current = String::new();
        for line in body.lines() {
            if let Some(meta) = line.strip_prefix("# ") {
                let (what, meta) = meta.split_once(' ').unwrap();
                let (name, value) = meta.split_once(' ').unwrap();
                if what == "TYPE" {
                    current = name.to_owned();
                    let kind = value.to_owned();
                    let family = Family {
                        kind,
                        ..Family::default()
                    };
                    let before = families.insert(current.clone(), family);
                    assert!(before.is_none(), "{name} comes twice");
                    continue;
                }
                assert_eq!(name, current, "{line}");
                let family = families.get_mut(name).unwrap();
                assert!(family.samples.is_empty(), "{line} comes late");
                match what {
                    "UNIT" => {
                        assert!(family.help.is_empty() && family.unit.is_none(), "{line}");
                        assert!(name.ends_with(&format!("_{value}")), "{line}");
                        family.unit = Some(value.to_owned());
                    }
                    "HELP" => {
                        assert!(family.help.is_empty(), "{line} comes twice");
                        assert!(value.ends_with('.') && value.trim() == value, "{line}");
                        assert!(!value.contains(['"', '\\']), "{line} needs escapes");
                        assert!(!value.contains("]("), "{line} has a link of rustdoc");
                        family.help = value.to_owned();
                    }
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
            let family = families.get_mut(&current).unwrap();
            let suffix = sample.strip_prefix(&current).unwrap();
            let fits = match family.kind.as_str() {
                "gauge" => suffix.is_empty(),
                "counter" => suffix == "_total" || suffix.starts_with("_total{"),
                "histogram" => {
                    matches!(suffix, "_count" | "_sum") || suffix.starts_with("_bucket{le=")
                }
                kind => panic!("{kind}"),
            };
            assert!(fits, "{line}");
            // Counts are integers.
            if family.kind != "gauge" && suffix != "_sum" {
                value.parse::<u64>().unwrap();
            }
            let value = value.parse().unwrap();
            family.samples.push((suffix.to_owned(), value));
        }
        families
    }

    fn gauges() -> Gauges {
        Gauges {
            sessions: 7,
            connected: 6,
            outbox_bytes: 1 << 20,
            ..Gauges::default()
        }
    }

    #[test]
    fn a_text_has_every_metric_once_with_its_type_and_unit() {
        let start = Instant::now();
        let mut metrics = Metrics::new(start);
        metrics.messages_sent = 3;
        metrics.bytes_in = 1_000;
        metrics.bytes_out = u64::MAX;
        metrics.traffic(start, 5);
        for (code, times) in [(CloseCode::SEQUENCE_GAP, 2), (CloseCode(1_000), 1)] {
            (0..times).for_each(|_| metrics.closed(code));
        }
        metrics.closed_by_other_code = 9;
        let snapshot = metrics.snapshot(start, gauges());
        let families = parsed(&snapshot.open_metrics().to_string());

        for (name, value) in snapshot.gauges() {
            let family = &families[&format!("trunkline_{name}")];
            assert_eq!((&*family.kind, family.alone()), ("gauge", value), "{name}");
        }
        for (name, value) in snapshot.counters() {
            let name = match name {
                "bytes_in" => "datagrams_in_bytes",
                "bytes_out" => "datagrams_out_bytes",
                name => name,
            };
            let family = &families[&format!("trunkline_{name}")];
            assert_eq!(
                (&*family.kind, family.alone()),
                ("counter", value as f64),
                "{name}"
            );
        }
        let others = ["closed_by_code", "closed_by_other_code", "latency_seconds"];
        let expected = snapshot.gauges().count() + snapshot.counters().count() + others.len();
        assert_eq!(families.len(), expected);
        assert_eq!(families["trunkline_closed_by_other_code"].alone(), 9.0);
        let by_code = [
            ("_total{code=\"8\",name=\"SEQUENCE_GAP\"}".to_owned(), 2.0),
            ("_total{code=\"1000\",name=\"APPLICATION\"}".to_owned(), 1.0),
        ];
        assert_eq!(families["trunkline_closed_by_code"].samples, by_code);

        for (name, family) in &families {
            assert!(!family.help.is_empty(), "{name} says nothing of itself");
            let unit = UNITS.iter().find(|unit| name.ends_with(*unit));
            assert_eq!(family.unit.as_deref(), unit.copied(), "{name}");
            // A sample's name must tell its family.
            for suffix in ["_total", "_created", "_bucket", "_count", "_sum", "_info"] {
                assert!(!families.contains_key(&format!("{name}{suffix}")), "{name}");
            }
        }
        assert_eq!(
            families["trunkline_messages_sent"].help,
            "One-way reliable messages that were taken for sending."
        );
    }

    #[test]
    fn latencies_are_a_histogram_whose_last_bucket_holds_all() {
        let mut metrics = Metrics::new(Instant::now());
        for micros in [90, 100, 400, 70_000, 31_000_000, 4_000_000_000] {
            metrics.latency.record(Duration::from_micros(micros));
        }
        let snapshot = metrics.snapshot(Instant::now(), gauges());
        let mut families = parsed(&snapshot.open_metrics().to_string());
        let latency = families.remove("trunkline_latency_seconds").unwrap();
        assert_eq!(latency.kind, "histogram");
        let mut samples = latency.samples.into_iter();
        let mut last = (0.0, 0.0);
        let mut bounds = Vec::new();
        for (label, count) in samples.by_ref() {
            let bound = label.strip_prefix("_bucket{le=\"").unwrap();
            let bound = bound.strip_suffix("\"}").unwrap();
            bounds.push(bound.to_owned());
            let bound = bound.trim_start_matches('+').parse::<f64>().unwrap();
            assert!(bound > last.0 && count >= last.1, "{label}");
            last = (bound, count);
            if bound.is_infinite() {
                break;
            }
        }
        // As other exposers write them: a label is compared as a text.
        let expected = "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1.0 2.5 \
                        5.0 10.0 30.0 60.0 +Inf";
        assert_eq!(bounds.join(" "), expected);
        assert_eq!(last, (f64::INFINITY, 6.0));
        assert_eq!(samples.next().unwrap(), ("_count".to_owned(), 6.0));
        assert_eq!(samples.next().unwrap(), ("_sum".to_owned(), 4_031.070_59));
        assert_eq!(samples.next(), None);
    }

    #[test]
    fn what_was_counted_is_never_less_in_a_later_text() {
        let start = Instant::now();
        let mut metrics = Metrics::new(start);
        let mut before = parsed(&metrics.snapshot(start, gauges()).open_metrics().to_string());
        for number in 1..=20 {
            metrics.messages_received += number;
            metrics.frames_in += 1;
            metrics.closed(CloseCode(number as u32));
            let took = Duration::from_micros(number.pow(6));
            metrics.latency.record(took);
            let snapshot = metrics.snapshot(start, gauges());
            let after = parsed(&snapshot.open_metrics().to_string());
            for (name, family) in before.iter().filter(|(_, f)| f.kind != "gauge") {
                let later: BTreeMap<_, _> = after[name].samples.iter().cloned().collect();
                for (sample, value) in &family.samples {
                    assert!(later[sample] >= *value, "{name}{sample}");
                }
            }
            assert_eq!(
                after["trunkline_frames_in"].alone(),
                before["trunkline_frames_in"].alone() + 1.0
            );
            before = after;
        }
    }
}
