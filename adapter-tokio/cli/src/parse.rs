//! Durations, shares, rates, sizes and addresses as people write them. What cannot be read is
//! answered with what is wrong and an example; the flag's name is added by the command line.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::IntErrorKind;
use std::time::Duration;

use crate::impair::{Blackout, Rate, Share};

/// Decimal digits kept behind the point.
const DIGITS: usize = 9;
const ONE: u128 = 1_000_000_000;

/// `50ms`, `1.5s`, `2m`, `1h`; also `us`, `ns`, and a plain `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", ONE),
        ("m", 60 * ONE),
        ("h", 3_600 * ONE),
    ];
    let nanos = quantity(text, &units, "a duration such as 50ms, 1.5s or 2m")?;
    u64::try_from(nanos)
        .map(Duration::from_nanos)
        .map_err(|_| "longer than 584 years is not possible".to_owned())
}

/// A duration that is not zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|given| {
        if given.is_zero() {
            Err("it must be longer than zero, such as 10s".to_owned())
        } else {
            Ok(given)
        }
    })
}

/// `1`, `2`, and so on.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(count @ 1..) => Ok(count),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            Err(format!("the most is {}", u64::MAX))
        }
        _ => Err("give a number, 1 or more".to_owned()),
    }
}

/// A command for a shell. One of blanks alone would do nothing.
pub(crate) fn shell_command(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err(
            "give a command, such as 'trunkline trace show {} | grep -q reject'".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// `2%`, `0.1%`: 0 % to 100 %. The sign is required, for `0.02` may mean either.
pub(crate) fn share(text: &str) -> Result<Share, String> {
    let billionths = quantity(text, &[("%", ONE / 100)], "a percentage such as 2% or 0.1%")?;
    if billionths > ONE {
        return Err(
            "more than 100% is not possible: give a percentage such as 2% or 0.1%".to_owned(),
        );
    }
    Ok(Share::new(billionths as f64 / ONE as f64))
}

/// `10mbit`, `1.5gbit`, `64kbit`: bits a second, in powers of a thousand.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let example = "a rate such as 10mbit, 512kbit or 1gbit (bits a second)";
    let units = [
        ("bit", 1),
        ("kbit", 1_000),
        ("mbit", 1_000_000),
        ("gbit", ONE),
    ];
    let given = text.strip_suffix("/s").unwrap_or(text);
    let bits = u64::try_from(quantity(given, &units, example)?)
        .ok()
        .filter(|&bits| bits <= 1_000_000_000_000);
    let bits = bits.ok_or_else(|| format!("more than 1000gbit is not possible: give {example}"))?;
    Rate::new(bits).ok_or_else(|| format!("a rate of zero lets nothing through: give {example}"))
}

/// `64kb`, `1mb`, `64kib`, `1500b`: kb and mb are powers of 1,000, kib and mib of 1,024.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let example = "a size such as 64kb, 1mb or 1500b";
    let units = [
        ("b", 1),
        ("kb", 1_000),
        ("kib", 1 << 10),
        ("mb", 1_000_000),
        ("mib", 1 << 20),
    ];
    let bytes = quantity(text, &units, example)?;
    usize::try_from(bytes)
        .ok()
        .filter(|&bytes| (1..=1 << 30).contains(&bytes))
        .ok_or_else(|| format!("from 1b to 1024mib is possible: give {example}"))
}

/// `5s@20s`: a cut of 5 s every 20 s.
pub(crate) fn blackout(text: &str) -> Result<Blackout, String> {
    let example = "length@period such as 5s@20s, a cut of 5 s every 20 s";
    let (length, period) = text
        .split_once('@')
        .ok_or_else(|| format!("there is no '@': give {example}"))?;
    let (length, period) = (positive_duration(length)?, positive_duration(period)?);
    Blackout::new(length, period)
        .ok_or_else(|| format!("the cut must be shorter than its period: give {example}"))
}

/// `127.0.0.1:4433`, `[::1]:4433`, `localhost:4433`. Of a name's addresses an IPv4 one is
/// preferred, as servers in development commonly listen there.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let example = "an address and a port such as 127.0.0.1:4433, [::1]:4433 or localhost:4433";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !has_port {
        return Err(format!("give {example}"));
    }
    let found: Vec<SocketAddr> = match text.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return Err(format!("the name is not known ({error}): give {example}")),
    };
    let preferred = found
        .iter()
        .find(|address| address.is_ipv4())
        .or(found.first());
    preferred
        .copied()
        .ok_or_else(|| format!("the name has no address: give {example}"))
}

/// `localhost:4433`, `10.0.0.7:4433`, `[::1]:4433`: not looked up yet, for names move.
pub(crate) fn host_and_port(text: &str) -> Result<String, String> {
    let example = "a host and a port such as localhost:4433, 10.0.0.7:4433 or [::1]:4433";
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("the port is missing: give {example}"))?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) {
        return Err(format!("this is no host: give {example}"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(format!("a port is from 1 to 65535: give {example}")),
    }
}

/// `100/s`, `0.5/s`, `600/m`, `10`: how much time there is from one to the next.
pub(crate) fn pace(text: &str) -> Result<Duration, String> {
    let example = "how many a second, such as 100/s, or 30/m";
    let (number, period) = match text.trim().split_once('/') {
        None => (text.trim(), ONE),
        Some((number, "s")) => (number, ONE),
        Some((number, "m")) => (number, 60 * ONE),
        Some((number, "h")) => (number, 3_600 * ONE),
        Some((_, unit)) => {
            return Err(format!(
                "the unit '/{unit}' is not known, /s, /m or /h is: give {example}"
            ));
        }
    };
    let times = decimal(number).ok_or_else(|| format!("this is no number: give {example}"))?;
    // Both are in billionths.
    let nanos = (period * ONE).checked_div(times).unwrap_or(0);
    u64::try_from(nanos)
        .ok()
        .filter(|nanos| (1_000..=86_400_000_000_000).contains(nanos))
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("from one a day to a million a second is possible: give {example}"))
}

/// The mean length of a burst, in packets: `3`, `1.5`.
pub(crate) fn burst(text: &str) -> Result<f64, String> {
    let example = "a mean length in packets such as 3";
    let length = decimal(text).ok_or_else(|| format!("this is no number: give {example}"))? as f64
        / ONE as f64;
    if (1.0..=1_000_000.0).contains(&length) {
        Ok(length)
    } else {
        Err(format!("from 1 to 1000000 is possible: give {example}"))
    }
}

/// A number and a unit, in the smallest unit, rounded down.
fn quantity(text: &str, units: &[(&str, u128)], example: &str) -> Result<u128, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim().to_ascii_lowercase());
    let value = decimal(number)
        .ok_or_else(|| format!("it does not start with a number: give {example}"))?;
    if unit.is_empty() && value == 0 {
        return Ok(0);
    }
    if unit.is_empty() {
        return Err(format!("the unit is missing: give {example}"));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let known = OneOf(units);
        return Err(format!(
            "the unit '{unit}' is not known, {known} is: give {example}"
        ));
    };
    value
        .checked_mul(*factor)
        .map(|value| value / ONE)
        .ok_or_else(|| format!("the number is too large: give {example}"))
}

/// A decimal number in billionths, without rounding.
fn decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole)
        || !plain(fraction)
        || whole.len() + fraction.len() == 0
        || whole.len() > 15
        || fraction.len() > DIGITS
    {
        return None;
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<u128>().ok()?
    };
    let fraction = format!("{fraction:0<DIGITS$}").parse::<u128>().ok()?;
    Some(whole * ONE + fraction)
}

struct OneOf<'a>(&'a [(&'a str, u128)]);

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, _)) in self.0.iter().enumerate() {
            match index {
                0 => {}
                _ if index + 1 == self.0.len() => f.write_str(" or ")?,
                _ => f.write_str(", ")?,
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, nanos) in [
            ("50ms", 50_000_000),
            ("0.1ms", 100_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("250 us", 250_000),
            ("7ns", 7),
            ("0", 0),
            ("1S", 1_000_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_duration_is_said_with_an_example() {
        for (text, wrong) in [
            ("50", "unit is missing"),
            ("50 parsecs", "'parsecs' is not known"),
            ("-5ms", "does not start with a number"),
            ("", "does not start with a number"),
            ("1.2.3s", "does not start with a number"),
            (".s", "does not start with a number"),
        ] {
            let said = duration(text).expect_err(text);
            assert!(
                said.contains(wrong) && said.contains("50ms"),
                "{text}: {said}"
            );
        }
        assert!(duration("999999999999999h").is_err());
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn a_count_is_at_least_one_and_has_an_end() {
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        for few in ["0", "-1", "", "many"] {
            assert!(count(few).expect_err(few).contains("1 or more"), "{few}");
        }
        let said = count("18446744073709551616").expect_err("too many");
        assert_eq!(said, "the most is 18446744073709551615");
    }

    #[test]
    fn percentages_need_their_sign_and_end_at_a_hundred() {
        assert_eq!(share("2%").map(Share::as_fraction), Ok(0.02));
        assert_eq!(share("0.1%").map(Share::as_fraction), Ok(0.001));
        assert_eq!(share("100%").map(Share::as_fraction), Ok(1.0));
        assert!(
            share("0.02")
                .expect_err("no sign")
                .contains("unit is missing")
        );
        assert!(share("101%").expect_err("too much").contains("100%"));
    }

    #[test]
    fn rates_are_in_bits() {
        assert_eq!(rate("10mbit").ok(), Rate::new(10_000_000));
        assert_eq!(rate("1.5Mbit/s").ok(), Rate::new(1_500_000));
        assert_eq!(rate("64kbit").ok(), Rate::new(64_000));
        assert!(rate("0mbit").expect_err("zero").contains("nothing through"));
        assert!(
            rate("10mbps")
                .expect_err("bits or bytes?")
                .contains("10mbit")
        );
        assert!(rate("9000gbit").is_err());
    }

    #[test]
    fn sizes_are_in_bytes() {
        assert_eq!(size("64kb"), Ok(64_000));
        assert_eq!(size("64kib"), Ok(65_536));
        assert_eq!(size("1500b"), Ok(1_500));
        assert!(size("0").is_err());
        assert!(
            size("10gb")
                .expect_err("unit")
                .contains("b, kb, kib, mb or mib")
        );
    }

    #[test]
    fn a_blackout_is_shorter_than_its_period() {
        assert_eq!(
            blackout("5s@20s").ok(),
            Blackout::new(Duration::from_secs(5), Duration::from_secs(20))
        );
        assert!(blackout("5s").expect_err("no period").contains('@'));
        assert!(blackout("20s@5s").expect_err("too long").contains("5s@20s"));
        assert!(blackout("0s@5s").is_err());
    }

    #[test]
    fn addresses_need_a_port() {
        assert_eq!(
            address("127.0.0.1:9"),
            Ok(SocketAddr::from(([127, 0, 0, 1], 9)))
        );
        assert_eq!(address("[::1]:9").map(|address| address.port()), Ok(9));
        for bad in [
            "127.0.0.1",
            "4433",
            ":4433",
            "localhost:port",
            "localhost:99999",
        ] {
            assert!(
                address(bad).expect_err(bad).contains("127.0.0.1:4433"),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for good in ["localhost:4433", "10.0.0.7:1", "[::1]:65535", "a.test:9"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        for (bad, wrong) in [
            ("localhost", "port is missing"),
            (":4433", "no host"),
            ("::1:4433", "no host"),
            ("localhost:0", "from 1 to 65535"),
            ("localhost:99999", "from 1 to 65535"),
            ("localhost:http", "from 1 to 65535"),
        ] {
            let said = host_and_port(bad).expect_err(bad);
            assert!(
                said.contains(wrong) && said.contains("localhost:4433"),
                "{bad}: {said}"
            );
        }
    }

    #[test]
    fn a_pace_is_the_time_between_two() {
        for (text, millis) in [
            ("100/s", 10),
            ("10", 100),
            ("0.5/s", 2_000),
            ("600/m", 100),
            ("1/h", 3_600_000),
        ] {
            assert_eq!(pace(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["0", "0/s", "-1", "fast", "10/day", "2000000/s"] {
            assert!(pace(bad).expect_err(bad).contains("100/s"), "{bad}");
        }
    }

    #[test]
    fn bursts_have_at_least_one_packet() {
        assert_eq!(burst("3"), Ok(3.0));
        assert_eq!(burst("1.5"), Ok(1.5));
        assert!(burst("0.5").is_err());
        assert!(burst("three").is_err());
    }
}
