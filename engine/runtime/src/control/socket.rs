//! The control socket in the file system: made for its owner alone, never in place of a socket that
//! somebody answers, and removed at the end. Who may speak is decided here, what is said is not
//! known here.

use crate::sys::peer::PeerCredentials;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const ROOT: u32 = 0;

/// A control socket that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another engine is there.
    #[error(
        "a daemon answers at the control socket {0} already: stop it with `barewire --control {0} \
         stop`, or give this one another path with --control"
    )]
    Live(String),
    /// Something else is there.
    #[error(
        "expected no file or an old socket at the control path {0}, found {1}: remove it, or choose \
         another path with --control"
    )]
    NotASocket(String, &'static str),
    /// The kernel refused.
    #[error("cannot make the control socket {path}: {source}")]
    Make {
        /// Where.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// A listening control socket. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: only our own is removed.
    file: (u64, u64),
    own_uid: u32,
}

/// A connection that is not served.
#[derive(Debug)]
pub(super) struct Stranger {
    pub(super) stream: UnixStream,
    pub(super) uid: u32,
}

impl ControlSocket {
    /// Listens at `path`. A socket that a killed engine left there is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let make = |source| SocketError::Make { path: path.display().to_string(), source };
        clear_place(path)?;
        let listener = UnixListener::bind(path).map_err(make)?;
        // Until the mode is set others may connect, but each is asked who it is before it is heard.
        let metadata = fs::set_permissions(path, Permissions::from_mode(0o600))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| fs::symlink_metadata(path))
            .map_err(make)?;
        Ok(ControlSocket {
            listener,
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
            own_uid: PeerCredentials::own_uid(),
        })
    }

    /// The next connection that waits, if its process belongs to us or to root.
    pub(super) fn accept(&self) -> Option<Result<UnixStream, Stranger>> {
        let (stream, _) = self.listener.accept().ok()?;
        let peer = PeerCredentials::of(&stream).ok()?;
        if peer.uid == self.own_uid || peer.uid == ROOT {
            return Some(Ok(stream));
        }
        Some(Err(Stranger { stream, uid: peer.uid }))
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let file = fs::symlink_metadata(&self.path).map(|file| (file.dev(), file.ino()));
        if file.is_ok_and(|file| file == self.file) {
            // Whoever removed it in between did our work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket that nobody answers; refuses everything else that is there.
fn clear_place(path: &Path) -> Result<(), SocketError> {
    let text = || path.display().to_string();
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let kind = metadata.file_type();
    if !kind.is_socket() {
        let found = match (kind.is_symlink(), kind.is_dir()) {
            (true, _) => "a symbolic link",
            (_, true) => "a directory",
            _ => "a file of another kind",
        };
        return Err(SocketError::NotASocket(text(), found));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| SocketError::Make { path: text(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Also an error such as a full backlog: somebody listens there.
        Ok(_) | Err(_) => Err(SocketError::Live(text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("barewire-socket-{}-{name}", std::process::id()));
            fs::create_dir(&dir).expect("a fresh directory");
            Place(dir)
        }

        fn path(&self) -> PathBuf {
            self.0.join("control.sock")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    #[test]
    fn the_socket_is_for_its_owner_and_goes_with_it() {
        let place = Place::new("owner");
        let socket = ControlSocket::bind(&place.path()).expect("binds");
        let mode = fs::metadata(place.path()).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let _client = UnixStream::connect(place.path()).expect("listens");
        assert!(matches!(socket.accept(), Some(Ok(_))));
        assert!(socket.accept().is_none());
        drop(socket);
        assert!(!place.path().exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let place = Place::new("stale");
        drop(UnixListener::bind(place.path()).expect("binds"));
        assert!(place.path().exists(), "a plain listener leaves its file");
        let socket = ControlSocket::bind(&place.path()).expect("replaces it");
        let error = ControlSocket::bind(&place.path()).expect_err("one is enough").to_string();
        assert!(error.contains("a daemon answers at"), "{error}");
        drop(socket);
    }

    #[test]
    fn what_is_no_socket_is_refused_and_stays() {
        let place = Place::new("other");
        let elsewhere = place.0.join("elsewhere");
        symlink(&elsewhere, place.path()).expect("a link");
        let error = ControlSocket::bind(&place.path()).expect_err("a link").to_string();
        assert!(error.contains("found a symbolic link"), "{error}");
        assert!(!elsewhere.exists());
        fs::remove_file(place.path()).expect("still there");
        fs::write(place.path(), "precious").expect("a file");
        ControlSocket::bind(&place.path()).expect_err("a file");
        assert_eq!(fs::read(place.path()).expect("still there"), b"precious");
    }
}
