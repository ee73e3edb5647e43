//! What 10,000 scripts cost: the time until all are known, the time until one change is, and the memory that they take;
//! unverified and verified.
//!
//! ```text
//! cargo bench --package task-runners --bench catalogue [-- FOLDER [COUNT]]
//! ```
//!
//! FOLDER is where scripts and state go; a memory file system unless it is named. Each script declares three parameters.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use executor_integrity::{CreateOptions, ScriptsSettings, VerificationMode, create_manifest};
use task_runners::Scripts;

const SCRIPTS: usize = 10_000;
/// Scripts in one folder.
const IN_A_FOLDER: usize = 100;
/// Changes whose times the median is taken of.
const CHANGES: usize = 21;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let place = tempfile::tempdir_in(words.next().unwrap_or_else(|| "/dev/shm".to_owned()))?;
    let count = words.next().map_or(Ok(SCRIPTS), |word| word.parse())?;
    let folder = place.path().join("scripts");
    for number in 0..count {
        write(&folder, number, "first")?;
    }
    println!("place        {}, {count} scripts", place.path().display());
    measure("unverified", place.path(), count, VerificationMode::Never)?;
    create_manifest(&folder, &CreateOptions::default())?;
    measure("verified", place.path(), count, VerificationMode::Always)
}

fn measure(what: &str, place: &Path, count: usize, mode: VerificationMode) -> Result<(), Box<dyn Error>> {
    let folder = place.join("scripts");
    let is_verified = mode == VerificationMode::Always;
    let begun = Instant::now();
    let scripts = open(place, mode)?;
    let opened = begun.elapsed();
    let before = memory_kib()?;
    let (begun, busy) = (Instant::now(), processor_time()?);
    expect(&scripts, count)?;
    let (scanned, busy) = (begun.elapsed(), processor_time()? - busy);
    let memory = memory_kib()?.saturating_sub(before);
    let begun = Instant::now();
    expect(&scripts, count)?;
    let again = begun.elapsed();

    let _watch = scripts.watch();
    let mut seen = Vec::new();
    for change in 0..CHANGES {
        let about = format!("change {change}");
        write(&folder, change, &about)?;
        let begun = Instant::now();
        if is_verified {
            create_manifest(&folder, &CreateOptions::default())?;
        }
        let vouched = begun.elapsed();
        let begun = Instant::now();
        until_shown(&scripts, change, &about)?;
        seen.push(begun.elapsed());
        if change == 0 && is_verified {
            println!("  (making a manifest takes {vouched:.0?}, and is not counted below)");
        }
    }
    seen.sort_unstable();
    println!("{what}");
    if is_verified {
        println!("  verified and copied in      {opened:.0?}");
    }
    println!("  all known after             {scanned:.2?}, {busy:.2?} of processor time");
    println!("  known again, none changed   {again:.1?}");
    println!(
        "  one change seen after       {:.0?} (median), {:.0?} (longest)",
        seen[CHANGES / 2],
        seen[CHANGES - 1]
    );
    println!("  memory                      {} KiB, {} bytes a script", memory, memory * 1024 / count as u64);
    Ok(())
}

fn open(place: &Path, verification: VerificationMode) -> Result<Arc<Scripts>, Box<dyn Error>> {
    let settings = ScriptsSettings {
        folder: place.join("scripts"),
        state_dir: place.join("state"),
        verification,
        public_keys: Vec::new(),
    };
    Ok(Arc::new(Scripts::open(settings)?))
}

/// Has all scripts looked at, and none but them.
fn expect(scripts: &Scripts, count: usize) -> Result<(), Box<dyn Error>> {
    let found = scripts.catalogue()?.entries(None, |_| true).filter(|entry| entry.described).count();
    if found == count { Ok(()) } else { Err(format!("{found} scripts instead of {count}").into()) }
}

/// Waits until the catalogue shows the change, without looking into the folder.
fn until_shown(scripts: &Scripts, number: usize, about: &str) -> Result<(), Box<dyn Error>> {
    let name = name(number).parse()?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        let catalogue = scripts.catalogue()?;
        let shown = catalogue.entries(None, |one| *one == name).next();
        if shown.is_some_and(|entry| entry.description.as_deref() == Some(about)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the change is not shown".into())
}

fn name(number: usize) -> String {
    format!("team{}/job{number}.sh", number / IN_A_FOLDER)
}

fn write(folder: &Path, number: usize, about: &str) -> io::Result<()> {
    let path = folder.join(name(number));
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let text = format!(
        "#!/bin/sh\n#TASK description=\"{about}\" group=\"team {number}\" effect=\"write\" timeout=\"10m\"\n\
         #TASK type.replicas=\"int\" min.replicas=1 max.replicas=20 pattern.ref=\"[0-9a-f]{{7,40}}\"\n\
         #USAGE arg \"<service>\" help=\"Service name\" {{ choices \"web\" \"api\" }}\n\
         #USAGE flag \"--replicas <n>\" help=\"Pods\" default=\"2\"\n\
         #USAGE flag \"--ref <commit>\" help=\"What to deploy\"\nset -eu\necho {number}\n{}",
        "# And then it does what it is for, line by line.\n".repeat(20)
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
}

/// Processor time of this program so far: what a machine that others use as well does not change (proc(5), `utime` and
/// `stime` in ticks of 10 ms).
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u64> = behind_name.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
}

/// Resident memory of this program (proc(5)).
fn memory_kib() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
