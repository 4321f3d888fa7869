//! Messages as `vectors.json` describes them.

use bytes::Bytes;
use serde_json::Value;
use trunkline_proto::{
    Cancel, Close, Control, Drain, Heartbeat, Hello, Kind, LaneOpen, Limits, Ready, Receipt,
    Receipts, Resume, Welcome, control::Frame, generated,
};

/// A control frame: an object with one member.
pub(crate) fn control(value: &Value) -> Control {
    let (member, fields) = value.as_object().unwrap().iter().next().unwrap();
    let frame = match member.as_str() {
        "hello" => Frame::Hello(hello(fields)),
        "welcome" => Frame::Welcome(welcome(fields)),
        "ready" => Frame::Ready(Ready {
            epoch: known(fields, "epoch").u64("epoch"),
        }),
        "heartbeat" => {
            let fields = known(fields, "number");
            Frame::Heartbeat(Heartbeat {
                number: fields.u64("number"),
            })
        }
        "receipts" => Frame::Receipts(Receipts {
            receipts: known(fields, "receipts").receipts("receipts"),
        }),
        "cancel" => Frame::Cancel(Cancel {
            promise: known(fields, "promise").u64("promise"),
        }),
        "drain" => {
            let fields = known(fields, "deadline_ms retry_after_ms alternative");
            Frame::Drain(Drain {
                deadline_ms: fields.u32("deadline_ms"),
                retry_after_ms: fields.u32("retry_after_ms"),
                alternative: fields.text("alternative"),
            })
        }
        "close" => {
            let fields = known(fields, "code reason retry_after_ms");
            Frame::Close(Close {
                code: fields.u32("code"),
                reason: fields.text("reason"),
                retry_after_ms: fields.u32("retry_after_ms"),
            })
        }
        member => panic!("what is {member}?"),
    };
    Control { frame: Some(frame) }
}

pub(crate) fn lane_open(value: &Value) -> LaneOpen {
    let fields = known(value, "lane next");
    LaneOpen {
        lane: fields.u32("lane"),
        next: fields.u64("next"),
    }
}

pub(crate) fn envelope(value: &Value) -> generated::Envelope {
    let fields = known(value, "kind tag promise timeout_ms status reason acks body");
    generated::Envelope {
        kind: fields.0["kind"]
            .as_str()
            .map_or(0, |kind| Kind::from_str_name(kind).unwrap().into()),
        tag: fields.0["tag"]
            .as_str()
            .map(|tag| u64::from_str_radix(tag, 16).unwrap()),
        promise: fields.u64("promise"),
        timeout_ms: fields.u32("timeout_ms"),
        status: fields.u32("status"),
        reason: fields.text("reason"),
        acks: fields.list("acks").iter().map(number).collect(),
        body: fields.bytes("body"),
    }
}

fn hello(value: &Value) -> Hello {
    let fields = known(
        value,
        "version client_id session_id token resume credentials limits agent",
    );
    Hello {
        version: fields.u32("version"),
        client_id: fields.text("client_id"),
        session_id: fields.bytes("session_id"),
        token: fields.bytes("token"),
        resume: value.get("resume").map(|value| {
            let fields = known(value, "session_id token epoch received attempt");
            Resume {
                session_id: fields.bytes("session_id"),
                token: fields.bytes("token"),
                epoch: fields.u64("epoch"),
                received: fields.receipts("received"),
                attempt: fields.u64("attempt"),
            }
        }),
        credentials: fields.bytes("credentials"),
        limits: fields.limits(),
        agent: fields.text("agent"),
    }
}

fn welcome(value: &Value) -> Welcome {
    let names = "version session_id token epoch resumed received limits heartbeat_ms retention_ms lost_code redial_id";
    let fields = known(value, names);
    Welcome {
        version: fields.u32("version"),
        session_id: fields.bytes("session_id"),
        token: fields.bytes("token"),
        epoch: fields.u64("epoch"),
        resumed: fields.bool("resumed"),
        received: fields.receipts("received"),
        limits: fields.limits(),
        heartbeat_ms: fields.u32("heartbeat_ms"),
        retention_ms: fields.u32("retention_ms"),
        lost_code: fields.u32("lost_code"),
        redial_id: fields.bytes("redial_id"),
    }
}

/// A message's fields; those that hold their default are absent.
struct Fields<'a>(&'a Value);

/// The fields, after a check that the message has no others: a misspelt one would be a default.
fn known<'a>(value: &'a Value, names: &str) -> Fields<'a> {
    for name in value.as_object().unwrap().keys() {
        assert!(
            names.split(' ').any(|known| known == name),
            "{name} is not a field of {names:?}"
        );
    }
    Fields(value)
}

impl Fields<'_> {
    fn u64(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, number)
    }

    fn u32(&self, name: &str) -> u32 {
        self.u64(name).try_into().unwrap()
    }

    fn bool(&self, name: &str) -> bool {
        self.0
            .get(name)
            .is_some_and(|value| value.as_bool().unwrap())
    }

    fn text(&self, name: &str) -> String {
        self.0
            .get(name)
            .map_or(String::new(), |value| value.as_str().unwrap().to_owned())
    }

    fn bytes(&self, name: &str) -> Bytes {
        self.0.get(name).map_or(Bytes::new(), hex)
    }

    fn list(&self, name: &str) -> &[Value] {
        self.0
            .get(name)
            .map_or(&[], |value| value.as_array().unwrap())
    }

    fn receipts(&self, name: &str) -> Vec<Receipt> {
        let receipt = |value| {
            let fields = known(value, "lane next");
            Receipt {
                lane: fields.u32("lane"),
                next: fields.u64("next"),
            }
        };
        self.list(name).iter().map(receipt).collect()
    }

    fn limits(&self) -> Option<Limits> {
        self.0.get("limits").map(|value| {
            let fields = known(value, "frame_bytes lanes");
            Limits {
                frame_bytes: fields.u32("frame_bytes"),
                lanes: fields.u32("lanes"),
            }
        })
    }
}

/// A number, or, where it may have 64 bits, its decimal text.
pub(crate) fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap()
}

/// Bytes from their hexadecimal text.
pub(crate) fn hex(value: &Value) -> Bytes {
    let text = value.as_str().unwrap();
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
