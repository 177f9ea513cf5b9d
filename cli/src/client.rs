//! One connection to the control socket: a request out, its response in, both bounded in size and in
//! time. What the messages mean is the business of the commands.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barewire_api::config::CONTROL_PATH;
use barewire_api::control::{
    ErrorCode, LoadProgress, PROTOCOL_VERSION, RESPONSE_BYTES_MAX, Request, Response, from_line,
    to_line,
};

use crate::exit::Error;

/// How long the daemon may take to answer a request that waits for nothing.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection to a daemon that speaks our protocol.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    /// Process of the daemon.
    pub(crate) pid: u32,
    /// Number of the statistics page among the daemon's open files.
    pub(crate) page_fd: u32,
}

impl Client {
    /// Connects to the daemon at `control`, or at the usual place, and greets it.
    pub(crate) fn open(control: Option<&Path>) -> Result<Self, Error> {
        let path = control.unwrap_or(Path::new(CONTROL_PATH)).to_owned();
        let stream = UnixStream::connect(&path).map_err(|error| unreachable(&path, &error))?;
        let stream = BufReader::new(stream);
        let mut client = Client { stream, path, pid: 0, page_fd: 0 };
        match client.ask(&Request::Hello { protocol: PROTOCOL_VERSION })? {
            Response::Hello { protocol: PROTOCOL_VERSION, pid, page_fd, .. } => {
                Ok(Client { pid, page_fd, ..client })
            }
            Response::Hello { protocol, version, .. } => Err(Error::Environment(format!(
                "the daemon (version {version}) speaks control protocol {protocol}, expected \
                 {PROTOCOL_VERSION}: use the barewire command of the daemon's version"
            ))),
            other => Err(client.unexpected(&other)),
        }
    }

    /// The response to a request that waits for nothing.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Response, Error> {
        self.ask_patiently(request, Duration::ZERO)
    }

    /// The response to a request that may take `wait` before it is due.
    pub(crate) fn ask_patiently(
        &mut self,
        request: &Request,
        wait: Duration,
    ) -> Result<Response, Error> {
        let line = self.exchange(&to_line(request), wait).map_err(|error| {
            let path = self.path.display();
            Error::Environment(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                    "the daemon at {path} did not answer in time: is it stopped or overloaded?"
                ),
                _ => format!("lost the daemon at {path}: {error}; its own output says why"),
            })
        })?;
        match from_line(&line) {
            Ok(Response::Error { code, message }) => Err(refused(code, message)),
            Ok(response) => Ok(response),
            Err(error) => Err(Error::Environment(error.to_string())),
        }
    }

    /// Asks for something that has no result.
    pub(crate) fn order(&mut self, request: &Request) -> Result<(), Error> {
        match self.ask(request)? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// How the load test stands.
    pub(crate) fn load_progress(&mut self) -> Result<LoadProgress, Error> {
        match self.ask(&Request::LoadStatus)? {
            Response::Load(progress) => Ok(*progress),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The error for a response to another request.
    pub(crate) fn unexpected(&self, response: &Response) -> Error {
        let mut text = to_line(response);
        text.truncate(text.floor_char_boundary(80));
        Error::Environment(format!(
            "the daemon at {} gave an answer that does not fit the request: {}",
            self.path.display(),
            text.trim_end()
        ))
    }

    fn exchange(&mut self, request: &str, wait: Duration) -> std::io::Result<Vec<u8>> {
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX + wait))?;
        stream.write_all(request.as_bytes())?;
        let mut line = Vec::new();
        self.stream.by_ref().take(RESPONSE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.last() == Some(&b'\n') {
            return Ok(line);
        }
        Err(match line.len() {
            RESPONSE_BYTES_MAX => std::io::Error::other("its answer is too long"),
            _ => std::io::Error::other("it closed the connection"),
        })
    }
}

fn unreachable(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::Environment(match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!(
            "no daemon listens at {path}: start one with `barewire serve`, or name its socket with \
             --control"
        ),
        ErrorKind::PermissionDenied => {
            format!("may not talk to the daemon at {path}: use the account that runs it")
        }
        _ => format!("cannot reach the daemon at {path}: {error}"),
    })
}

fn refused(code: ErrorCode, message: String) -> Error {
    match code {
        ErrorCode::Busy | ErrorCode::TimedOut | ErrorCode::Stopping => Error::Environment(message),
        ErrorCode::BadRequest
        | ErrorCode::TooLong
        | ErrorCode::BadVersion
        | ErrorCode::NotFound
        | ErrorCode::Refused => Error::Usage(message),
    }
}
