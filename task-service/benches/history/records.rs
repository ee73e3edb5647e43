//! Records of tasks as the engine leaves them: a folder for each, with the files that a real task has in its own.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use task_service::TaskId;

use crate::filled::Result;

/// Gives so many of the oldest tasks a record with the same files as that of this one.
pub(crate) fn write(state: &Path, like: &TaskId, tasks: usize) -> Result<()> {
    let begun = Instant::now();
    let root = state.join("tasks");
    let files = files(&root.join(like.as_str()))?;
    let db = Connection::open(state.join("agent.db"))?;
    let mut oldest = db.prepare("SELECT id FROM task ORDER BY seq LIMIT ?1")?;
    let ids: rusqlite::Result<Vec<String>> =
        oldest.query_map([i64::try_from(tasks)?], |row| row.get(0))?.collect();
    for id in ids? {
        let folder = root.join(id);
        DirBuilder::new().mode(0o700).create(&folder)?;
        for file in &files {
            let mut options = OpenOptions::new();
            let new = options.write(true).create_new(true).mode(file.mode).open(folder.join(&file.name));
            new?.write_all(&file.content)?;
        }
    }
    // Afterwards the disk has nothing to do but what is measured.
    nix::unistd::syncfs(File::open(&root)?)?;
    println!(
        "records             {:>9.1} s for those of the {tasks} oldest tasks, {} files each",
        begun.elapsed().as_secs_f64(),
        files.len()
    );
    Ok(())
}

struct RecordFile {
    name: std::ffi::OsString,
    mode: u32,
    content: Vec<u8>,
}

fn files(record: &Path) -> Result<Vec<RecordFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(record)? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o7777;
        files.push(RecordFile { name: entry.file_name(), mode, content: std::fs::read(entry.path())? });
    }
    Ok(files)
}
