//! SIGINT, SIGTERM and SIGHUP as a flag, for the commands that run until they are told to end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether somebody asked this process to end.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Installs the handler: once in a process. The second signal ends it at once, whatever it waits for.
    pub(crate) fn on_signals() -> Result<Stop, ctrlc::Error> {
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.0.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })?;
        Ok(stop)
    }

    /// Asks it to end from within.
    pub(crate) fn ask(&self) {
        // ORDERING: Relaxed: nothing else is read because of it.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is time to end.
    pub(crate) fn asked(&self) -> bool {
        // ORDERING: Relaxed: nothing else is read because of it.
        self.0.load(Ordering::Relaxed)
    }
}
