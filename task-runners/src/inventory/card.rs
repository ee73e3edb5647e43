//! What one look at a script's file gives, and who gives it by a script's name.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use executor_core::{ScriptName, ScriptSource, StartError, inspect};

use crate::header::{self, HEAD_BYTES, Header};

/// What a script's file says of itself. Only scripts that the engine would run have one.
#[derive(Debug, PartialEq)]
pub(crate) struct Card {
    /// SHA-256 of the file, hexadecimal.
    pub(crate) sha256: String,
    /// What its first lines say.
    pub(crate) header: Arc<Header>,
}

/// A source of scripts that knows what they say of themselves.
pub(crate) trait ScriptCards: ScriptSource {
    /// What the script says whose file this source would give now.
    ///
    /// # Errors
    /// Why it would give none, or cannot be read.
    fn card(&self, name: &ScriptName) -> Result<Arc<Card>, StartError>;
}

impl Card {
    /// Looks at an open file from its beginning.
    ///
    /// # Errors
    /// When the engine would not run it, or it cannot be read.
    pub(crate) fn of(mut file: File, name: &ScriptName) -> Result<Arc<Self>, StartError> {
        let sha256 = inspect(&mut file, name)?;
        let head = head(&mut file).map_err(|source| StartError::Host {
            operation: format!("read the header of the script {name}"),
            source,
        })?;
        Ok(Arc::new(Self { sha256, header: Arc::new(header::read(&head)) }))
    }
}

/// The first bytes of a script.
pub(crate) fn head(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}
