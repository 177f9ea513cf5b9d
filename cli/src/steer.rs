//! The steering program from the command's side: load it ahead of a daemon, show it, take it off.
//! Loaded with aya, so that the command needs no C library; what is pinned here is what a daemon
//! opens, and the other way round. Words and layouts come from `barewire-steer`; the command line
//! around it and how a status is printed are not in here.

mod error;
mod interface;
mod pins;

use std::path::PathBuf;
use std::{io, thread, time};

use aya::maps::Array;
use aya::programs::links::FdLink;
use aya::programs::xdp::{Xdp, XdpError, XdpMode};
use aya::programs::{ProgramError, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use barewire_steer::abi::{self, Config, OnMissing, QUEUES_MAX};
use barewire_steer::attach::{AttachMode, Attached, advice};

pub(crate) use error::Error;
pub(crate) use pins::Pinned;

use error::sentence;
use interface::Interface;

/// How a program is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadOptions {
    /// Where it is attached.
    pub(crate) mode: AttachMode,
    /// What happens to frames of ours on a queue that has no socket.
    pub(crate) on_missing: OnMissing,
    /// How many receive queues it serves; `None` is as many as the interface can have.
    pub(crate) n_queues: Option<u32>,
}

/// What is on an interface, and what is pinned for it.
#[derive(Debug)]
pub(crate) struct Status {
    /// The interface.
    pub(crate) ifname: String,
    /// The XDP program that the kernel says is there, whoever put it there; `None` also when the
    /// interface is gone and its pins are not.
    pub(crate) attached: Option<Attached>,
    /// What `load` or a daemon with `--persist` left.
    pub(crate) pinned: Option<Pinned>,
}

impl Status {
    /// Whether the program on the interface is the one whose pins these are.
    pub(crate) fn is_ours(&self) -> bool {
        match (&self.attached, &self.pinned) {
            (Some(attached), Some(pinned)) => attached.program_id == pinned.program_id,
            _ => false,
        }
    }
}

/// What [`load`] did.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// The program is on the interface now.
    Now(Status),
    /// It was there before, loaded with the same options.
    Already(Status),
}

/// What [`unload`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unloaded {
    /// The program is off the interface and its pins are gone.
    Now,
    /// There was nothing to unload.
    Already,
}

/// Loads the program, attaches it to `ifname` and pins link and maps, so that it stays. An interface
/// that carries another program is left alone.
pub(crate) fn load(ifname: &str, options: &LoadOptions) -> Result<Loaded, Error> {
    let dir = pin_dir(ifname)?;
    let interface = Interface::query(ifname)?;
    let n_queues = options.n_queues.unwrap_or(interface.n_queues.min(QUEUES_MAX));
    if !(1..=QUEUES_MAX).contains(&n_queues) {
        return Err(Error::Queues(n_queues));
    }
    let before = status(ifname)?;
    if let Some(pinned) = &before.pinned {
        let mode = before.attached.as_ref().map(|attached| attached.mode);
        let Some(mode) = mode.filter(|_| before.is_ours()) else {
            return Err(Error::DeadPins { ifname: ifname.to_string(), dir });
        };
        let (on_missing, found) = (pinned.on_missing, pinned.n_queues);
        let wanted = (options.mode.into(), options.on_missing, n_queues);
        if (mode, on_missing, found) != wanted {
            let ifname = ifname.to_string();
            return Err(Error::LoadedOtherwise { ifname, mode, on_missing, n_queues: found });
        }
        return Ok(Loaded::Already(before));
    }
    if let Some(attached) = before.attached {
        return Err(Error::Occupied { ifname: ifname.to_string(), attached });
    }

    let mut object = load_object(n_queues)?;
    set_config(&mut object, Config::new(true, options.on_missing))?;
    let link = attach(&mut object, &interface, options.mode)?;
    pins::make(&dir, &object, link)?;
    Ok(Loaded::Now(status(ifname)?))
}

/// What is on the interface and pinned for it.
pub(crate) fn status(ifname: &str) -> Result<Status, Error> {
    let pinned = pins::read(&pin_dir(ifname)?)?;
    let attached = match Interface::query(ifname) {
        Ok(interface) => interface.attached.map(named),
        Err(Error::NoInterface(_)) if pinned.is_some() => None,
        Err(error) => return Err(error),
    };
    Ok(Status { ifname: ifname.to_string(), attached, pinned })
}

/// Removes the pins, and with them the program. A program that has no pins here is not ours to
/// remove; nothing there is no error.
pub(crate) fn unload(ifname: &str) -> Result<Unloaded, Error> {
    let removed = pins::remove(&pin_dir(ifname)?)?;
    let deadline = time::Instant::now() + DETACH_TIME_MAX;
    loop {
        let attached = match Interface::query(ifname) {
            Ok(interface) => interface.attached,
            Err(Error::NoInterface(_)) if removed => None,
            Err(error) => return Err(error),
        };
        match attached {
            None if removed => return Ok(Unloaded::Now),
            None => return Ok(Unloaded::Already),
            Some(attached) if !removed || time::Instant::now() > deadline => {
                let attached = named(attached);
                return Err(Error::NotOurs { ifname: ifname.to_string(), attached });
            }
            Some(_) => thread::sleep(time::Duration::from_millis(10)),
        }
    }
}

/// The kernel takes a program off shortly after its last link is gone, not at once.
const DETACH_TIME_MAX: time::Duration = time::Duration::from_secs(2);

/// Where the pins of an interface are. The name becomes part of a path, so it must be one that an
/// interface can have.
fn pin_dir(ifname: &str) -> Result<PathBuf, Error> {
    let valid = !ifname.is_empty()
        && ifname.len() <= IFNAME_BYTES_MAX
        && ifname != "."
        && ifname != ".."
        && !ifname.contains(|c: char| c == '/' || c == '\0' || c.is_whitespace());
    if !valid {
        return Err(Error::BadName(ifname.to_string()));
    }
    Ok(PathBuf::from(abi::PIN_ROOT).join(ifname))
}

/// `IFNAMSIZ` less the final nul.
const IFNAME_BYTES_MAX: usize = 15;

fn load_object(n_queues: u32) -> Result<Ebpf, Error> {
    // The program needs no types of the running kernel, so they are not read.
    let mut object = EbpfLoader::new()
        .btf(None)
        .map_max_entries(abi::MAP_XSKS, n_queues)
        .load(barewire_steer::OBJECT)
        .map_err(|error| Error::Load(sentence(&error)))?;
    program(&mut object).load().map_err(|error| Error::Load(sentence(&error)))?;
    Ok(object)
}

fn program(object: &mut Ebpf) -> &mut Xdp {
    let program = object.program_mut(abi::PROGRAM);
    program
        .and_then(|program| program.try_into().ok())
        .expect("the compiled object has the XDP program that its ABI names")
}

fn set_config(object: &mut Ebpf, config: Config) -> Result<(), Error> {
    let map = object.map_mut(abi::MAP_CONFIG).expect("the object has the maps of its ABI");
    let bytes: [u8; size_of::<Config>()] = zerocopy::transmute!(config);
    Array::<_, [u8; size_of::<Config>()]>::try_from(map)
        .and_then(|mut array| array.set(0, bytes, 0))
        .map_err(|error| Error::Map { map: abi::MAP_CONFIG, reason: sentence(&error) })
}

fn attach(object: &mut Ebpf, interface: &Interface, mode: AttachMode) -> Result<FdLink, Error> {
    let program = program(object);
    let flag = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let link = program.attach_to_if_index(interface.ifindex, flag).map_err(|error| {
        let source = os_error(error);
        let advice = advice(&source, mode);
        Error::Attach { ifname: interface.name.clone(), mode, source, advice }
    })?;
    // aya attaches by netlink, without a link to pin, where the kernel refuses to make one.
    let link = program.take_link(link).map_err(|error| Error::Load(sentence(&error)))?;
    FdLink::try_from(link).map_err(|_| Error::NoLink { ifname: interface.name.clone() })
}

fn os_error(error: ProgramError) -> io::Error {
    let errno = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    errno.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}

/// Adds the program's name, where the kernel tells it (CAP_SYS_ADMIN).
fn named(attached: Attached) -> Attached {
    let info = loaded_programs().flatten().find(|program| program.id() == attached.program_id);
    let name = info.and_then(|program| program.name_as_str().map(str::to_string));
    Attached { program_name: name, ..attached }
}
