//! The manifest's reader on whatever bytes there are.

use std::collections::BTreeMap;

use executor_integrity::{Digest, Header, Manifest, RelativeName};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// Lines that come close to being right, so that the reader's branches are reached.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..40),
        "[0-9a-f]{63,65}[ *]{1,2}[a-z./]{0,9}\r?".prop_map(String::into_bytes),
        "#? ?(version|created|expires|Version):? ?[0-9TZ:+-]{0,20}".prop_map(String::into_bytes),
    ]
}

fn entries() -> impl Strategy<Value = BTreeMap<RelativeName, Digest>> {
    let name = "[A-Za-z0-9_][A-Za-z0-9._-]{0,9}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,9}){0,7}"
        .prop_filter("the manifest lists no manifest", |name| !name.starts_with("MANIFEST"));
    btree_map(name, any::<u64>(), 0..20).prop_map(|entries| {
        let entry = |(name, seed): (String, u64)| {
            (RelativeName::new(&name).unwrap(), Digest::of(&seed.to_le_bytes()))
        };
        entries.into_iter().map(entry).collect()
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused_with_a_problem(lines in vec(line(), 0..20)) {
        let bytes = lines.join(&b'\n');
        match Manifest::parse(&bytes) {
            Ok(manifest) => {
                prop_assert_eq!(manifest.digest(), Digest::of(&bytes));
                prop_assert_eq!(manifest.as_bytes(), bytes);
            }
            Err(error) => prop_assert!(!error.problems().as_slice().is_empty()),
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_made(
        version: u64,
        seconds in proptest::option::of(0_i64..4_000_000_000),
        entries in entries(),
    ) {
        let time = seconds.map(|seconds| jiff::Timestamp::from_second(seconds).unwrap());
        let made = Manifest::new(Header { version, created: time, expires: time }, entries);
        prop_assert_eq!(Manifest::parse(made.as_bytes()).unwrap(), made);
    }

    #[test]
    fn a_manifest_with_any_one_byte_changed_is_another_or_refused(
        entries in entries(),
        at: prop::sample::Index,
        change in 1_u8..,
    ) {
        let made = Manifest::new(Header { version: 1, ..Default::default() }, entries);
        let mut bytes = made.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(read) = Manifest::parse(&bytes) {
            prop_assert_ne!(read.digest(), made.digest());
        }
    }
}
