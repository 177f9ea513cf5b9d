//! Quantities as people write them: counts (`1m`), bytes (`64KiB`), durations (`5s`), rates
//! (`200k/s`), rates of a line (`100mbit`) and shares (`0.5%`). Parsing is exact integer arithmetic: `0.1m` is 100,000 and `0.0001k` is refused rather
//! than rounded. Every value prints in the shortest form that reads back as itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::text::{SyntaxError, serde_as_text};

/// A number of things: `1000000`, `1m`, `1.5m`, `200k`, `1e6`, `1,000,000`, `1_000_000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(pub u64);

/// A number of bytes: `2048`, `64KiB`, `10MiB`, `1GiB`, `64kB`, `10MB`. A bare `64k` is refused,
/// because half of its readers mean 1000 and the other half 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A span of time: `5s`, `1ms`, `1.5s`, `250us`, `2min`, `0`. A bare number other than 0 is refused,
/// because nothing says which unit its writer had in mind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// Events per second: `200k`, `200k/s`, `1500000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(pub u64);

/// Bits per second of a line: `100mbit`, `2.5gbit`, `64kbit`. The unit cannot be left out, because
/// half of the readers of a bare `100m` mean bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitRate(pub u64);

/// A share of a whole, in parts per million: `1%`, `0.01%`, `50ppm`, `0`. Never more than the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl BitRate {
    /// Whole bytes per second.
    pub fn bytes(self) -> u64 {
        self.0 / 8
    }
}

impl Ratio {
    /// Nothing of it.
    pub const NONE: Ratio = Ratio(0);

    /// All of it.
    pub const WHOLE: Ratio = Ratio(1_000_000);

    /// Parts per million, up to 1,000,000.
    pub fn ppm(self) -> u32 {
        self.0
    }
}

impl Span {
    /// No time; switches off the timers that allow it.
    pub const ZERO: Span = Span(Duration::ZERO);

    /// `n` seconds.
    pub const fn from_secs(n: u64) -> Self {
        Span(Duration::from_secs(n))
    }

    /// `n` milliseconds.
    pub const fn from_millis(n: u64) -> Self {
        Span(Duration::from_millis(n))
    }

    /// Nanoseconds. No span is longer than 584 years, because parsing refuses what does not fit.
    pub fn as_nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// True for no time.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

const COUNT_EXPECTED: &str = "a count such as 1000, 200k, 1m or 1.5g";
const BYTES_EXPECTED: &str = "bytes such as 2048, 64KiB, 10MiB or 64kB (1000 bytes each)";
const SPAN_EXPECTED: &str = "a duration with its unit such as 5s, 200ms, 50us or 2min";
const RATE_EXPECTED: &str = "a rate such as 200k or 200k/s (per second)";
const BIT_RATE_EXPECTED: &str = "bits per second such as 100mbit, 2.5gbit or 64kbit";
const RATIO_EXPECTED: &str = "a share from 0% to 100% such as 1%, 0.01% or 50ppm";

/// Suffixes with their factors, largest first; the order in which printing tries them.
const COUNT_SUFFIXES: [(&str, u64); 4] =
    [("g", 1_000_000_000), ("m", 1_000_000), ("k", 1_000), ("", 1)];
const BYTES_SUFFIXES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];
/// In nanoseconds.
const SPAN_SUFFIXES: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const BIT_RATE_SUFFIXES: [(&str, u64); 4] =
    [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];
/// In parts per million.
const RATIO_SUFFIXES: [(&str, u64); 2] = [("%", 10_000), ("ppm", 1)];
const RATIO_WHOLE: u64 = 1_000_000;

impl FromStr for Count {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (number, suffix) = split_suffix(text);
        factor(&COUNT_SUFFIXES, &suffix.to_ascii_lowercase())
            .and_then(|factor| scaled(number, factor))
            .map(Count)
            .ok_or_else(|| SyntaxError::new(COUNT_EXPECTED, text))
    }
}

impl FromStr for Bytes {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (number, suffix) = split_suffix(text);
        BYTES_SUFFIXES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(suffix))
            .and_then(|&(_, factor)| scaled(number, factor))
            .map(Bytes)
            .ok_or_else(|| SyntaxError::new(BYTES_EXPECTED, text))
    }
}

impl FromStr for Span {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (number, suffix) = split_suffix(text);
        let ns = match suffix {
            "" => scaled(number, 1).filter(|&n| n == 0),
            suffix => factor(&SPAN_SUFFIXES, suffix).and_then(|factor| scaled(number, factor)),
        };
        ns.map(|ns| Span(Duration::from_nanos(ns)))
            .ok_or_else(|| SyntaxError::new(SPAN_EXPECTED, text))
    }
}

impl FromStr for Rate {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let count = text.trim().strip_suffix("/s").unwrap_or(text);
        count
            .parse::<Count>()
            .map(|count| Rate(count.0))
            .map_err(|_| SyntaxError::new(RATE_EXPECTED, text))
    }
}

impl FromStr for BitRate {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (number, suffix) = split_suffix(text);
        let bits = match suffix {
            "" => scaled(number, 1).filter(|&n| n == 0),
            suffix => factor(&BIT_RATE_SUFFIXES, &suffix.to_ascii_lowercase())
                .and_then(|factor| scaled(number, factor)),
        };
        bits.map(BitRate).ok_or_else(|| SyntaxError::new(BIT_RATE_EXPECTED, text))
    }
}

impl FromStr for Ratio {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let (number, suffix) = split_suffix(text);
        let ppm = match suffix {
            "" => scaled(number, 1).filter(|&n| n == 0),
            suffix => factor(&RATIO_SUFFIXES, suffix).and_then(|factor| scaled(number, factor)),
        };
        ppm.filter(|&ppm| ppm <= RATIO_WHOLE)
            .map(|ppm| Ratio(ppm as u32))
            .ok_or_else(|| SyntaxError::new(RATIO_EXPECTED, text))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0, &COUNT_SUFFIXES)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [BYTES_SUFFIXES[0], BYTES_SUFFIXES[2], BYTES_SUFFIXES[4], BYTES_SUFFIXES[6]];
        print(f, self.0, &binary)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        // Seconds and below: 60s reads better than 1min in a protocol's configuration.
        print(f, self.as_nanos(), &SPAN_SUFFIXES[2..])
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Count(self.0))
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.0, &BIT_RATE_SUFFIXES)
    }
}

impl fmt::Display for Ratio {
    /// In percent, whatever it was written in.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        let fraction = format!(".{rest:04}");
        f.pad(&format!("{whole}{}%", fraction.trim_end_matches('0').trim_end_matches('.')))
    }
}

/// `12,345,678`: for figures in sentences and reports.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Cuts `1.5m` into `1.5` and `m`. The `e6` of `1e6` belongs to the number.
fn split_suffix(text: &str) -> (&str, &str) {
    let text = text.trim();
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '_');
    let mantissa = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let tail = &text[mantissa..];
    let exponent = match tail.strip_prefix(['e', 'E']) {
        Some(rest) => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
        None => 0,
    };
    let end = if exponent == 0 { mantissa } else { mantissa + 1 + exponent };
    (&text[..end], text[end..].trim_start())
}

fn factor(suffixes: &[(&str, u64)], suffix: &str) -> Option<u64> {
    suffixes.iter().find(|(name, _)| *name == suffix).map(|&(_, factor)| factor)
}

/// `number` times `factor`, or nothing when it is no number, not a whole result, or above `u64::MAX`.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<u32>().ok()?),
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole: String = whole.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    // 18 digits of fraction and exponents up to 19 keep every product below inside 128 bits.
    if whole.is_empty() || fraction.len() > 18 || whole.len() > 20 || exponent > 19 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let raised = digits.checked_mul(10u128.pow(exponent))?.checked_mul(u128::from(factor))?;
    let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    if !raised.is_multiple_of(divisor) {
        return None;
    }
    u64::try_from(raised / divisor).ok()
}

/// Prints `n` with the first suffix that divides it.
fn print(f: &mut fmt::Formatter<'_>, n: u64, suffixes: &[(&str, u64)]) -> fmt::Result {
    let exact = suffixes.iter().find(|&&(_, factor)| n != 0 && n.is_multiple_of(factor));
    match exact {
        Some((suffix, factor)) => f.pad(&format!("{}{suffix}", n / factor)),
        None => f.pad("0"),
    }
}

serde_as_text! {
    Count: COUNT_EXPECTED;
    Bytes: BYTES_EXPECTED;
    Span: SPAN_EXPECTED;
    Rate: RATE_EXPECTED;
    BitRate: BIT_RATE_EXPECTED;
    Ratio: RATIO_EXPECTED;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_people_write_them() {
        for (text, n) in [
            ("0", 0),
            ("1000", 1_000),
            ("1m", 1_000_000),
            ("1M", 1_000_000),
            ("1.5m", 1_500_000),
            ("200k", 200_000),
            ("0.1k", 100),
            ("1e6", 1_000_000),
            ("1e12", 1_000_000_000_000),
            ("1,000,000", 1_000_000),
            ("1_000", 1_000),
            (" 7 ", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Count(n)), "{text}");
        }
        for text in
            ["", "m", "-1", "1x", "1.5", "0.0001k", "1e99", "18446744073709551616", "1 2", "."]
        {
            assert!(text.parse::<Count>().is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn bytes_tell_binary_from_decimal_and_refuse_the_unclear() {
        for (text, n) in [
            ("2048", 2_048),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("64kB", 64_000),
            ("1.5KiB", 1_536),
            ("10MiB", 10 << 20),
            ("1GiB", 1 << 30),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(n)), "{text}");
        }
        let error = "64k".parse::<Bytes>().expect_err("64k is unclear");
        assert_eq!(
            error.to_string(),
            "expected bytes such as 2048, 64KiB, 10MiB or 64kB (1000 bytes each), found `64k`"
        );
    }

    #[test]
    fn durations_need_their_unit() {
        for (text, ns) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("1.5s", 1_500_000_000),
            ("50us", 50_000),
            ("7ns", 7),
            ("2min", 120_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_nanos(ns))), "{text}");
        }
        for text in ["5", "5m", "s", "-1s", "1e30s", "99999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn rates_may_say_per_second() {
        assert_eq!("200k".parse(), Ok(Rate(200_000)));
        assert_eq!("200k/s".parse(), Ok(Rate(200_000)));
        assert!("200k/m".parse::<Rate>().is_err());
    }

    #[test]
    fn lines_need_their_unit() {
        for (text, bits) in [
            ("100mbit", 100_000_000),
            ("2.5Gbit", 2_500_000_000),
            ("64kbit", 64_000),
            ("8bit", 8),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(BitRate(bits)), "{text}");
        }
        for text in ["100", "100m", "100mbyte", "mbit", "-1mbit", "0.5bit"] {
            assert!(text.parse::<BitRate>().is_err(), "{text} must be refused");
        }
        assert_eq!(BitRate(100_000_000).bytes(), 12_500_000);
    }

    #[test]
    fn shares_are_of_the_whole() {
        for (text, ppm, printed) in [
            ("1%", 10_000, "1%"),
            ("0.01%", 100, "0.01%"),
            ("0.0001%", 1, "0.0001%"),
            ("12.5%", 125_000, "12.5%"),
            ("50ppm", 50, "0.005%"),
            ("100%", 1_000_000, "100%"),
            ("0", 0, "0%"),
            ("0%", 0, "0%"),
        ] {
            assert_eq!(text.parse(), Ok(Ratio(ppm)), "{text}");
            assert_eq!(Ratio(ppm).to_string(), printed);
        }
        for text in ["1", "0.5", "100.0001%", "1000001ppm", "0.00001%", "-1%", "%", "1 in 100"] {
            assert!(text.parse::<Ratio>().is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn figures_are_grouped_by_thousands() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (64_512_000, "64,512,000")];
        for (n, text) in cases {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn toml_takes_strings_and_numbers() {
        #[derive(serde::Deserialize)]
        struct Row {
            connections: Count,
            window: Bytes,
            off: Span,
        }
        let row: Row = toml::from_str("connections = '1m'\nwindow = 4096\noff = 0").expect("reads");
        assert_eq!((row.connections, row.window), (Count(1_000_000), Bytes(4_096)));
        assert!(row.off.is_zero());
        let row = toml::from_str::<Row>("connections = -1\nwindow = 1\noff = 0");
        assert!(row.is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back(n: u64) {
            proptest::prop_assert_eq!(Count(n).to_string().parse(), Ok(Count(n)));
            proptest::prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
            proptest::prop_assert_eq!(Rate(n).to_string().parse(), Ok(Rate(n)));
            proptest::prop_assert_eq!(BitRate(n).to_string().parse(), Ok(BitRate(n)));
            let ratio = Ratio((n % (RATIO_WHOLE + 1)) as u32);
            proptest::prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
            let span = Span(Duration::from_nanos(n));
            proptest::prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (text.parse::<Count>(), text.parse::<Bytes>(), text.parse::<Span>());
            let _ = (text.parse::<BitRate>(), text.parse::<Ratio>());
        }
    }
}
