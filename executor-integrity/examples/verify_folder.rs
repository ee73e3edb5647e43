//! Verifies a scripts folder and prints everything that is wrong with it.
//!
//! ```text
//! cargo run --example verify_folder -- FOLDER [PUBLIC_KEY...]
//! ```
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;

use executor_integrity::{PublicKey, VerifyPolicy, verify};

/// An error that is shown in its own words.
struct Shown(Box<dyn Error>);

impl<E: Error + 'static> From<E> for Shown {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

fn main() -> Result<(), Shown> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().map(PathBuf::from).unwrap_or_default();
    let keys: Vec<PublicKey> =
        arguments.map(|key| PublicKey::parse(&key.to_string_lossy())).collect::<Result<_, _>>()?;

    let verified = verify(&folder, &VerifyPolicy::default().public_keys(keys))?;

    let manifest = verified.manifest;
    println!(
        "{} verifies: {} files, version {}, manifest {}",
        folder.display(),
        manifest.entries().len(),
        manifest.header().version,
        manifest.digest()
    );
    match verified.signed_by {
        Some(key) => println!("signed with key {}", key.id()),
        None => println!("no signature was asked for"),
    }
    Ok(())
}
