//! What C learns of how a call went: a number, and for the thread that called, a sentence.

use chronicle::storage::{
    Error, ErrorKind,
    queue::{ReadError, Refused},
};
use std::{
    any::Any,
    cell::RefCell,
    ffi::{CStr, CString, c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How a call went. 0 and above: it did what it does. Below 0: see chronicle_last_error().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// There is nothing to read now.
    Empty = 1,
    /// The time is over.
    TimedOut = 2,
    /// The writer closed the queue in order. Waiting again waits for the next one.
    Closed = 3,
    /// The writer died. Waiting again waits for the next one.
    Died = 4,
    /// The writer is there and has done nothing for seconds.
    Stale = 5,
    /// An argument cannot be: NULL, not UTF-8, a number that stands for nothing.
    Invalid = -1,
    /// The next segment is not ready, for now: try again, or use chronicle_publisher_append_wait().
    NotReady = -2,
    /// The queue's budget is used up, and readers still need all of it.
    Full = -3,
    /// No segment takes such a payload.
    TooLarge = -4,
    /// A sync failed: close the queue and open it again; what memory holds is saved first.
    Poisoned = -5,
    /// Another process or handle has it.
    Locked = -6,
    /// A crash of the machine took frames. Told once; reading goes on behind it.
    Lost = -7,
    /// The reader was too slow: frames that it had not read are gone. Told once; reading goes on behind it.
    Lapped = -8,
    /// The cursor was another queue's that stood here before. Told once; reading goes on where a new reader starts.
    Reset = -9,
    /// Ordinary life of another kind: the message says which.
    Refused = -10,
    /// Bytes that no writer of ours could have made.
    Damage = -11,
    /// The operating system said no.
    Trouble = -12,
    /// There is no such queue.
    NotFound = -13,
    /// A bug of ours: please report the message. The handle takes nothing more; close it.
    Bug = -14,
}

impl Status {
    fn name(self) -> &'static CStr {
        match self {
            Status::Ok => c"ok",
            Status::Empty => c"empty",
            Status::TimedOut => c"timed out",
            Status::Closed => c"closed",
            Status::Died => c"writer died",
            Status::Stale => c"writer stale",
            Status::Invalid => c"invalid argument",
            Status::NotReady => c"not ready",
            Status::Full => c"full",
            Status::TooLarge => c"too large",
            Status::Poisoned => c"poisoned",
            Status::Locked => c"locked",
            Status::Lost => c"frames lost",
            Status::Lapped => c"reader lapped",
            Status::Reset => c"cursor of another queue",
            Status::Refused => c"refused",
            Status::Damage => c"damage",
            Status::Trouble => c"trouble",
            Status::NotFound => c"not found",
            Status::Bug => c"bug",
        }
    }

    const ALL: [Status; 20] = [
        Status::Ok,
        Status::Empty,
        Status::TimedOut,
        Status::Closed,
        Status::Died,
        Status::Stale,
        Status::Invalid,
        Status::NotReady,
        Status::Full,
        Status::TooLarge,
        Status::Poisoned,
        Status::Locked,
        Status::Lost,
        Status::Lapped,
        Status::Reset,
        Status::Refused,
        Status::Damage,
        Status::Trouble,
        Status::NotFound,
        Status::Bug,
    ];
}

/// A status below 0, and the sentence that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Failure { status: Status::Invalid, message: message.into() }
    }
}

pub(crate) type Outcome = Result<Status, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            _ if error.is_not_found() => Status::NotFound,
            Error::Locked { .. } => Status::Locked,
            Error::Poisoned { .. } => Status::Poisoned,
            Error::TooLarge { .. } => Status::TooLarge,
            Error::Options { .. } | Error::Name(_) => Status::Invalid,
            _ => match error.kind() {
                ErrorKind::Refusal => Status::Refused,
                ErrorKind::Damage => Status::Damage,
                ErrorKind::Trouble => Status::Trouble,
            },
        };
        Failure { status, message: with_sources(&error) }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::NotReady => Status::NotReady,
            Refused::QueueFull { .. } => Status::Full,
            Refused::TooLarge { .. } => Status::TooLarge,
            Refused::Poisoned => Status::Poisoned,
            Refused::NoSpace | Refused::PrepareFailed => Status::Trouble,
        };
        Failure { status, message: refused.to_string() }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let status = match error {
            ReadError::Failed(error) => return error.into(),
            ReadError::Lost { .. } => Status::Lost,
            ReadError::Lapped { .. } => Status::Lapped,
            ReadError::Reset { .. } => Status::Reset,
            ReadError::Busy { .. } => Status::Locked,
            _ => Status::Refused,
        };
        Failure { status, message: error.to_string() }
    }
}

/// An error and what lies beneath it: C has one sentence to read.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    message
}

thread_local! {
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Runs what a function of this interface does: no panic leaves it, and what fails is told to the thread.
pub(crate) fn guard(act: impl FnOnce() -> Outcome) -> Status {
    // What a panic left half done is a handle, which `handle::with` closes off, or was made here and is gone.
    let outcome = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(bug(&*panic)));
    outcome.unwrap_or_else(|failure| {
        remember(failure.message);
        failure.status
    })
}

/// The failure that a panic becomes.
pub(crate) fn bug(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure { status: Status::Bug, message: format!("panic: {}", text.unwrap_or("without a message")) }
}

fn remember(message: String) {
    // A path may hold any byte but 0; a message of ours should hold none.
    let message = CString::new(message.replace('\0', "\u{fffd}")).unwrap_or_default();
    // A thread that is ending has no place for it any more.
    _ = LAST.try_with(|last| last.replace(Some(message)));
}

/// Why the last call of this thread that returned a status below 0 did: a sentence in UTF-8, "" if there was none.
///
/// The string is the library's: it is valid until the thread's next call that fails, or the thread's end.
#[unsafe(no_mangle)]
pub extern "C" fn chronicle_last_error() -> *const c_char {
    let kept = LAST.try_with(|last| last.borrow().as_ref().map(|message| message.as_ptr()));
    kept.ok().flatten().unwrap_or(c"".as_ptr())
}

/// A status in two words, for logs: a string that is there for ever, "unknown" for a number that stands for nothing.
#[unsafe(no_mangle)]
pub extern "C" fn chronicle_status_name(status: c_int) -> *const c_char {
    let known = Status::ALL.into_iter().find(|known| *known as i32 == status);
    known.map_or(c"unknown", Status::name).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> String {
        // SAFETY: the string is valid until this thread's next failure, and copied before that.
        unsafe { CStr::from_ptr(chronicle_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_and_its_words() {
        assert_eq!(guard(|| panic!("seven is {}", 7)), Status::Bug);
        assert_eq!(last(), "panic: seven is 7");
        assert_eq!(guard(|| std::panic::panic_any(7)), Status::Bug);
        assert_eq!(last(), "panic: without a message");
    }

    #[test]
    fn a_message_is_its_thread_s_and_success_leaves_it() {
        assert_eq!(guard(|| Err(Failure::invalid("a\0b"))), Status::Invalid);
        assert_eq!(guard(|| Ok(Status::Empty)), Status::Empty);
        assert_eq!(last(), "a\u{fffd}b");
        std::thread::spawn(|| assert_eq!(last(), "")).join().unwrap();
    }

    /// Destructors of a thread's values run while it ends, when the place of its last error may be gone.
    #[test]
    fn a_thread_that_ends_may_call() {
        struct Ending(std::sync::mpsc::Sender<(Status, String)>);
        impl Drop for Ending {
            fn drop(&mut self) {
                let status = guard(|| Err(Failure::invalid("late")));
                self.0.send((status, last())).unwrap();
            }
        }
        thread_local! {
            static ENDING: RefCell<Option<Ending>> = const { RefCell::new(None) };
        }
        let (sender, ended) = std::sync::mpsc::channel();
        for late in [false, true] {
            let sender = sender.clone();
            let fail = || guard(|| Err(Failure::invalid("early")));
            let thread = std::thread::spawn(move || {
                if late {
                    fail();
                }
                // Which of the two goes first is the system's choice: each comes first once.
                ENDING.set(Some(Ending(sender)));
                fail();
            });
            thread.join().unwrap();
        }
        let mut ended: Vec<_> = ended.try_iter().collect();
        ended.sort_by(|a, b| a.1.cmp(&b.1));
        assert_eq!(ended, [(Status::Invalid, String::new()), (Status::Invalid, "late".into())]);
    }

    #[test]
    fn each_status_has_a_number_and_a_name_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for status in Status::ALL {
            assert!(seen.insert(status as i32), "{status:?}");
            // SAFETY: names are there for ever.
            assert_eq!(unsafe { CStr::from_ptr(chronicle_status_name(status as i32)) }, status.name());
        }
        // SAFETY: as above.
        assert_eq!(unsafe { CStr::from_ptr(chronicle_status_name(77)) }, c"unknown");
    }

    #[test]
    fn errors_say_path_and_reason() {
        let missing = std::io::Error::from_raw_os_error(2);
        let failure = Failure::from(Error::from(chronicle::platform::Trouble::new("open", "q/control.meta", missing)));
        assert_eq!(failure.status, Status::NotFound);
        assert!(failure.message.starts_with("q/control.meta: open failed: "), "{}", failure.message);
    }
}
