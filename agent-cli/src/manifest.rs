//! `agent-cli manifest`: makes, checks and signs what vouches for the scripts.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use executor_integrity::{
    CreateOptions, MANIFEST_NAME, PublicKey, SIGNATURE_NAME, SecretKey, VerifyPolicy, create_manifest,
    keygen, sign_manifest, verify,
};
use jiff::Timestamp;
use task_runners::error_chain;

use crate::args::{Global, ManifestCommand};
use crate::context;
use crate::failure::Failure;
use crate::output::{self, count, say};

/// Largest password file, bytes.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// Carries one of the manifest's commands out.
pub(crate) fn run(global: &Global, command: ManifestCommand) -> Result<ExitCode, Failure> {
    match command {
        ManifestCommand::Create { folder, expires, at_least } => {
            create(&context::folder(global, folder)?, expires.as_deref(), at_least)?;
        }
        ManifestCommand::Verify { folder, public_keys } => check(global, folder, &public_keys)?,
        ManifestCommand::Sign { folder, key, password_file } => {
            sign(&context::folder(global, folder)?, &key, password_file.as_deref())?;
        }
        ManifestCommand::Keygen { secret, public, password_file, .. } => {
            make_keys(&secret, &public, password_file.as_deref())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(folder: &Path, expires: Option<&str>, at_least: u64) -> Result<(), Failure> {
    let expires = expires.map(later).transpose()?;
    let options = CreateOptions { expires, at_least_version: at_least };
    let manifest = create_manifest(folder, &options).map_err(|error| failed(&error))?;
    output::print(&folder.join(MANIFEST_NAME).display().to_string());
    let (files, version) = (files(manifest.entries().len()), manifest.header().version);
    say(&format!("{files}, version {version}, digest {}", manifest.digest()));
    if folder.join(SIGNATURE_NAME).exists() {
        say("the signature beside it is of the previous manifest: sign it again (agent-cli manifest sign)");
    }
    Ok(())
}

fn check(global: &Global, folder: Option<PathBuf>, public_keys: &[String]) -> Result<(), Failure> {
    let keys = match public_keys {
        [] => context::settings(global)?.scripts().public_keys,
        keys => keys
            .iter()
            .map(|key| PublicKey::parse(key))
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))?,
    };
    let folder = context::folder(global, folder)?;
    let policy = VerifyPolicy::default().public_keys(keys);
    let verified = verify(&folder, &policy).map_err(|error| failed(&error))?;
    let manifest = &verified.manifest;
    let signed = verified
        .signed_by
        .map_or_else(|| "not checked for a signature".to_owned(), |key| format!("signed by {}", key.id()));
    let (files, version) = (files(manifest.entries().len()), manifest.header().version);
    output::print(&format!(
        "{}: verified, {files}, version {version}, {signed}, digest {}",
        folder.display(),
        manifest.digest()
    ));
    Ok(())
}

fn sign(folder: &Path, key: &Path, password_file: Option<&Path>) -> Result<(), Failure> {
    let password = password_file.map(password).transpose()?;
    let key = SecretKey::load(key, password.as_deref()).map_err(|error| {
        let failure = failed(&error);
        match error {
            executor_integrity::KeyError::PasswordNeeded { .. } => failure
                .with_details(vec!["give it with --password-file FILE, or - for standard input".to_owned()]),
            _ => failure,
        }
    })?;
    let public = sign_manifest(folder, &key).map_err(|error| failed(&error))?;
    output::print(&folder.join(SIGNATURE_NAME).display().to_string());
    say(&format!("signed by {}; agents that trust it have this key in their configuration:", public.id()));
    say(&format!("manifest_public_keys = [\"{public}\"]"));
    Ok(())
}

fn make_keys(secret: &Path, public: &Path, password_file: Option<&Path>) -> Result<(), Failure> {
    let password = password_file.map(password).transpose()?;
    let key = keygen(secret, public, password.as_deref()).map_err(|error| failed(&error))?;
    output::print(&key.to_string());
    say(&format!("secret key in {}, public key in {}", secret.display(), public.display()));
    say(&format!("into the configuration of agents: manifest_public_keys = [\"{key}\"]"));
    Ok(())
}

fn files(number: usize) -> String {
    count(number as u64, "file")
}

/// The first line of a file, or of standard input where the file is `-`.
fn password(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_PASSWORD_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_PASSWORD_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::new(format!("cannot read the password from {}: {error}", path.display())))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::new(format!("the password in {} is empty", path.display())));
    }
    Ok(line.to_owned())
}

/// A point in time that has not come yet: a manifest that has expired already would stop every run.
fn later(text: &str) -> Result<Timestamp, Failure> {
    let time = time(text)?;
    if time > Timestamp::now() {
        return Ok(time);
    }
    Err(Failure::new(format!("'{text}' has passed already; a manifest expires in the future")))
}

/// A point in time as RFC 3339 writes it.
fn time(text: &str) -> Result<Timestamp, Failure> {
    text.parse().map_err(|_| {
        Failure::new(format!("'{text}' is no time; write it as 2027-01-01T00:00:00Z (RFC 3339)"))
    })
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(error_chain(error))
}
