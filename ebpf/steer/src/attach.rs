//! The words for attaching an XDP program to an interface, shared by both loaders: the mode that is
//! asked for, what the kernel then reports, and what its errors mean. No call is made here.

use std::fmt;
use std::io;

/// Where a program is attached. There is no "either": a driver that cannot do one is an error, and
/// the caller decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel makes a socket buffer.
    Native,
    /// In the kernel's generic receive path: any driver, and slower.
    Generic,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachMode::Native => "native",
            AttachMode::Generic => "generic",
        })
    }
}

/// Where the kernel says that a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the generic receive path.
    Generic,
    /// In the NIC itself.
    Offloaded,
}

impl From<AttachMode> for AttachedMode {
    fn from(mode: AttachMode) -> Self {
        match mode {
            AttachMode::Native => AttachedMode::Native,
            AttachMode::Generic => AttachedMode::Generic,
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachedMode::Native => "native",
            AttachedMode::Generic => "generic",
            AttachedMode::Offloaded => "offloaded",
        })
    }
}

/// What the kernel says is on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The kernel's number of the program.
    pub program_id: u32,
    /// Its name, where we may ask for it (CAP_SYS_ADMIN).
    pub program_name: Option<String>,
    /// Where it runs.
    pub mode: AttachedMode,
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XDP program ")?;
        if let Some(name) = &self.program_name {
            write!(f, "'{name}' ")?;
        }
        write!(f, "(id {}, {} mode)", self.program_id, self.mode)
    }
}

/// What an error of the attach call most likely means; drivers differ, and the kernel's own words
/// go to its log.
pub fn advice(error: &io::Error, mode: AttachMode) -> &'static str {
    match (error.raw_os_error(), mode) {
        (Some(libc::EPERM), _) => "it needs CAP_BPF and CAP_NET_ADMIN: run as root",
        (Some(libc::EOPNOTSUPP), AttachMode::Native) => {
            "the driver has no native XDP: use `--mode generic`"
        }
        (Some(libc::ERANGE | libc::EMSGSIZE | libc::E2BIG), AttachMode::Native) => {
            "the MTU (on veth, the peer's) is too large for native XDP: lower it, for example to \
             1500, or use `--mode generic`"
        }
        (Some(libc::ENOSPC), AttachMode::Native) => {
            "native XDP has too few queues: on veth give it as many receive queues as its peer \
             has transmit queues, elsewhere lower `ethtool -L IF combined N`"
        }
        (Some(libc::EINVAL | libc::ENOMEM), AttachMode::Native) => {
            "the driver refused: check MTU, queue count (`ethtool -L`) and LRO (`ethtool -K IF \
             lro off`), see `dmesg`, or use `--mode generic`"
        }
        _ => "see `dmesg` for the driver's own words",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_way_out() {
        for (errno, mode, word) in [
            (libc::EPERM, AttachMode::Generic, "root"),
            (libc::EOPNOTSUPP, AttachMode::Native, "--mode generic"),
            (libc::ERANGE, AttachMode::Native, "MTU"),
            (libc::ENOSPC, AttachMode::Native, "receive queues"),
            (libc::EINVAL, AttachMode::Native, "LRO"),
            (libc::EINVAL, AttachMode::Generic, "dmesg"),
        ] {
            let advice = advice(&io::Error::from_raw_os_error(errno), mode);
            assert!(advice.contains(word), "errno {errno}: {advice}");
        }
    }
}
