//! The life of the steering program: load, attach by a link of its own, pin, open what is pinned,
//! detach. All unsafe code of the crate is here, in the calls at the end of the file: those that
//! libbpf-rs has no safe form for, above all a link with an explicit XDP mode. Which frames the
//! program takes is set in `rules`.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use barewire_steer::OBJECT;
use barewire_steer::abi::{self, Action, Config, OnMissing, QUEUES_MAX};
use barewire_steer::attach::{AttachMode, Attached, AttachedMode, advice};
use libbpf_rs::{ErrorKind, Object, ObjectBuilder, PrintLevel};
use libbpf_sys as sys;

use crate::error::Error;
use crate::maps::Maps;

/// The steering program of one interface.
///
/// It owns the maps; of what [`Steer::load`] made it also owns the program, and after
/// [`Steer::attach`] the link, so that dropping it takes the program off the interface. A pinned
/// link belongs to its pin.
#[derive(Debug)]
pub struct Steer {
    pub(crate) maps: Maps,
    program: Option<OwnedFd>,
    link: Option<OwnedFd>,
}

/// How a program is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// How many receive queues the interface has.
    pub n_queues: u32,
    /// What happens to frames of ours on a queue that has no socket.
    pub on_missing: OnMissing,
}

impl Steer {
    /// Loads program and maps. Steering is on, nothing is owned, and no interface has it yet.
    pub fn load(options: &LoadOptions) -> Result<Steer, Error> {
        if !(1..=QUEUES_MAX).contains(&options.n_queues) {
            return Err(Error::Queues(options.n_queues));
        }
        let (loaded, log) = with_libbpf_log(|| load_object(options.n_queues));
        let (maps, program) = loaded.map_err(|source| match source.kind() {
            ErrorKind::PermissionDenied => Error::LoadNotPermitted,
            _ => Error::Load { source, log },
        })?;
        let steer = Steer { maps, program: Some(program), link: None };
        steer.set_config(Config::new(true, options.on_missing))?;
        Ok(steer)
    }

    /// Attaches the program to an interface in `mode` and nothing else, and returns what the
    /// kernel then says. An interface that carries a program already is left alone.
    pub fn attach(
        &mut self,
        ifindex: u32,
        ifname: &str,
        mode: AttachMode,
    ) -> Result<Attached, Error> {
        let program = self.program.as_ref().ok_or(Error::NoProgram)?;
        check_vacant(ifindex, ifname)?;
        let link = link_create(program.as_fd(), ifindex, mode).or_else(|source| {
            check_vacant(ifindex, ifname)?;
            let advice = advice(&source, mode);
            Err(Error::Attach { ifname: ifname.to_string(), mode, source, advice })
        })?;
        self.link = Some(link);
        Steer::attached(ifindex)?.ok_or_else(|| Error::Attach {
            ifname: ifname.to_string(),
            mode,
            source: io::ErrorKind::NotFound.into(),
            advice: "the kernel attached it and then showed nothing: is the interface going away?",
        })
    }

    /// Which XDP program, if any, the kernel says is on an interface.
    pub fn attached(ifindex: u32) -> Result<Option<Attached>, Error> {
        let query = xdp_query(ifindex).map_err(|source| Error::Query { ifindex, source })?;
        let found = [
            (query.drv_prog_id, AttachedMode::Native),
            (query.skb_prog_id, AttachedMode::Generic),
            (query.hw_prog_id, AttachedMode::Offloaded),
        ]
        .into_iter()
        .find(|&(program_id, _)| program_id != 0);
        Ok(found.map(|(program_id, mode)| Attached {
            program_id,
            program_name: program_name(program_id).ok(),
            mode,
        }))
    }

    /// Takes the program off the interface; returns whether it was on one by this `Steer`.
    pub fn detach(&mut self) -> Result<bool, Error> {
        let Some(link) = self.link.take() else { return Ok(false) };
        link_detach(link.as_fd()).map_err(Error::Detach)?;
        Ok(true)
    }

    /// Hands the link to `dir` on a bpffs, with the maps beside it. From now on the program stays
    /// on the interface until [`Steer::unpin`] or `barewire xdp unload`, whoever ends before.
    pub fn pin(&mut self, dir: &Path) -> Result<(), Error> {
        let Some(link) = &self.link else { return Err(Error::NothingToPin) };
        make_dir(dir)?;
        let pinned = pin_all(dir, &self.maps, link.as_fd());
        if pinned.is_err() {
            // The first error is the one to tell; what is half made must go in any case.
            Steer::unpin(dir).ok();
            return pinned;
        }
        self.link = None;
        Ok(())
    }

    /// Opens what is pinned in `dir`, to set sockets and rules there. It needs access to the files
    /// and no right to load programs.
    pub fn open_pinned(dir: &Path) -> Result<Steer, Error> {
        if !dir.exists() {
            return Err(Error::NotPinned(dir.to_path_buf()));
        }
        let path = dir.join(abi::LINK);
        let link_ifindex = obj_get(&path)
            .and_then(|link| link_ifindex(link.as_fd()))
            .map_err(|source| Error::OpenPin { path, source: source.into() })?;
        if link_ifindex == 0 {
            return Err(Error::DeadLink(dir.to_path_buf()));
        }
        let steer = Steer { maps: Maps::pinned(dir)?, program: None, link: None };
        steer.config()?;
        Ok(steer)
    }

    /// Removes what [`Steer::pin`] made, and so detaches the program; returns whether there was
    /// anything. Files of other names stay, and with them the directory.
    pub fn unpin(dir: &Path) -> Result<bool, Error> {
        let mut found = false;
        for name in [abi::LINK].into_iter().chain(abi::MAPS) {
            found |= removed(&dir.join(name), |path| fs::remove_file(path))?;
        }
        Ok(found | removed(dir, |path| fs::remove_dir(path))?)
    }

    /// Runs the program over one frame as if it had come in on queue 0, and returns its answer.
    /// The counters count it; nothing is received or redirected.
    pub fn test_run(&self, frame: &[u8]) -> Result<Action, Error> {
        let program = self.program.as_ref().ok_or(Error::NoProgram)?;
        let error = |source| Error::TestRun { len: frame.len(), source };
        match test_run(program.as_fd(), frame).map_err(error)? {
            sys::XDP_DROP => Ok(Action::Drop),
            sys::XDP_PASS => Ok(Action::Pass),
            sys::XDP_REDIRECT => Ok(Action::Redirect),
            other => Err(error(io::Error::other(format!("it answered with XDP action {other}")))),
        }
    }
}

fn load_object(n_queues: u32) -> Result<(Maps, OwnedFd), libbpf_rs::Error> {
    let mut open = ObjectBuilder::default().open_memory(OBJECT)?;
    for mut map in open.maps_mut().filter(|map| map.name() == abi::MAP_XSKS) {
        map.set_max_entries(n_queues)?;
    }
    let object: Object = open.load()?;
    let program = object
        .progs()
        .find(|program| program.name() == abi::PROGRAM)
        .expect("the compiled object has the program that its ABI names");
    Ok((Maps::of(&object)?, program.as_fd().try_clone_to_owned()?))
}

fn check_vacant(ifindex: u32, ifname: &str) -> Result<(), Error> {
    match Steer::attached(ifindex)? {
        Some(attached) => Err(Error::Occupied { ifname: ifname.to_string(), attached }),
        None => Ok(()),
    }
}

/// Makes the directory of pins, which nobody may have made before: what is in it is then ours to
/// remove again.
fn make_dir(dir: &Path) -> Result<(), Error> {
    let parents = dir.parent().map_or(Ok(()), fs::create_dir_all);
    parents.and_then(|()| fs::create_dir(dir)).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::AlreadyPinned(dir.to_path_buf()),
        _ => Error::Pin { path: dir.to_path_buf(), source },
    })
}

fn pin_all(dir: &Path, maps: &Maps, link: BorrowedFd<'_>) -> Result<(), Error> {
    let maps = maps.iter().map(|map| (map.name(), map.fd()));
    for (name, fd) in maps.chain([(abi::LINK, link)]) {
        let path = dir.join(name);
        obj_pin(fd, &path).map_err(|source| Error::Pin { path, source })?;
    }
    Ok(())
}

/// Whether `remove` took `path` away; that it was not there is no error.
fn removed(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<bool, Error> {
    match remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::Unpin { path: path.to_path_buf(), source }),
    }
}

thread_local! {
    static LIBBPF_LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Longest log that an error carries, in bytes; the verifier can write megabytes.
const LOG_BYTES_MAX: usize = 16 * 1024;

/// Runs `f` and returns what libbpf had to say, which otherwise goes to stderr unasked.
fn with_libbpf_log<T>(f: impl FnOnce() -> T) -> (T, String) {
    let before = libbpf_rs::set_print(Some((PrintLevel::Warn, |_, line| {
        LIBBPF_LOG.with_borrow_mut(|log| {
            if log.len() + line.len() <= LOG_BYTES_MAX {
                log.push_str(&line);
            }
        });
    })));
    let result = f();
    libbpf_rs::set_print(before);
    (result, LIBBPF_LOG.take())
}

/// The value of a libbpf call: itself, or the error number that a negative one is.
fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A link keeps the program on the interface as long as it is open or pinned; the mode flag keeps
/// the kernel from choosing another one.
fn link_create(program: BorrowedFd<'_>, ifindex: u32, mode: AttachMode) -> io::Result<OwnedFd> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as sys::size_t,
        flags: match mode {
            AttachMode::Native => sys::XDP_FLAGS_DRV_MODE,
            AttachMode::Generic => sys::XDP_FLAGS_SKB_MODE,
        },
        ..Default::default()
    };
    let fd = program.as_raw_fd();
    let target = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: `fd` is open while `program` is borrowed, and `options` is a valid struct of the size
    // that its `sz` says, which the call only reads.
    let link = checked(unsafe { sys::bpf_link_create(fd, target, sys::BPF_XDP, &options) })?;
    // SAFETY: the call has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open while `link` is borrowed; the call takes no memory.
    checked(unsafe { sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// The interface that a link is attached to, or 0 when that interface is gone.
fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = sys::bpf_link_info::default();
    let mut len = size_of::<sys::bpf_link_info>() as u32;
    // SAFETY: the descriptor is open while `link` is borrowed; the kernel writes at most `len`
    // bytes, the size of `info`.
    checked(unsafe { sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &mut info, &mut len) })?;
    if info.type_ != sys::BPF_LINK_TYPE_XDP {
        return Err(io::Error::other("it is no link of an XDP program"));
    }
    // SAFETY: `xdp` is the member that the kernel fills in for a link of this type, and any bits
    // are a valid u32.
    Ok(unsafe { info.__bindgen_anon_1.xdp.ifindex })
}

fn xdp_query(ifindex: u32) -> io::Result<sys::bpf_xdp_query_opts> {
    let mut query = sys::bpf_xdp_query_opts {
        sz: size_of::<sys::bpf_xdp_query_opts>() as sys::size_t,
        ..Default::default()
    };
    let target = i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    // SAFETY: `query` is a valid struct of the size that its `sz` says, which bounds what libbpf
    // writes.
    checked(unsafe { sys::bpf_xdp_query(target, 0, &mut query) })?;
    Ok(query)
}

fn program_name(program_id: u32) -> io::Result<String> {
    // SAFETY: the call takes no memory.
    let fd = checked(unsafe { sys::bpf_prog_get_fd_by_id(program_id) })?;
    // SAFETY: the call has just made this descriptor for us, and nobody else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = sys::bpf_prog_info::default();
    let mut len = size_of::<sys::bpf_prog_info>() as u32;
    // SAFETY: `program` is open; the kernel writes at most `len` bytes, the size of `info`, and
    // reads its pointers only where a length beside them is not zero, which all are.
    checked(unsafe { sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut len) })?;
    let name = info.name.map(|byte| byte as u8);
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the descriptor is open while `fd` is borrowed, and `path` ends with a nul byte.
    checked(unsafe { sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `path` ends with a nul byte.
    let fd = checked(unsafe { sys::bpf_obj_get(path.as_ptr()) })?;
    // SAFETY: the call has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs an XDP program over a frame by BPF_PROG_TEST_RUN and returns its answer.
fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let mut options = sys::bpf_test_run_opts {
        sz: size_of::<sys::bpf_test_run_opts>() as sys::size_t,
        data_in: frame.as_ptr().cast(),
        data_size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        repeat: 1,
        ..Default::default()
    };
    // SAFETY: the descriptor is open while `program` is borrowed; the kernel reads `data_size_in`
    // bytes at `data_in`, which is `frame`, and writes nothing but `options` itself, for the
    // pointers to results are null.
    checked(unsafe { sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut options) })?;
    Ok(options.retval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_count_out_of_bounds_is_refused_before_the_kernel_is_asked() {
        for n_queues in [0, QUEUES_MAX + 1] {
            let options = LoadOptions { n_queues, on_missing: OnMissing::Pass };
            assert!(matches!(Steer::load(&options), Err(Error::Queues(n)) if n == n_queues));
        }
    }

    #[test]
    fn nothing_pinned_is_told_as_such() {
        let dir = Path::new("/sys/fs/bpf/barewire-no-such-interface");
        assert!(matches!(Steer::open_pinned(dir), Err(Error::NotPinned(_))));
    }
}
