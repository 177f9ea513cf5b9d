//! Target `control`: what arrives on the control socket, from a client at the daemon and from the
//! daemon at a client. The input is lines; each is read as a request and as a response. What is
//! accepted must survive being written and read again, within the bounds that both sides keep.

use barewire_api::Config;
use barewire_api::control::{
    PAYLOAD_BYTES_MAX, REQUEST_BYTES_MAX, Request, Response, from_hex, from_line, to_hex, to_line,
};

/// Reads some lines.
pub fn run(bytes: &[u8]) {
    for line in bytes.split(|&byte| byte == b'\n') {
        if let Ok(request) = from_line::<Request>(line) {
            asked(&request);
        }
        if let Ok(response) = from_line::<Response>(line) {
            answered(&response);
        }
    }
}

fn asked(request: &Request) {
    let line = to_line(request);
    assert!(line.ends_with('\n') && !line.trim_end().contains('\n'), "one line: {line}");
    let again = from_line::<Request>(line.as_bytes()).expect("what we write");
    assert_eq!(&again, request, "{line}");
    match request {
        Request::Send { payload, .. } => {
            if let Ok(bytes) = payload.bytes() {
                assert!((1..=PAYLOAD_BYTES_MAX).contains(&bytes.len()));
                assert!(line.len() <= REQUEST_BYTES_MAX, "a full payload fits");
                assert_eq!(from_hex(&to_hex(&bytes)), Ok(bytes));
            }
        }
        Request::LoadStart { plan } => {
            let config = Config::default();
            // The daemon asks before it starts; a refusal is an answer too.
            if let Err(error) = plan.check(&config.interface, &config.tcp) {
                assert!(!error.to_string().is_empty());
            }
        }
        Request::ListenAdd { listen } => {
            let config = Config::default();
            if let Err(error) = config.check_listener(listen, &config.listen) {
                assert!(!error.to_string().is_empty());
            }
        }
        _ => {}
    }
}

fn answered(response: &Response) {
    let line = to_line(response);
    let again = from_line::<Response>(line.as_bytes()).expect("what we write");
    assert_eq!(to_line(&again), line);
    match response {
        Response::Received { hex, .. } => {
            let _ = from_hex(hex).map(|bytes| assert_eq!(to_hex(&bytes), hex.to_lowercase()));
        }
        Response::Status(status) => {
            for worker in &status.workers {
                let _ = (worker.frames.balances(), worker.frames.merged(&worker.frames));
            }
        }
        _ => {}
    }
}
