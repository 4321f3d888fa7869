//! When a certificate is valid: the one field of it that webpki checks but does not show.

use std::time::SystemTime;

use rustls_pki_types::CertificateDer;

use super::der::{GENERALIZED_TIME, INTEGER, SEQUENCE, UTC_TIME, VERSION, element};

/// From when to when a certificate is valid, in seconds since 1970, both ends included
/// (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    not_before: i64,
    not_after: i64,
}

/// Where a time lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Too early.
    NotYetValid,
    /// In between.
    Valid,
    /// Too late.
    Expired,
}

impl Validity {
    /// Reads a certificate's validity. `None` if the certificate cannot be read up to there.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (outer, behind) = element(certificate, SEQUENCE)?;
        if !behind.is_empty() {
            return None;
        }
        let (mut rest, _) = element(outer, SEQUENCE)?;
        if let Some((_version, after)) = element(rest, VERSION) {
            rest = after;
        }
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            // Serial number, signature algorithm, issuer.
            (_, rest) = element(rest, tag)?;
        }
        let (validity, _) = element(rest, SEQUENCE)?;
        let (not_before, rest) = time(validity)?;
        let (not_after, _) = time(rest)?;
        Some(Self {
            not_before,
            not_after,
        })
    }

    /// Where `now` lies.
    pub(super) fn at(self, now: SystemTime) -> Standing {
        let now = match now.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(_) => -1,
        };
        if now > self.not_after {
            Standing::Expired
        } else if now < self.not_before {
            Standing::NotYetValid
        } else {
            Standing::Valid
        }
    }
}

/// Whether it is too late for a certificate, or it does not say until when it is valid. That it is trusted has been
/// decided in the handshake.
pub(crate) fn certificate_has_expired(certificate: &CertificateDer<'_>, now: SystemTime) -> bool {
    Validity::of(certificate).is_none_or(|validity| validity.at(now) == Standing::Expired)
}

/// The first element, if it is a time, in seconds since 1970, and what follows it.
fn time(input: &[u8]) -> Option<(i64, &[u8])> {
    let (year, digits, rest) = if let Some((text, rest)) = element(input, UTC_TIME) {
        let (year, digits) = number(text, 2)?;
        (
            if year < 50 { 2000 + year } else { 1900 + year },
            digits,
            rest,
        )
    } else {
        let (text, rest) = element(input, GENERALIZED_TIME)?;
        let (year, digits) = number(text, 4)?;
        (year, digits, rest)
    };
    let (month, digits) = number(digits, 2)?;
    let (day, digits) = number(digits, 2)?;
    let (hour, digits) = number(digits, 2)?;
    let (minute, digits) = number(digits, 2)?;
    let (second, zone) = number(digits, 2)?;
    let sane = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && zone == b"Z";
    sane.then(|| {
        (
            ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second,
            rest,
        )
    })
}

/// A decimal number of so many digits, and what follows it.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (text, rest) = text.split_at_checked(digits)?;
    let digit = |sum: i64, byte: &u8| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    };
    Some((text.iter().try_fold(0, digit)?, rest))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Counted from 1 March of the year 0, so that a leap day is the last of its year.
    let year = if month < 3 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lab::{Authority, DAY, now};
    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<i64> {
        let mut der = vec![tag, text.len() as u8];
        der.extend(text.as_bytes());
        time(&der).map(|(seconds, _)| seconds)
    }

    #[test]
    fn times_are_read_as_rfc_5280_says() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "000229235959Z"), Some(951_868_799));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(
            seconds(GENERALIZED_TIME, "20261124003000Z"),
            Some(1_795_480_200)
        );
        assert_eq!(
            seconds(GENERALIZED_TIME, "99991231235959Z"),
            Some(253_402_300_799)
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "700101000000",
            "7001010000Z",
            "701301000000Z",
            "70010100000xZ",
            "700101240000Z",
            "700101000000+0100",
        ] {
            assert_eq!(seconds(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(seconds(INTEGER, "700101000000Z"), None);
    }

    #[test]
    fn a_certificate_is_valid_from_its_first_to_its_last_second() {
        let chain = Authority::new("ca")
            .issue_for(&["a"], now()..now() + DAY)
            .chain;
        let validity = Validity::of(&chain[0]).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(validity.at(now() - second), Standing::NotYetValid);
        assert_eq!(validity.at(now()), Standing::Valid);
        assert_eq!(validity.at(now() + DAY), Standing::Valid);
        assert_eq!(validity.at(now() + DAY + second), Standing::Expired);
    }

    #[test]
    fn a_certificate_has_expired_behind_its_last_second() {
        let authority = Authority::new("ca");
        let chain = authority.issue_for(&["a"], now()..now() + DAY).chain;
        let second = Duration::from_secs(1);
        for (at, expired) in [
            (now() - second, false),
            (now() + DAY, false),
            (now() + DAY + second, true),
        ] {
            assert_eq!(certificate_has_expired(&chain[0], at), expired);
        }
        let unreadable = CertificateDer::from(&chain[0][..100]);
        assert!(certificate_has_expired(&unreadable, now()));
    }

    #[test]
    fn a_certificate_that_is_cut_off_or_changed_never_panics() {
        let chain = Authority::new("ca").issue(&["a"]).chain;
        for end in 0..chain[0].len() {
            let _ = Validity::of(&CertificateDer::from(&chain[0][..end]));
            for byte in [0, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut changed = chain[0].to_vec();
                changed[end] = byte;
                let _ = Validity::of(&CertificateDer::from(changed));
            }
        }
        assert_eq!(Validity::of(&CertificateDer::from(&chain[0][..100])), None);
    }
}
