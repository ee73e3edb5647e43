//! Files that cannot be configuration give a clean error and never hang.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use agent_config::{ConfigError, Settings, Sources};

use crate::Place;

fn error_of(place: &Place, path: &Path) -> ConfigError {
    let sources = Sources { config_file: Some(path.to_path_buf()), ..place.sources() };
    let error = Settings::load(sources).expect_err("the file is unreadable");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn a_named_file_that_is_absent_is_an_error() {
    let place = Place::new();
    let error = error_of(&place, &place.path().join("absent.toml"));
    assert!(matches!(error, ConfigError::Read { .. }), "{error:?}");
}

#[test]
fn a_fifo_a_socket_a_device_and_a_folder_are_refused_at_once() {
    let place = Place::new();
    let fifo = place.path().join("fifo.toml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = place.path().join("socket.toml");
    let _listener = UnixListener::bind(&socket).unwrap();
    let folder = place.path();
    for path in [&fifo, &socket, &folder, Path::new("/dev/zero"), Path::new("/dev/tty")] {
        let error = error_of(&place, path);
        assert!(matches!(error, ConfigError::NotAFile { .. }), "{error:?}");
    }
}

#[test]
fn a_fifo_in_the_current_folder_is_refused_at_once() {
    let place = Place::trusted();
    let fifo = place.write("etc/application.toml", "");
    fs::remove_file(&fifo).unwrap();
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let error = Settings::load(place.sources()).unwrap_err();
    assert!(matches!(error, ConfigError::NotAFile { .. }), "{error:?}");
}

#[test]
fn a_file_of_16_mebibytes_is_read_and_one_more_byte_is_too_large() {
    let place = Place::new();
    let mut text = b"http.port = 1 #".to_vec();
    text.resize(16 << 20, b'x');
    let path = place.write("large.toml", &text);
    let sources = Sources { config_file: Some(path.clone()), ..place.sources() };
    assert_eq!(Settings::load(sources).unwrap().settings.http.port, 1);
    text.push(b'x');
    fs::write(&path, &text).unwrap();
    let error = error_of(&place, &path);
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error:?}");
}

/// A sparse file of a tebibyte must not be read whole before it is refused.
#[test]
fn an_enormous_file_is_too_large() {
    let place = Place::new();
    let path = place.write("sparse.toml", "");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = error_of(&place, &path);
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error:?}");
}

#[test]
fn bytes_that_are_not_utf8_are_told_with_their_place() {
    let place = Place::new();
    let path = place.write("latin1.toml", b"# caf\xe9\n");
    let error = error_of(&place, &path);
    let at_five = matches!(error, ConfigError::NotUtf8 { offset: 5, .. });
    assert!(at_five, "{error:?}");
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_taken() {
    let place = Place::new();
    let loaded = place.load("\u{feff}[http]\r\nport = 1\r\n").unwrap();
    assert_eq!(loaded.settings.http.port, 1);
    assert_eq!(loaded.origins["http.port"].to_string().rsplit_once(":2:").map(|(_, c)| c), Some("8"));
}
