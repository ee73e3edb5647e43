//! Sees to it that changes of the scripts folder are known soon, without anybody asking: the kernel tells of them
//! (inotify(7)), a thread looks. Where the kernel does not, the folder is looked at when somebody asks for it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::inventory::SETTLED_AFTER;
use crate::scripts::{LookedAfterChange, Scripts};

/// How long nothing may be told before one looks: what is copied together is looked at once.
const QUIET: Duration = Duration::from_millis(20);
/// How long changes are waited out at most.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the folder's own path is looked at, since nothing tells when another folder comes to lie there.
const TICK: Duration = Duration::from_millis(500);
/// How long something must be wrong before the log tells of it.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// The pause between two looks is so many times as long as the first of them took, so that whoever writes without end
/// keeps a fifth of a core busy, and at most so long.
const PAUSE_PER_LOOK: u32 = 4;
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// The same for verifying where the manifest is the one that is known: then there is nothing new that could be used.
const PAUSE_PER_VERIFICATION: u32 = 20;
const MAX_PAUSE_VERIFICATION: Duration = Duration::from_secs(30);
/// When one looks though nothing was told: of changes through other names of a file, or by other hosts, the kernel says
/// nothing. Verifying has its own pace.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);

/// Watches a scripts folder until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Option<Arc<EventFd>>,
}

struct Watcher {
    scripts: Weak<Scripts>,
    inotify: Inotify,
    stop: Arc<EventFd>,
    folders: HashSet<WatchDescriptor>,
    /// Pause before a further look at files that may still change without showing it.
    unsettled_pause: Duration,
}

/// A look, and what it was at.
struct Look {
    came_to: LookedAfterChange,
    /// Device and inode of the folder.
    folder: Option<(u64, u64)>,
    took: Duration,
    ended: Instant,
}

impl Scripts {
    /// Looks at the folder now, and whenever it changes, on a thread of its own. Where the kernel does not help,
    /// [`ScriptsStatus::unwatched`](crate::ScriptsStatus) says why.
    pub fn watch(self: &Arc<Self>) -> Watch {
        match self.start_watching() {
            Ok(watch) => watch,
            Err(error) => {
                self.note_watch(false, Some(&error));
                Watch { stop: None }
            }
        }
    }

    fn start_watching(self: &Arc<Self>) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (scripts, folders) = (Arc::downgrade(self), HashSet::new());
        let mut watcher =
            Watcher { scripts, inotify, stop: stop.clone(), folders, unsettled_pause: SETTLED_AFTER };
        std::thread::Builder::new().name("catalogue".to_owned()).spawn(move || watcher.run())?;
        Ok(Watch { stop: Some(stop) })
    }

    /// Says whether the folder is watched, and in the log why not when that is new.
    fn note_watch(&self, is_watched: bool, failure: Option<&io::Error>) {
        let unwatched = failure.map(|error| match error.raw_os_error() {
            Some(libc::ENOSPC) => {
                "the limit of watched folders is reached; raise fs.inotify.max_user_watches".to_owned()
            }
            Some(libc::EMFILE) => {
                "the limit of watchers is reached; raise fs.inotify.max_user_instances".to_owned()
            }
            _ => error.to_string(),
        });
        if self.status().unwatched != unwatched {
            match &unwatched {
                Some(why) => tracing::warn!(folder = %self.folder().display(), %why,
                    "changes of the scripts folder are not told of; it is looked at when somebody asks"),
                None => {
                    tracing::info!(folder = %self.folder().display(), "the scripts folder is watched again");
                }
            }
        }
        self.set_watched(is_watched, unwatched);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(stop) = &self.stop {
            // It fails only when the counter is full, and then the thread hears of it already.
            let _ = stop.write(1);
        }
    }
}

impl Watcher {
    fn run(&mut self) {
        let ended = loop {
            let Some(look) = self.look() else { break Ok(()) };
            match self
                .until_something_changed(&look)
                .and_then(|goes_on| Ok(goes_on && self.until_due(&look)?))
            {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Some(scripts) = self.scripts.upgrade() {
            scripts.note_watch(false, ended.as_ref().err());
        }
    }

    /// Watches the folders and looks; none when nobody has the scripts any more.
    fn look(&mut self) -> Option<Look> {
        let scripts = self.scripts.upgrade()?;
        let begun = Instant::now();
        // Before the look, as the watches are set: what comes to lie there afterwards is seen.
        let folder = identity(scripts.folder());
        let (mut folders, mut failure) = (HashSet::new(), None);
        let came_to = scripts.look_after_change(&mut |folder| {
            match self.inotify.add_watch(folder, flags()) {
                Ok(watch) => drop(folders.insert(watch)),
                // It went away since it was listed.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => failure = Some(error.into()),
            }
        });
        for gone in self.folders.difference(&folders) {
            // Of a folder that is no more the kernel has removed it itself.
            let _ = self.inotify.rm_watch(*gone);
        }
        self.folders = folders;
        scripts.note_watch(true, failure.as_ref());
        self.unsettled_pause = match came_to.is_settled {
            true => SETTLED_AFTER,
            false => (self.unsettled_pause * 2).min(LOOK_ANYWAY),
        };
        Some(Look { came_to, folder, took: begun.elapsed(), ended: Instant::now() })
    }

    /// Waits for a reason to look again; false when the watch was ended.
    fn until_something_changed(&self, last: &Look) -> io::Result<bool> {
        let again = match last.came_to {
            LookedAfterChange { is_settled: false, .. } => Some(last.ended + self.unsettled_pause + QUIET),
            LookedAfterChange { is_verified: false, .. } => Some(last.ended + LOOK_ANYWAY),
            _ => None,
        };
        loop {
            let now = Instant::now();
            let left = again.map_or(TICK, |again| again.saturating_duration_since(now).min(TICK));
            if !self.poll(left)? {
                return Ok(false);
            }
            let is_told = self.take_events()?;
            let Some(scripts) = self.scripts.upgrade() else { return Ok(false) };
            scripts.tell_what_stands(TELL_AFTER);
            let is_over = again.is_some_and(|again| Instant::now() >= again);
            if is_told {
                return self.until_quiet();
            }
            if is_over || identity(scripts.folder()) != last.folder {
                return Ok(true);
            }
        }
    }

    /// Waits until whoever writes has finished, or has gone on for too long; false when the watch was ended.
    fn until_quiet(&self) -> io::Result<bool> {
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            if !self.rest(QUIET)? {
                return Ok(false);
            }
            if !self.take_events()? {
                break;
            }
        }
        Ok(true)
    }

    /// Waits until one may look again after the last look; false when the watch was ended.
    fn until_due(&self, last: &Look) -> io::Result<bool> {
        loop {
            let Some(scripts) = self.scripts.upgrade() else { return Ok(false) };
            let pause = match last.came_to.is_verified && !scripts.has_new_manifest() {
                true => (last.took * PAUSE_PER_VERIFICATION).min(MAX_PAUSE_VERIFICATION),
                false => (last.took * PAUSE_PER_LOOK).min(MAX_PAUSE),
            };
            scripts.tell_what_stands(TELL_AFTER);
            drop(scripts);
            let left = (last.ended + pause).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            if !self.rest(left.min(QUIET))? {
                return Ok(false);
            }
            // They are answered by the look that is due.
            self.take_events()?;
        }
    }

    /// Waits for the kernel to tell of something; false when the watch was ended.
    fn poll(&self, timeout: Duration) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
        ];
        wait(&mut fds, timeout)
    }

    /// Waits whatever the kernel has to tell; false when the watch was ended.
    fn rest(&self, time: Duration) -> io::Result<bool> {
        wait(&mut [PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)], time)
    }

    /// Takes all that the kernel has to tell; whether there was anything. What it had no room for is told as well
    /// (IN_Q_OVERFLOW), and every look is at the whole folder.
    fn take_events(&self) -> io::Result<bool> {
        let mut is_told = false;
        loop {
            match self.inotify.read_events() {
                // That a watch is gone: its folder is, which was told, or it was removed here.
                Ok(events) => is_told |= events.iter().any(|event| event.mask != AddWatchFlags::IN_IGNORED),
                Err(Errno::EAGAIN) => return Ok(is_told),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Waits for one of these or for the end of the time; false when the first one, the end of the watch, came.
fn wait(fds: &mut [PollFd<'_>], timeout: Duration) -> io::Result<bool> {
    // Rounded up, so that a time that is nearly over is not waited for again and again.
    let timeout = PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(!fds.first().and_then(PollFd::any).unwrap_or(false)),
        Err(error) => Err(error.into()),
    }
}

/// Tells one folder from another; none where there is none.
fn identity(folder: &Path) -> Option<(u64, u64)> {
    fs::metadata(folder).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Files and folders that come, go or are named otherwise, their content when somebody has written it, their mode and
/// owner.
fn flags() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}
