//! The pins of one interface, a directory on a bpffs with the link and every map: make, read and
//! remove them. What is read is a picture of one moment; a daemon may write meanwhile.

use std::path::Path;
use std::{fs, io};

use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::pin::PinError;
use aya::programs::links::{FdLink, PinnedLink};
use barewire_steer::abi::{
    self, Address, Config, Listener, ListenerKey, LocalPorts, OnMissing, PortRange, Prefix,
    PrefixKey, Verdict,
};
use zerocopy::transmute;

use super::error::{Error, sentence};

/// What is pinned for an interface.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// The program of the pinned link.
    pub(crate) program_id: u32,
    /// False when the kill switch is on.
    pub(crate) enabled: bool,
    /// What happens to frames of ours on a queue that has no socket.
    pub(crate) on_missing: OnMissing,
    /// How many queues it was loaded for.
    pub(crate) n_queues: u32,
    /// The owned prefixes.
    pub(crate) prefixes: Vec<Prefix>,
    /// The ports shared with the kernel.
    pub(crate) listeners: Vec<Listener>,
    /// The local ports of active opens.
    pub(crate) port_ranges: Vec<LocalPorts>,
    /// How many frames had each verdict since the program was loaded, over all CPUs.
    pub(crate) verdicts: Vec<(Verdict, u64)>,
}

/// Pins every map and the link in `dir`, which nobody may have made before. What is half made when
/// it fails is removed.
pub(super) fn make(dir: &Path, object: &Ebpf, link: FdLink) -> Result<(), Error> {
    let parents = dir.parent().map_or(Ok(()), fs::create_dir_all);
    parents
        .and_then(|()| fs::create_dir(dir))
        .map_err(|source| Error::Pin { path: dir.to_path_buf(), source })?;
    let pinned = pin_all(dir, object, link);
    if pinned.is_err() {
        // The first error is the one to tell.
        remove(dir).ok();
    }
    pinned
}

fn pin_all(dir: &Path, object: &Ebpf, link: FdLink) -> Result<(), Error> {
    for name in abi::MAPS {
        let map = object.map(name).expect("the object has the maps of its ABI");
        let path = dir.join(name);
        map.pin(&path).map_err(|error| Error::Pin { path, source: os_error(error) })?;
    }
    let path = dir.join(abi::LINK);
    link.pin(&path).map_err(|error| Error::Pin { path, source: os_error(error) })?;
    Ok(())
}

/// Removes what [`make`] or a daemon made, whole or not; returns whether there was anything. The
/// kernel takes the program off when nobody has its link open any more.
pub(super) fn remove(dir: &Path) -> Result<bool, Error> {
    let mut found = false;
    for name in [abi::LINK].into_iter().chain(abi::MAPS) {
        found |= removed(&dir.join(name), |path| fs::remove_file(path))?;
    }
    Ok(found | removed(dir, |path| fs::remove_dir(path))?)
}

fn removed(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<bool, Error> {
    match remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::Unpin { path: path.to_path_buf(), source }),
    }
}

/// Reads everything that is pinned in `dir`, or `None` when it does not exist.
pub(super) fn read(dir: &Path) -> Result<Option<Pinned>, Error> {
    if !dir.exists() {
        return Ok(None);
    }
    let path = dir.join(abi::LINK);
    let link = PinnedLink::from_pin(&path).and_then(|link| FdLink::from(link).info());
    let link = link.map_err(|error| Error::OpenPin { path, reason: sentence(&error) })?;
    let pins = Pins { dir };
    let config = pins.config()?;
    Ok(Some(Pinned {
        program_id: link.program_id(),
        enabled: config.enabled(),
        on_missing: config.on_missing(),
        n_queues: pins.n_queues()?,
        prefixes: pins.prefixes()?,
        listeners: pins.listeners()?,
        port_ranges: pins.port_ranges()?,
        verdicts: pins.verdicts()?,
    }))
}

/// The pinned maps of one directory, each opened when it is read. aya knows byte arrays as keys and
/// values, and `barewire-steer` knows what the bytes mean. Walks are cut at the map's bound: while
/// others write, the kernel may walk in circles.
struct Pins<'dir> {
    dir: &'dir Path,
}

impl Pins<'_> {
    fn data(&self, name: &'static str) -> Result<MapData, Error> {
        let path = self.dir.join(name);
        MapData::from_pin(&path).map_err(|error| Error::OpenPin { path, reason: sentence(&error) })
    }

    fn open(&self, name: &'static str) -> Result<Map, Error> {
        Map::from_map_data(self.data(name)?).map_err(in_map(name))
    }

    fn config(&self) -> Result<Config, Error> {
        let failed = in_map(abi::MAP_CONFIG);
        let array = Array::<_, [u8; size_of::<Config>()]>::try_from(self.open(abi::MAP_CONFIG)?);
        let bytes = array.and_then(|array| array.get(&0, 0)).map_err(failed)?;
        Config::parse(&bytes)
            .map_err(|source| Error::Foreign { dir: self.dir.to_path_buf(), source })
    }

    fn n_queues(&self) -> Result<u32, Error> {
        let info = self.data(abi::MAP_XSKS)?.info().map_err(in_map(abi::MAP_XSKS))?;
        Ok(info.max_entries())
    }

    fn prefixes(&self) -> Result<Vec<Prefix>, Error> {
        let failed = in_map(abi::MAP_PREFIXES);
        let map = self.open(abi::MAP_PREFIXES)?;
        let trie = LpmTrie::<_, [u8; 16], u8>::try_from(map).map_err(&failed)?;
        let keys = trie.keys().take(abi::PREFIXES_MAX as usize);
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(&failed)?;
        Ok(keys.iter().filter_map(|k| PrefixKey::new(k.prefix_len(), k.data()).prefix()).collect())
    }

    fn listeners(&self) -> Result<Vec<Listener>, Error> {
        let failed = in_map(abi::MAP_LISTENERS);
        let map = self.open(abi::MAP_LISTENERS)?;
        let hash =
            HashMap::<_, [u8; size_of::<ListenerKey>()], u8>::try_from(map).map_err(&failed)?;
        let keys = hash.keys().take(abi::LISTENERS_MAX as usize);
        keys.map(|key| {
            let key: ListenerKey = transmute!(key.map_err(&failed)?);
            Ok(key.listener())
        })
        .collect()
    }

    fn port_ranges(&self) -> Result<Vec<LocalPorts>, Error> {
        let failed = in_map(abi::MAP_PORT_RANGES);
        let map = self.open(abi::MAP_PORT_RANGES)?;
        let hash = HashMap::<_, [u8; 16], [u8; 4]>::try_from(map).map_err(&failed)?;
        let entries = hash.iter().take(abi::PORT_RANGES_MAX as usize);
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(&failed)?;
                let (address, range): (Address, PortRange) = (transmute!(key), transmute!(value));
                Ok(LocalPorts { address: address.ip(), ports: range.low..=range.high })
            })
            .collect()
    }

    fn verdicts(&self) -> Result<Vec<(Verdict, u64)>, Error> {
        let failed = in_map(abi::MAP_VERDICTS);
        let map = self.open(abi::MAP_VERDICTS)?;
        let array = PerCpuArray::<_, u64>::try_from(map).map_err(&failed)?;
        let counted = |&verdict: &Verdict| {
            let values = array.get(&(verdict as u32), 0).map_err(&failed)?;
            Ok((verdict, values.iter().copied().fold(0, u64::wrapping_add)))
        };
        Verdict::ALL.iter().map(counted).collect()
    }
}

fn in_map(map: &'static str) -> impl Fn(MapError) -> Error {
    move |error| Error::Map { map, reason: sentence(&error) }
}

fn os_error(error: PinError) -> io::Error {
    match error {
        PinError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
