//! One scan of a scripts folder: which files there are, and many looks at once.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use executor_core::ScriptName;
use executor_integrity::MAX_FOLDER_ENTRIES;

use super::found::Known;
use super::identity::Identity;
use crate::header;

/// Most threads that look at files.
const MAX_THREADS: usize = 8;

/// What lies in a folder.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) scripts: Vec<(ScriptName, Identity)>,
    /// What is left out that should not be, and why.
    pub(crate) left_out: BTreeSet<String>,
    /// The names, with a slash behind, of folders that could not be read just now: what was known in them stands.
    pub(crate) unread: Vec<String>,
}

struct Walk<'a> {
    /// Is told each folder before it is read.
    before: &'a mut dyn FnMut(&Path),
    files: Files,
    /// How many more entries are looked at.
    left: usize,
    now: SystemTime,
}

/// Finds all executable regular files below `folder` that can be named. Links are not followed, and folders that no
/// script's name can lead into, hidden ones for one, are not looked into. One that cannot be read hides no script
/// outside it. `before` is told each folder before it is read.
///
/// # Errors
/// When `folder` itself cannot be read.
pub(crate) fn files(folder: &Path, before: &mut dyn FnMut(&Path)) -> io::Result<Files> {
    let (files, now) = (Files::default(), SystemTime::now());
    let mut walk = Walk { before, files, left: MAX_FOLDER_ENTRIES, now };
    walk.folder(folder, "")?;
    Ok(walk.files)
}

/// Whether an open file is one that lists show.
pub(crate) fn is_script(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| is_executable_file(&metadata))
}

impl Walk<'_> {
    /// The grammar of names bounds the depth.
    fn folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        (self.before)(folder);
        for entry in fs::read_dir(folder)? {
            if self.left == 0 {
                let most = format!("it has more than {MAX_FOLDER_ENTRIES} entries, the rest is not listed");
                self.files.left_out.insert(most);
                return Ok(());
            }
            self.left -= 1;
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) =
                name.to_str().and_then(|name| format!("{prefix}{name}").parse::<ScriptName>().ok())
            else {
                continue;
            };
            // What went away since the listing is nothing.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                self.inner(&entry.path(), &name);
            } else if is_executable_file(&metadata) {
                self.files.scripts.push((name, Identity::of(&metadata, self.now)));
            }
        }
        Ok(())
    }

    fn inner(&mut self, path: &Path, name: &ScriptName) {
        match self.folder(path, &format!("{name}/")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                if is_passing(&error) {
                    self.files.unread.push(format!("{name}/"));
                }
                let folder = path.display();
                self.files.left_out.insert(format!("the scripts of {folder} are not listed: {error}"));
            }
            _ => {}
        }
    }
}

/// Looks at the files of these names on as many threads as there are processors; what gives none is left out.
pub(crate) fn at_once(
    names: &[ScriptName],
    look: &(dyn Fn(&ScriptName) -> Option<Known> + Sync),
) -> Vec<(ScriptName, Known)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut looked = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            looked.extend(look(name).map(|known| (name.clone(), known)));
        }
        looked
    };
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = processors.min(MAX_THREADS).min(names.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| header::spawn_with_room(scope, work)).collect();
        // Where no thread can be started this one works, and each header waits for a thread of its own.
        let mut looked = if threads.iter().any(Result::is_ok) { Vec::new() } else { work() };
        for thread in threads.into_iter().flatten() {
            // One that panicked has looked at nothing; its files are looked at again the next time.
            looked.extend(thread.join().unwrap_or_default());
        }
        looked
    })
}

/// Whether the same may go well in a moment: it has nothing to do with the file, as it has with one that is closed to us.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn is_executable_file(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.mode() & 0o111 != 0
}
