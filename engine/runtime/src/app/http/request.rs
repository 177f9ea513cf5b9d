//! From the bytes of a request head to the reply it deserves. Parsing is `httparse`'s; what the
//! headers mean for the connection is decided here. Nothing is kept between two heads.

use super::reply::{After, Reply, Status};
use barewire_api::config::APP_BYTES_MAX;
use httparse::{Error, Header, Request};

/// Headers of one request.
const HEADERS_MAX: usize = 64;

/// What the front of a receive buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// No whole head yet.
    Partial,
    /// A head of so many bytes, and what to answer.
    Whole(usize, Reply),
}

/// Reads a head of at most `head_max` bytes; `root_bytes` is the size of the body at `/`. A head
/// that can be no request is answered at once, with nothing taken.
pub(super) fn parse(bytes: &[u8], head_max: usize, root_bytes: u32) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= head_max => {
            Head::Whole(len, answer(&request, root_bytes))
        }
        Ok(httparse::Status::Partial) if bytes.len() <= head_max => Head::Partial,
        Ok(_) | Err(Error::TooManyHeaders) => Head::Whole(0, Reply::refusal(Status::HeadTooLarge)),
        Err(Error::Version) => Head::Whole(0, Reply::refusal(Status::VersionNotSupported)),
        Err(_) => Head::Whole(0, Reply::refusal(Status::BadRequest)),
    }
}

fn answer(request: &Request<'_, '_>, root_bytes: u32) -> Reply {
    let is_1_1 = request.version == Some(1);
    // RFC 9112 section 3.2: one Host with HTTP/1.1, no more with any version.
    let hosts = fields(request.headers, "host").count();
    if hosts > 1 || (is_1_1 && hosts == 0) {
        return Reply::refusal(Status::BadRequest);
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Reply::refusal(Status::MethodNotAllowed),
    };
    if announces_body(request.headers) {
        return Reply::refusal(Status::ContentTooLarge);
    }
    let after = after(request.headers, is_1_1);
    match content_bytes(request.path.unwrap_or(""), root_bytes) {
        Some(n) => Reply::content(n, head_only, after),
        None => Reply::not_found(head_only, after),
    }
}

/// The values of a header, in order.
fn fields<'h>(headers: &'h [Header<'_>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
}

/// A body follows the head (RFC 9112 section 6.3), and we take none.
fn announces_body(headers: &[Header<'_>]) -> bool {
    fields(headers, "transfer-encoding").next().is_some()
        || fields(headers, "content-length").any(|length| length != b"0")
}

/// Whether the connection stays open (RFC 9112 section 9.3).
fn after(headers: &[Header<'_>], is_1_1: bool) -> After {
    let says = |word: &str| {
        fields(headers, "connection")
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    match is_1_1 {
        _ if says("close") => After::Close,
        true => After::Stay,
        false if says("keep-alive") => After::SayStay,
        false => After::Close,
    }
}

/// Size of what is at a target, in origin form or absolute form (RFC 9112 section 3.2); a query is
/// ignored.
fn content_bytes(target: &str, root_bytes: u32) -> Option<u32> {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path == "/" {
        return Some(root_bytes);
    }
    let digits = path.strip_prefix("/bytes/")?;
    let only_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let n = digits.parse::<u32>().ok().filter(|_| only_digits)?;
    (u64::from(n) <= APP_BYTES_MAX).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 8192;

    fn reply(text: &str) -> Reply {
        match parse(text.as_bytes(), MAX, 64) {
            Head::Whole(_, reply) => reply,
            Head::Partial => panic!("partial: {text}"),
        }
    }

    #[test]
    fn targets_have_sizes() {
        for (target, n) in [
            ("/", Some(64)),
            ("/?q=1", Some(64)),
            ("http://10.0.0.2:80/bytes/5", Some(5)),
            ("http://10.0.0.2", Some(64)),
            ("/bytes/0", Some(0)),
            ("/bytes/67108864", Some(1 << 26)),
            ("/bytes/67108865", None),
            ("/bytes/99999999999999999999", None),
            ("/bytes/+5", None),
            ("/bytes/", None),
            ("/bytes/5/", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(content_bytes(target, 64), n, "{target}");
        }
    }

    #[test]
    fn a_connection_stays_open_as_version_and_headers_say() {
        for (text, after) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", After::Stay),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, CLOSE\r\n\r\n", After::Close),
            ("GET / HTTP/1.0\r\n\r\n", After::Close),
            ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", After::SayStay),
        ] {
            assert_eq!(reply(text), Reply::content(64, false, after), "{text}");
        }
        let head = reply("HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(head, Reply::not_found(true, After::Stay));
    }

    #[test]
    fn what_is_no_request_of_ours_is_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(MAX));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(64));
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("G\0T / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("\x16\x03\x01\x02", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Status::BadRequest),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
                Status::MethodNotAllowed,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", Status::ContentTooLarge),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                Status::ContentTooLarge,
            ),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Status::VersionNotSupported),
            (long.as_str(), Status::HeadTooLarge),
            (&long[..MAX + 1], Status::HeadTooLarge),
            (many.as_str(), Status::HeadTooLarge),
        ] {
            assert_eq!(reply(text), Reply::refusal(status), "{text}");
        }
        assert_eq!(parse(&long.as_bytes()[..MAX], MAX, 64), Head::Partial);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_a_head_is_never_longer_than_they_are(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            prefix in prop::sample::select(vec!["", "GET / HTTP/1.1\r\n", "GET /bytes/"]),
        ) {
            let bytes = [prefix.as_bytes(), &bytes].concat();
            if let Head::Whole(len, _) = parse(&bytes, MAX, 64) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
