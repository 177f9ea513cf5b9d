//! The maps of one loaded steering program, as open files with names. Where they come from (a
//! loaded object or a directory of pins) and byte-level access; what the bytes mean is in `rules`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use barewire_steer::abi;
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, Object};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::Error;

/// A map with its name, so that an error can say which.
#[derive(Debug)]
pub(crate) struct Map {
    name: &'static str,
    handle: MapHandle,
}

/// All maps of [`abi::MAPS`].
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) config: Map,
    pub(crate) xsks: Map,
    pub(crate) prefixes: Map,
    pub(crate) listeners: Map,
    pub(crate) port_ranges: Map,
    pub(crate) verdicts: Map,
}

impl Maps {
    /// The maps of an object, which live on when the object is closed.
    pub(crate) fn of(object: &Object) -> Result<Self, libbpf_rs::Error> {
        Maps::collect(|name| {
            let map = object
                .maps()
                .find(|map| map.name() == name)
                .expect("the compiled object has the maps that its ABI names");
            MapHandle::try_from(&map)
        })
    }

    /// The maps pinned in `dir` under their names.
    pub(crate) fn pinned(dir: &Path) -> Result<Self, Error> {
        Maps::collect(|name| {
            let path = dir.join(name);
            MapHandle::from_pinned_path(&path).map_err(|source| Error::OpenPin { path, source })
        })
    }

    fn collect<E>(mut open: impl FnMut(&str) -> Result<MapHandle, E>) -> Result<Self, E> {
        let mut map = |name| Ok(Map { name, handle: open(name)? });
        Ok(Maps {
            config: map(abi::MAP_CONFIG)?,
            xsks: map(abi::MAP_XSKS)?,
            prefixes: map(abi::MAP_PREFIXES)?,
            listeners: map(abi::MAP_LISTENERS)?,
            port_ranges: map(abi::MAP_PORT_RANGES)?,
            verdicts: map(abi::MAP_VERDICTS)?,
        })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Map> {
        [
            &self.config,
            &self.xsks,
            &self.prefixes,
            &self.listeners,
            &self.port_ranges,
            &self.verdicts,
        ]
        .into_iter()
    }
}

impl Map {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn max_entries(&self) -> u32 {
        self.handle.max_entries()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The value of `key`, or `None` when it has none.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.handle.lookup(key, MapFlags::ANY).map_err(|source| self.error(source))
    }

    /// The value of `key` summed over all CPUs, of a map of per-CPU `u64`.
    pub(crate) fn sum(&self, key: u32) -> Result<u64, Error> {
        let values = self
            .handle
            .lookup_percpu(key.as_bytes(), MapFlags::ANY)
            .map_err(|source| self.error(source))?;
        let values = values.unwrap_or_default();
        let each = values.iter().filter_map(|value| u64::read_from_bytes(value).ok());
        Ok(each.fold(0, u64::wrapping_add))
    }

    pub(crate) fn set<V>(&self, key: &[u8], value: &V) -> Result<(), Error>
    where
        V: IntoBytes + Immutable + ?Sized,
    {
        self.handle
            .update(key, value.as_bytes(), MapFlags::ANY)
            .map_err(|source| self.error(source))
    }

    /// Returns whether the key was there.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        match self.handle.delete(key) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.error(source)),
        }
    }

    /// The keys, at most as many as the map has room for: while others write, the kernel may walk
    /// in circles.
    pub(crate) fn keys<K: FromBytes>(&self) -> impl Iterator<Item = K> {
        let keys = self.handle.keys().take(self.max_entries() as usize);
        keys.filter_map(|bytes| K::read_from_bytes(&bytes).ok())
    }

    fn error(&self, source: libbpf_rs::Error) -> Error {
        Error::Map { map: self.name, max_entries: self.max_entries(), source }
    }
}
