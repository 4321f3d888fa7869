//! PROTOCOL.md says the same as the code and the vectors.

// Helpers of tests count as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use trunkline_proto::{
    ACK_NUMBERS_MAX, ACKED_MAX, ALPN, ALTERNATIVE_MAX, BODY_MAX, CREDENTIALS_MAX, CloseCode,
    ENVELOPE_OVERHEAD_MAX, FRAME_MAX, FRAME_MIN, NAME_MAX, REASON_MAX, StatusCode, tag,
};

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The text from one heading of the second level to the next.
fn section(number: usize) -> String {
    let page = read("PROTOCOL.md");
    let (_, rest) = page.split_once(&format!("\n## {number}. ")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

/// The cells of the numbered rows of a section's table.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|cells| cells.len() > 2 && cells[1].parse::<u32>().is_ok())
        .collect()
}

#[test]
fn the_table_of_close_codes_is_the_code() {
    let yes_or_no = |yes| if yes { "yes" } else { "no" }.to_owned();
    let found: Vec<[String; 4]> = rows(&section(15))
        .into_iter()
        .map(|row| {
            [
                row[1].clone(),
                row[2].clone(),
                row[4].clone(),
                row[5].clone(),
            ]
        })
        .collect();
    let expected: Vec<[String; 4]> = CloseCode::ALL
        .iter()
        .map(|code| {
            let number = code.0.to_string();
            [
                number,
                code.name().to_owned(),
                yes_or_no(code.redials()),
                yes_or_no(code.resumes()),
            ]
        })
        .collect();
    assert_eq!(found, expected);
    assert!(CloseCode(999).redials() && CloseCode(999).resumes());
    assert!(!CloseCode(1000).redials() && !CloseCode(1000).resumes());
}

#[test]
fn the_table_of_status_codes_is_the_code() {
    let found: Vec<(String, String)> = rows(&section(16))
        .into_iter()
        .map(|row| (row[1].clone(), row[2].clone()))
        .collect();
    let expected: Vec<(String, String)> = StatusCode::ALL
        .iter()
        .map(|code| (code.0.to_string(), code.name().to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_limits_are_the_constants() {
    let with_commas = |number: usize| {
        let digits = number.to_string().into_bytes();
        let groups: Vec<&str> = digits
            .rchunks(3)
            .rev()
            .map(|group| str::from_utf8(group).unwrap())
            .collect();
        groups.join(",")
    };
    let limits = section(17);
    for (name, number) in [
        ("frame on the control stream", FRAME_MIN),
        ("frame in a lane", FRAME_MAX),
        ("`client_id`", NAME_MAX),
        ("`credentials` and `agent` together", CREDENTIALS_MAX),
        ("`alternative`", ALTERNATIVE_MAX),
        ("`reason`", REASON_MAX),
        ("`acks`", ACK_NUMBERS_MAX),
        ("`acks`", ACKED_MAX as usize),
    ] {
        let row = limits
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")))
            .unwrap();
        assert!(
            row.contains(&with_commas(number)),
            "{number} is not in: {row}"
        );
    }
    let frames = section(4).replace('\n', " ");
    let says = format!(
        "at most {ENVELOPE_OVERHEAD_MAX} bytes to a body, so that a body of {}",
        with_commas(BODY_MAX)
    );
    assert!(frames.contains(&says), "section 4 does not say: {says}");
    assert!(section(2).contains(&format!("`{}`", str::from_utf8(ALPN).unwrap())));
    assert!(section(9).contains(&format!("{:016x}", tag("chat.v1.Said"))));
}

/// The bytes of each vector of frames, by name.
fn vectors() -> BTreeMap<String, String> {
    let file: serde_json::Value = serde_json::from_str(&read("vectors.json")).unwrap();
    let vectors = file["frames"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    vectors
        .map(|vector| (text(&vector["name"]), text(&vector["bytes"])))
        .collect()
}

#[test]
fn the_examples_are_made_of_vectors() {
    let vectors = vectors();
    let section = section(20);
    let mut named = BTreeSet::new();
    let mut shown: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in section.lines() {
        if let Some((_, name)) = line.rsplit_once('[')
            && line.ends_with(']')
            && !name.contains(' ')
        {
            named.insert(name.trim_end_matches(']').to_owned());
        }
        let digits = line.replace(' ', "");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            goes_on = false;
        } else if goes_on && let Some(last) = shown.last_mut() {
            last.push_str(&digits);
        } else {
            shown.push(digits);
            goes_on = true;
        }
    }
    assert!(named.len() >= 10 && shown.len() >= 9, "{named:?} {shown:?}");
    for name in named {
        assert!(vectors.contains_key(&name), "there is no vector {name}");
    }
    for bytes in shown {
        assert!(
            vectors.values().any(|vector| *vector == bytes),
            "{bytes} is no vector"
        );
    }
}

#[test]
fn the_links_inside_the_page_lead_somewhere() {
    let page = read("PROTOCOL.md");
    let anchors: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("##"))
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            heading.replace(' ', "-").replace(['.', ',', ':'], "")
        })
        .collect();
    let links: Vec<&str> = page
        .split("](#")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .collect();
    assert!(links.len() > 20);
    for link in links {
        assert!(anchors.contains(link), "there is no heading for #{link}");
    }
}
