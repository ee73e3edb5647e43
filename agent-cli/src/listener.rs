//! Who listens on a port of this host (proc(5), /proc/net/tcp). Ports above 1023 are anybody's: while the service is down,
//! another user could wait there for the token that is sent to it.

use std::fs;
use std::path::Path;

use nix::unistd::{User, geteuid};

use crate::failure::Failure;

/// State of a socket that listens, as the tables have it.
const LISTENS: &str = "0A";
/// The first user that is a person (login.defs(5), UID_MIN). Those below it are the system's own.
const FIRST_PERSON: u32 = 1000;
/// Users that systemd makes for services while these run (systemd.exec(5), DynamicUser), and nobody.
const OF_SERVICES: std::ops::RangeInclusive<u32> = 61_184..=65_534;

/// Refuses a port on which somebody listens who is neither this user, nor the owner of the token's file, nor the system.
///
/// # Errors
/// When it is another one.
pub(crate) fn refuse_strangers(port: u16, token_owner: Option<u32>) -> Result<(), Failure> {
    let stranger = listeners(port).into_iter().find(|uid| is_stranger(*uid, token_owner));
    let Some(name) = stranger.map(name_of) else { return Ok(()) };
    let hint = "a service of another user is called over TLS, https://, which proves who it is";
    Err(Failure::new(format!(
        "on port {port} of this host {name} listens, who would get the token; nothing was sent"
    ))
    .with_hints(vec![hint.to_owned()]))
}

/// Whether a user is neither this one, nor the owner of the token's file, nor the system.
pub(crate) fn is_stranger(uid: u32, token_owner: Option<u32>) -> bool {
    let is_person = uid >= FIRST_PERSON && !OF_SERVICES.contains(&uid);
    is_person && uid != geteuid().as_raw() && Some(uid) != token_owner
}

/// A user in words.
pub(crate) fn name_of(uid: u32) -> String {
    let user = User::from_uid(uid.into()).ok().flatten();
    user.map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// The users that listen on this port, at a loopback address or at all.
fn listeners(port: u16) -> Vec<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| table(Path::new(path)));
    tables.iter().flat_map(|table| table.lines().filter_map(|line| listener(line, port))).collect()
}

/// One that cannot be read shows nobody: there may be no IPv6.
fn table(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The user of a line, where it is that of such a socket.
fn listener(line: &str, port: u16) -> Option<u32> {
    // sl, local_address, rem_address, st, tx_queue:rx_queue, tr:tm->when, retrnsmt, uid
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, its_port) = fields.get(1)?.split_once(':')?;
    let is_meant = u16::from_str_radix(its_port, 16) == Ok(port) && *fields.get(3)? == LISTENS;
    (is_meant && reaches_loopback(address)).then(|| fields.get(7)?.parse().ok())?
}

/// Whether who connects to a loopback address comes to a socket with this one: words in the processor's order.
fn reaches_loopback(address: &str) -> bool {
    let words: Option<Vec<u32>> = address
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok())
        .collect();
    let words: Vec<[u8; 4]> = words.unwrap_or_default().into_iter().map(u32::to_ne_bytes).collect();
    match words[..] {
        [v4] => v4[0] == 127 || v4 == [0; 4],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0xff, 0xff], v4] => v4[0] == 127 || v4 == [0; 4],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], last] => last == [0, 0, 0, 1] || last == [0; 4],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_where_loopback_leads_is_found_and_nobody_else() {
        let at = |address: &str, state: &str| {
            let line = format!(
                "   0: {address}:2290 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1001        0 1 1 0 100 0 0 10 0"
            );
            listener(&line, 0x2290)
        };
        let loopback = format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1]));
        let elsewhere = format!("{:08X}", u32::from_ne_bytes([10, 0, 0, 1]));
        let last = format!("{:08X}", u32::from_ne_bytes([0, 0, 0, 1]));
        let mapped = format!("{:08X}", u32::from_ne_bytes([0, 0, 0xff, 0xff]));
        let zero = "00000000";
        for address in [
            loopback.clone(),
            zero.to_owned(),
            format!("{zero}{zero}{zero}{last}"),
            format!("{zero}{zero}{zero}{zero}"),
            format!("{zero}{zero}{mapped}{loopback}"),
        ] {
            assert_eq!(at(&address, "0A"), Some(1001), "{address}");
            assert_eq!(at(&address, "01"), None, "{address}");
        }
        for address in [
            elsewhere.clone(),
            format!("{zero}{zero}{mapped}{elsewhere}"),
            format!("{elsewhere}{zero}{zero}{last}"),
        ] {
            assert_eq!(at(&address, "0A"), None, "{address}");
        }
        assert_eq!(listener("  sl  local_address rem_address   st tx_queue", 80), None);
    }
}
