//! Who has the store: a kernel lock on a file beside it, held for life (D-21).

use crate::{Error, Result};
use chronicle_platform::{File, Lock, Open, Platform};
use std::{path::Path, time::Duration};

/// A process that is being killed frees its locks within milliseconds.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(5);

/// The lock, ours until this is dropped: whoever has one is the only user of the directory's store.
#[derive(Debug)]
pub(crate) struct Held<P: Platform> {
    _file: P::File,
}

impl<P: Platform> Held<P> {
    /// Takes it; a dying holder gets half a second.
    pub(crate) fn take(platform: &P, path: &Path) -> Result<Self> {
        let file = platform.open(path, Open::EnsurePrivate)?;
        for attempt in 0..TRIES {
            if attempt > 0 {
                platform.sleep(PAUSE);
            }
            if file.try_lock(Lock::Exclusive)? {
                // For people: whoever cannot write it has the lock all the same.
                let (process, boot) = (platform.process(), platform.boot_id());
                let text = format!("pid {}\nstarted {}\nboot {boot:032x}\n", process.pid, process.started);
                _ = file.set_len(0).and_then(|()| file.write_at(text.as_bytes(), 0));
                return Ok(Held { _file: file });
            }
        }
        Err(Error::Locked { path: path.to_path_buf() })
    }
}
