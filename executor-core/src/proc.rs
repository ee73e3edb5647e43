//! Looks at processes through proc(5).

use std::fs;
use std::io;
use std::sync::OnceLock;

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcStat {
    pub(crate) pid: i32,
    pub(crate) state: u8,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// Clock ticks since boot; together with the boot id and the number it names a process for good.
    pub(crate) start_time: u64,
}

impl ProcStat {
    /// Whether it still executes anything: not a zombie, not dead.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The stat of one process; none when there is no such process (any more).
pub(crate) fn stat(pid: i32) -> Option<ProcStat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The stat of this process.
pub(crate) fn own() -> Option<ProcStat> {
    stat(i32::try_from(std::process::id()).ok()?)
}

/// All processes that can be seen, each looked at when it is asked for, those with the highest numbers first: they
/// are the newest, until numbers begin again, and the likeliest to be gone soon.
pub(crate) fn all() -> io::Result<impl Iterator<Item = ProcStat>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    // What ended since the listing is not there any more.
    Ok(pids.into_iter().rev().filter_map(stat))
}

/// Whether the environment that a process was executed with has a string for which `is_wanted` holds.
pub(crate) fn environment_has(pid: i32, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| environ.split(|&b| b == 0).any(is_wanted))
}

/// What tells this start of the machine from every other one.
pub(crate) fn boot_id() -> io::Result<String> {
    // No process outlives it.
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(KNOWN.get_or_init(|| read.trim().to_owned()).clone())
}

fn parse_stat(bytes: &[u8]) -> Option<ProcStat> {
    // The name in parentheses may hold anything, parentheses too; the last one closes it.
    let close = bytes.iter().rposition(|&b| b == b')')?;
    let pid = std::str::from_utf8(bytes.split(|&b| b == b' ').next()?).ok()?.parse().ok()?;
    let rest = std::str::from_utf8(bytes.get(close + 2..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    Some(ProcStat {
        pid,
        state: *fields.first()?.as_bytes().first()?,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        // Field 22 of the file, counted from 1; the state is field 3.
        start_time: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let line =
            b"42 (a) b (c) S 7 42 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 1 18446744073709551615";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.group, stat.session, stat.start_time), (42, 7, 42, 41, 99));
    }

    #[test]
    fn this_process_is_found_and_live() {
        let own = own().unwrap();
        assert!(own.is_live());
        assert!(all().unwrap().any(|process| process.pid == own.pid));
    }
}
