//! The way through an HTTP proxy (`CONNECT`, RFC 9110, section 9.3.6). The proxy sees where the node wants to go and how many
//! bytes; what these say is between the node and its API server. Its answer is bounded in bytes and in time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Failure, Place, connect as connect_to, place};

/// Most bytes of the head of an answer.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// Time in which the whole head has to be there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Most characters of a proxy's own words that are passed on.
const MAX_REASON_CHARS: usize = 100;

/// A connection to a place, by a proxy that was asked for it and told who calls.
pub(super) async fn connect(
    proxy: &str,
    authorization: Option<&str>,
    target: &Place,
) -> Result<TcpStream, Failure> {
    let mut tcp = connect_to(&place(proxy, 80)?).await?;
    let failed = |problem: &str| Failure::Away(format!("the proxy {proxy} {problem}"));
    let asked = async {
        tcp.write_all(request(authorization, target).as_bytes()).await?;
        head(&mut tcp).await
    };
    let answer = timeout(ANSWER_WITHIN, asked).await;
    let answer =
        answer.map_err(|_| failed(&format!("did not answer within {} s", ANSWER_WITHIN.as_secs())))?;
    let head = answer.map_err(|error| failed(&format!("gave no answer: {error}")))?;
    let (status, reason) = status_of(&head).ok_or_else(|| failed("answers as no HTTP proxy does"))?;
    match status {
        200..=299 => Ok(tcp),
        407 if authorization.is_some() => Err(Failure::Refused(format!(
            "the proxy {proxy} answered 407 {reason}: it does not take what node.proxy_credentials_file holds; \
             expected the user and the password that it knows, as user:password"
        ))),
        407 => Err(Failure::Refused(format!(
            "the proxy {proxy} answered 407 {reason}: it wants to know who calls; expected \
             node.proxy_credentials_file, a file with user:password"
        ))),
        401 | 403 => Err(Failure::Refused(format!(
            "the proxy {proxy} answered {status} {reason}: it lets nobody through to {target}; expected a proxy that \
             permits CONNECT to that host and port"
        ))),
        _ => Err(failed(&format!("answered {status} {reason} when asked for {target}"))),
    }
}

fn request(authorization: Option<&str>, target: &Place) -> String {
    let header = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{header}\r\n")
}

/// The head of an answer. Behind it nothing may have come: it is the node that speaks first.
async fn head(tcp: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    let mut chunk = [0; 512];
    loop {
        let count = tcp.read(&mut chunk).await?;
        if count == 0 {
            return Err(std::io::Error::other("it closed the connection"));
        }
        head.extend_from_slice(&chunk[..count]);
        match head.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(at) if at + 4 == head.len() || !is_success(&head) => return Ok(head),
            Some(_) => return Err(std::io::Error::other("there are bytes behind its answer")),
            None if head.len() > MAX_HEAD_BYTES => {
                return Err(std::io::Error::other(format!("it is longer than {MAX_HEAD_BYTES} bytes")));
            }
            None => {}
        }
    }
}

fn is_success(head: &[u8]) -> bool {
    status_of(head).is_some_and(|(status, _)| (200..300).contains(&status))
}

/// The number and the words of a status line; the words without what would spoil a log.
fn status_of(head: &[u8]) -> Option<(u16, String)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, reason) = rest.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let status = digits.parse().ok()?;
    let reason = String::from_utf8_lossy(reason);
    let reason = reason.trim().chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
    Some((status, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_asked_for_the_host_and_told_who_calls() {
        let target = Place { host: "::1".to_owned(), port: 8848 };
        assert_eq!(
            request(Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), &target),
            "CONNECT [::1]:8848 HTTP/1.1\r\nHost: [::1]:8848\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_proxy_answers_is_a_status_with_few_plain_words_or_none(
            head in proptest::prelude::any::<Vec<u8>>(),
            is_http in proptest::prelude::any::<bool>(),
        ) {
            let head = if is_http { [b"HTTP/1.1 2", head.as_slice()].concat() } else { head };
            if let Some((status, reason)) = status_of(&head) {
                assert!(status < 1000 && reason.chars().count() <= MAX_REASON_CHARS);
                assert!(!reason.contains(char::is_control));
            }
        }
    }

    #[test]
    fn a_status_line_is_read_and_what_would_spoil_a_log_is_not() {
        assert_eq!(status_of(b"HTTP/1.1 200\r\n\r\n"), Some((200, String::new())));
        let read = status_of(b"HTTP/1.0 407 Who \x1b[31mare you\r\nx: y\r\n\r\n");
        assert_eq!(read, Some((407, "Who [31mare you".to_owned())));
        for wrong in
            ["", "HTTP/2 200 OK\r\n", "HTTP/1.1 +20\r\n", "HTTP/1.1 2", "SSH-2.0-x\r\n", "HTTP/1.1 abc\r\n"]
        {
            assert_eq!(status_of(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
