//! How the command ends: the exit status that scripts rely on and the sentence that people read.

use std::io;
use std::path::Path;

use barewire_api::ConfigError;
use barewire_api::text::SyntaxError;

/// How a command that could do its work came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Status 0.
    Passed,
    /// Status 1: what was tried did not work out or did not meet its expectation; already printed.
    Failed,
}

/// Why a command could not do its work. Each text says what was expected, found, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Status 2: flags, configuration, or a request that the daemon refuses.
    #[error("{0}")]
    Usage(String),
    /// Status 3: no daemon, no permission, no such file.
    #[error("{0}")]
    Environment(String),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// The exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Environment(_) | Error::Output(_) => 3,
        }
    }

    /// True when the reader of our output has gone, as `head` does: no error of ours.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// `what` could not be done with the file at `path`.
    pub(crate) fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        Error::Environment(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Usage(error.to_string())
    }
}

impl From<SyntaxError> for Error {
    fn from(error: SyntaxError) -> Self {
        Error::Usage(error.to_string())
    }
}
