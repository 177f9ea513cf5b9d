//! SYN cookies (RFC 4987 section 3.6): what a listener must remember of a SYN, packed into the SYN-ACK
//! that answers it, so that a flood of SYNs costs no memory. The initial sequence number holds
//!
//! ```text
//!  31 30 | 29 28 27 | 26 ... 0
//!  step  | MSS class | keyed hash of four-tuple, peer's ISN, step, MSS class and options
//! ```
//!
//! and the low bits of our timestamp hold the window scale, SACK and ECN, which the peer echoes. A
//! peer without timestamps gets none of these. A guessed acknowledgement hits with 2^-27. It does not
//! decide when cookies are used: the stack's listener does.

use super::config::{Ecn, TcpConfig};
use super::isn::Secret;
use super::{MSS_DEFAULT, MSS_MIN, Seq};
use crate::flow::FourTuple;
use crate::time::Instant;
use crate::wire::tcp::{Flags, Options, Tcp, Timestamps};

/// The MSS values that a cookie can express, each the largest that fits some path: the smallest we
/// use, the default, IPv6's minimum and tunnels, PPPoE, Ethernet, jumbo frames. A peer's MSS is
/// rounded down.
const CLASSES: [u16; 8] = [MSS_MIN, MSS_DEFAULT, 1220, 1360, 1412, 1440, 1460, 8960];

/// Seconds of one step of the clock. A cookie is taken in the step that made it and in the next one.
const STEP_SECONDS: u64 = 64;

const HASH_BITS: u32 = 27;
const CLASS_BITS: u32 = 3;

/// Low bits of a timestamp that carry options: four of window scale, SACK, ECN.
const OPTION_BITS: u32 = 6;
const SCALE_MASK: u8 = 0xf;
const SACK_BIT: u8 = 1 << 4;
const ECN_BIT: u8 = 1 << 5;

/// In place of the scale: the peer does not scale windows.
const NO_SCALE: u8 = 15;

/// In place of the option bits: the peer does not use timestamps.
const NO_TIMESTAMPS: u8 = u8::MAX;

/// What a cookie remembers of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    class: u8,
    options: u8,
}

impl Cookie {
    /// What is worth remembering of a SYN, as far as `config` agrees to it.
    pub fn of(config: &TcpConfig, syn: &Tcp) -> Self {
        let mss = syn.options.mss.unwrap_or(MSS_DEFAULT);
        let class = CLASSES.iter().rposition(|&class| class <= mss).unwrap_or(0) as u8;
        if !config.timestamps || syn.options.timestamps.is_none() {
            return Cookie { class, options: NO_TIMESTAMPS };
        }
        let scale = syn.options.window_scale.filter(|_| config.window_scale);
        let sack = config.sack && syn.options.sack_permitted;
        let ecn = config.ecn != Ecn::Off && syn.flags.contains(Flags::ECE | Flags::CWR);
        let options = scale.map_or(NO_SCALE, |scale| scale.min(14))
            | if sack { SACK_BIT } else { 0 }
            | if ecn { ECN_BIT } else { 0 };
        Cookie { class, options }
    }

    /// The cookie that `ack`, the first segment after a SYN-ACK, brings back, if it is one of ours and
    /// not too old. It must follow the SYN directly, as the third segment of the handshake and the
    /// first data do.
    pub fn open(
        config: &TcpConfig,
        secret: &Secret,
        tuple: &FourTuple,
        ack: &Tcp,
        now: Instant,
    ) -> Option<Self> {
        let value = ack.ack.wrapping_sub(1);
        let class = (value >> HASH_BITS) as u8 & ((1 << CLASS_BITS) - 1);
        let options = match ack.options.timestamps {
            Some(stamps) if config.timestamps => stamps.echo as u8 & ((1 << OPTION_BITS) - 1),
            _ => NO_TIMESTAMPS,
        };
        let cookie = Cookie { class, options };
        let (irs, step) = (ack.seq.wrapping_sub(1), step_at(now));
        let is_ours = |step| cookie.value(secret, tuple, irs, step) == value;
        (is_ours(step) || step.checked_sub(1).is_some_and(is_ours)).then_some(cookie)
    }

    /// Our initial sequence number in answer to the SYN with number `irs`.
    pub fn isn(&self, secret: &Secret, tuple: &FourTuple, irs: u32, now: Instant) -> Seq {
        Seq(self.value(secret, tuple, irs, step_at(now)))
    }

    /// The flags and options of the SYN-ACK. `clock` is our timestamp now.
    pub fn answer(&self, config: &TcpConfig, syn: &Tcp, clock: u32) -> (Flags, Options) {
        let agreed = self.read();
        let stamps = syn.options.timestamps.filter(|_| self.has_timestamps());
        let options = Options {
            mss: Some(config.mss),
            window_scale: agreed.window_scale.map(|_| config.window_shift()),
            sack_permitted: agreed.sack_permitted,
            timestamps: stamps
                .map(|theirs| Timestamps { value: self.stamp(clock), echo: theirs.value }),
            ..Options::default()
        };
        let flags = Flags::SYN | Flags::ACK;
        (if self.has_ecn() { flags | Flags::ECE } else { flags }, options)
    }

    /// The SYN as far as it is remembered, from the acknowledgement that brought this cookie.
    pub fn syn(&self, ack: &Tcp) -> Tcp {
        let stamps = ack.options.timestamps.filter(|_| self.has_timestamps());
        let ecn = if self.has_ecn() { Flags::ECE | Flags::CWR } else { Flags::NONE };
        Tcp {
            seq: ack.seq.wrapping_sub(1),
            ack: 0,
            flags: Flags::SYN | ecn,
            options: Options {
                mss: Some(CLASSES[usize::from(self.class)]),
                timestamps: stamps,
                ..self.read()
            },
            ..*ack
        }
    }

    /// The newest timestamp that is not later than `clock` and carries the options: it tells the
    /// time too early by up to 2^6 ms, and the next one is not older.
    fn stamp(&self, clock: u32) -> u32 {
        let unit = 1 << OPTION_BITS;
        let value = (clock & !(unit - 1)) | u32::from(self.options);
        if value > clock { value.wrapping_sub(unit) } else { value }
    }

    fn read(&self) -> Options {
        if !self.has_timestamps() {
            return Options::default();
        }
        let scale = self.options & SCALE_MASK;
        Options {
            window_scale: (scale != NO_SCALE).then_some(scale),
            sack_permitted: self.options & SACK_BIT != 0,
            ..Options::default()
        }
    }

    fn has_timestamps(&self) -> bool {
        self.options != NO_TIMESTAMPS
    }

    fn has_ecn(&self) -> bool {
        self.has_timestamps() && self.options & ECN_BIT != 0
    }

    fn value(&self, secret: &Secret, tuple: &FourTuple, irs: u32, step: u32) -> u32 {
        let mut bound = [0; 10];
        bound[..4].copy_from_slice(&irs.to_be_bytes());
        bound[4..8].copy_from_slice(&step.to_be_bytes());
        bound[8..].copy_from_slice(&[self.class, self.options]);
        let hash = secret.cookie(tuple, bound) as u32 & ((1 << HASH_BITS) - 1);
        let class = u32::from(self.class) << HASH_BITS;
        step << (HASH_BITS + CLASS_BITS) | class | hash
    }
}

fn step_at(now: Instant) -> u32 {
    (now.as_millis() / (1_000 * STEP_SECONDS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use std::net::SocketAddrV4;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    fn tuple(port: u16) -> FourTuple {
        let local = SocketAddrV4::new([10, 0, 0, 1].into(), 80);
        FourTuple::new(local, SocketAddrV4::new([10, 0, 0, 2].into(), port))
    }

    fn secret() -> Secret {
        Secret::new([3; 32])
    }

    fn syn(mss: Option<u16>, stamps: bool) -> Tcp {
        let timestamps = stamps.then_some(Timestamps { value: 7, echo: 0 });
        let options = Options {
            mss,
            window_scale: Some(9),
            sack_permitted: true,
            timestamps,
            ..Options::default()
        };
        Tcp { seq: 500, flags: Flags::SYN | Flags::ECE | Flags::CWR, options, ..Tcp::default() }
    }

    /// The acknowledgement of the SYN-ACK that answers `syn` with a cookie made at `at`.
    fn ack_of(syn: &Tcp, at: Instant) -> Tcp {
        let config = TcpConfig::default();
        let cookie = Cookie::of(&config, syn);
        let (_, answer) = cookie.answer(&config, syn, 123_456);
        let timestamps =
            answer.timestamps.map(|stamps| Timestamps { value: 8, echo: stamps.value });
        Tcp {
            seq: 501,
            ack: (cookie.isn(&secret(), &tuple(1), 500, at) + 1).0,
            flags: Flags::ACK,
            options: Options { timestamps, ..Options::default() },
            ..Tcp::default()
        }
    }

    fn open(ack: &Tcp, now: Instant) -> Option<Cookie> {
        Cookie::open(&TcpConfig::default(), &secret(), &tuple(1), ack, now)
    }

    #[test]
    fn a_cookie_brings_back_what_it_took() {
        for (mss, class) in [
            (None, 536),
            (Some(0), 88),
            (Some(87), 88),
            (Some(535), 88),
            (Some(536), 536),
            (Some(1400), 1360),
            (Some(1460), 1460),
            (Some(u16::MAX), 8960),
        ] {
            let (syn, now) = (syn(mss, true), NOW);
            let ack = ack_of(&syn, now);
            let back = open(&ack, now).expect("our own cookie").syn(&ack);
            let options =
                Options { mss: Some(class), timestamps: back.options.timestamps, ..syn.options };
            assert_eq!((back.seq, back.flags, back.options), (500, syn.flags, options));
        }
    }

    #[test]
    fn without_timestamps_only_the_mss_is_kept() {
        let syn = syn(Some(1460), false);
        let ack = ack_of(&syn, NOW);
        let back = open(&ack, NOW).expect("our own cookie").syn(&ack);
        assert_eq!(back.options, Options { mss: Some(1460), ..Options::default() });
        assert_eq!(back.flags, Flags::SYN);
    }

    #[test]
    fn a_cookie_lives_for_two_steps() {
        let step = Duration::from_secs(STEP_SECONDS);
        let begin = Instant::ZERO + Duration::from_secs(STEP_SECONDS * 20);
        let ack = ack_of(&syn(None, true), begin);
        let nearly = Duration::from_millis(2_000 * STEP_SECONDS - 1);
        assert!(open(&ack, begin).is_some());
        assert!(open(&ack, begin + nearly).is_some());
        for n in 2..10 {
            let mut at = begin;
            (0..n).for_each(|_| at += step);
            assert!(open(&ack, at).is_none(), "{n} steps later");
        }
        let early = ack_of(&syn(None, true), Instant::ZERO);
        assert!(open(&early, Instant::ZERO).is_some(), "there is a first step");
    }

    #[test]
    fn every_bit_of_a_cookie_counts() {
        let ack = ack_of(&syn(Some(1460), true), NOW);
        for bit in 0..32 {
            let bent = Tcp { ack: (ack.ack.wrapping_sub(1) ^ (1 << bit)).wrapping_add(1), ..ack };
            assert!(open(&bent, NOW).is_none(), "bit {bit} of the number");
            assert!(open(&Tcp { seq: ack.seq ^ (1 << bit), ..ack }, NOW).is_none());
        }
        for bit in 0..OPTION_BITS {
            let mut bent = ack;
            if let Some(stamps) = &mut bent.options.timestamps {
                stamps.echo ^= 1 << bit;
            }
            assert!(open(&bent, NOW).is_none(), "option bit {bit}");
        }
        let stripped = Tcp { options: Options::default(), ..ack };
        assert!(open(&stripped, NOW).is_none(), "timestamps lost on the way");
        let config = TcpConfig::default();
        assert!(Cookie::open(&config, &secret(), &tuple(2), &ack, NOW).is_none());
        assert!(Cookie::open(&config, &secret().of_worker(1), &tuple(1), &ack, NOW).is_none());
        assert!(Cookie::open(&config, &Secret::new([4; 32]), &tuple(1), &ack, NOW).is_none());
    }

    #[test]
    fn a_stamp_is_never_ahead_of_the_clock() {
        for options in 0..1 << OPTION_BITS {
            for clock in (1000..1200).chain([63, u32::MAX - 3]) {
                let stamp = Cookie { class: 0, options }.stamp(clock);
                assert_eq!(stamp as u8 & 0x3f, options);
                assert!(clock.wrapping_sub(stamp) < 64, "{clock} {stamp}");
            }
        }
    }
}
