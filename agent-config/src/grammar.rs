//! What names, patterns and keys look like. Each function takes one text whole or not at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name of an agent, a token or a shared working folder, in bytes.
const NAME_BYTES: usize = 64;
/// The longest name of a user or group, in bytes (useradd(8): LOGIN_NAME_MAX).
const ACCOUNT_BYTES: usize = 256;
/// The longest pattern for scripts in bytes, and its most segments: those of a script's name.
const PATTERN_BYTES: usize = 255;
const PATTERN_SEGMENTS: usize = 8;
/// The longest name of a host, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES: usize = 253;

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= NAME_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A name that a node may have: `/api/v1/nodes/connect` is where nodes come, so that none could be shown that is called so.
pub(crate) fn is_node_name(text: &str) -> bool {
    is_name(text) && text != "connect"
}

/// `[A-Za-z_][A-Za-z0-9_]*`.
pub(crate) fn is_variable(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A variable's name, or the beginning of one and `*`, or `*` alone.
pub(crate) fn is_variable_pattern(text: &str) -> bool {
    text == "*" || is_variable(text.strip_suffix('*').unwrap_or(text))
}

/// The name of a user or group. What a host takes for one differs; none takes these characters.
pub(crate) fn is_account(text: &str) -> bool {
    let never = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',');
    (1..=ACCOUNT_BYTES).contains(&text.len()) && !text.contains(never)
}

/// The mode of a socket's file in octal: rights to read and write, those of its owner at least.
pub(crate) fn parse_socket_mode(text: &str) -> Option<u32> {
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok()?;
    (is_octal && mode & !0o666 == 0 && mode & 0o600 == 0o600).then_some(mode)
}

/// The grammar of script names with `*` allowed anywhere in a segment.
pub(crate) fn is_script_pattern(text: &str) -> bool {
    let segments: Vec<&str> = text.split('/').collect();
    text.len() <= PATTERN_BYTES
        && segments.len() <= PATTERN_SEGMENTS
        && segments.iter().all(|segment| {
            let mut bytes = segment.bytes();
            bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'*')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b"._-*".contains(&b))
        })
}

/// An IP address, or `localhost`, which is 127.0.0.1 here.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    if text.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// A host name without scheme and port, in small letters.
pub(crate) fn parse_host_name(text: &str) -> Option<String> {
    let plain = text.len() <= HOST_BYTES
        && text.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    plain.then(|| text.to_ascii_lowercase())
}

/// An origin as browsers send it (RFC 6454, section 6.2): scheme, host and port, in small letters. A port that is the
/// scheme's usual one is never sent, and an IPv6 address in its shortest form only.
pub(crate) fn parse_origin(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://")?;
    let usual_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, parse_port(port)?),
        _ => (authority, usual_port),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().ok()?),
        None => parse_host_name(host)?,
    };
    Some(if port == usual_port { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") })
}

/// `wss://`, host and port; `ws://` to loopback only, since a token would cross the network in clear.
pub(crate) fn is_api_server(text: &str) -> bool {
    let (is_clear, authority) = match (text.strip_prefix("wss://"), text.strip_prefix("ws://")) {
        (Some(authority), _) => (false, authority),
        (None, Some(authority)) => (true, authority),
        (None, None) => return false,
    };
    let (host, has_port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, parse_port(port).is_some()),
        _ => (authority, true),
    };
    let is_loopback =
        host == "localhost" || unbracketed(host).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_host(host) && has_port && (!is_clear || is_loopback)
}

/// `http://`, host and port. There is no usual port of proxies, and a password has no place in it.
pub(crate) fn is_proxy(text: &str) -> bool {
    let authority = text.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':'));
    authority.is_some_and(|(host, port)| is_host(host) && parse_port(port).is_some())
}

/// A name, or an address; that of IPv6 in brackets.
fn is_host(host: &str) -> bool {
    let address = unbracketed(host).parse::<IpAddr>();
    let is_bracketed = unbracketed(host) != host;
    address.is_ok_and(|address| address.is_ipv6() == is_bracketed) || parse_host_name(host).is_some()
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A port that something can listen on, in digits alone.
fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

/// Absolute folders, separated by colons. An empty or relative one would search the folder of whoever runs a script.
pub(crate) fn is_search_path(text: &str) -> bool {
    !text.contains('\0') && text.split(':').all(|folder| folder.starts_with('/'))
}

/// A minisign public key as one word of base64.
pub(crate) fn is_public_key(text: &str) -> bool {
    !text.contains(char::is_whitespace) && executor_integrity::PublicKey::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_pattern_cannot_leave_the_scripts_folder() {
        for right in ["**", "*", "deploy/*", "deploy/**", "db/back*.sh", "a/*/c"] {
            assert!(is_script_pattern(right), "{right}");
        }
        for wrong in ["", "/", "/etc/*", "../x", "a//b", "a/", "a/../b", ".hidden", "a b", "a/b\n"] {
            assert!(!is_script_pattern(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_sockets_mode_lets_its_owner_in_and_nobody_execute_it() {
        for (right, mode) in [("0600", 0o600), ("660", 0o660), ("0666", 0o666), ("0620", 0o620)] {
            assert_eq!(parse_socket_mode(right), Some(mode));
        }
        for wrong in ["", "0", "66", "0400", "0060", "0700", "1600", "0680", "+600", "00600", "rw"] {
            assert_eq!(parse_socket_mode(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_alone() {
        for right in
            ["https://ops.example.com", "http://localhost:3000", "https://[::1]:8443", "https://[::1]"]
        {
            assert_eq!(parse_origin(right).as_deref(), Some(right));
        }
        for (written, sent) in [
            ("HTTPS://Ops.Example.com", "https://ops.example.com"),
            ("https://x:443", "https://x"),
            ("http://x:80", "http://x"),
            ("https://x:80", "https://x:80"),
            ("http://x:0443", "http://x:443"),
            ("https://[0:0::1]:443", "https://[::1]"),
        ] {
            assert_eq!(parse_origin(written).as_deref(), Some(sent));
        }
        for wrong in [
            "",
            "null",
            "*",
            "ops.example.com",
            "https://",
            "https://x/",
            "https://x/path",
            "https://x:port",
            "https://x:",
            "https://x:0",
            "https://x:+1",
            "https://x:65536",
            "https://u@x",
            "ftp://x",
        ] {
            assert_eq!(parse_origin(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_api_server_is_called_in_clear_on_this_host_only() {
        for right in ["wss://api.example.com:8848", "wss://10.0.0.1", "ws://127.0.0.1:8848", "ws://[::1]:1"] {
            assert!(is_api_server(right), "{right}");
        }
        for wrong in [
            "",
            "https://x",
            "ws://api.example.com",
            "ws://10.0.0.1:1",
            "wss://x/path",
            "wss://",
            "wss://u@x",
        ] {
            assert!(!is_api_server(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_proxy_has_a_host_and_a_port_and_no_password() {
        for right in ["http://proxy.example.com:3128", "http://10.0.0.1:8080", "http://[::1]:1"] {
            assert!(is_proxy(right), "{right}");
        }
        for wrong in [
            "",
            "proxy:3128",
            "http://proxy",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://user:password@proxy:3128",
            "http://proxy:3128/",
            "http://proxy:0",
            "http://::1:1",
        ] {
            assert!(!is_proxy(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_address_that_it_stands_for() {
        assert_eq!(parse_address("::ffff:127.0.0.1"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(parse_address("[::1]"), "::1".parse().ok());
        assert_eq!(parse_address("127.1"), None);
        assert_eq!(parse_address("example.com"), None);
    }

    #[test]
    fn a_search_path_names_no_relative_folder() {
        assert!(is_search_path("/usr/bin:/bin"));
        for wrong in ["", "bin", "/bin:", ":/bin", "/bin::/usr/bin", "/bin:."] {
            assert!(!is_search_path(wrong), "{wrong:?}");
        }
    }
}
