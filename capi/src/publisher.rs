//! The writing end.

use crate::{
    argument::{Place, bytes, path, sized},
    handle,
    status::{Failure, Status, guard, with_sources},
};
use chronicle::{
    Append, System,
    storage::queue::{self, Profile, Publisher as Writer, Queue, Refused},
};
use std::{ffi::c_char, mem::offset_of, time::Duration};

/// The writing end of a queue.
#[derive(Debug)]
pub struct Publisher {
    /// C knows the name only; the pointer is to a `handle::Handle`.
    _opaque: [u8; 0],
}

// By another name than the one that C knows: cbindgen looks at nothing but the last word.
type Inner = Writer<System>;

const fn goes_to_another_thread<T: Send>() {}
// What the header promises of handles.
const _: () = goes_to_another_thread::<Inner>();

/// All messages of a venue: 64 MiB segments, 1 GiB in all.
pub const CHRONICLE_PROFILE_RAW: u32 = 0;
/// One refined stream of many: 1 MiB segments, 64 MiB in all.
pub const CHRONICLE_PROFILE_CLEAN: u32 = 1;
/// Orders of one strategy, of thousands: 256 KiB segments, 4 MiB in all.
pub const CHRONICLE_PROFILE_ORDERS: u32 = 2;

/// How a writer keeps its queue. Set it to zeros, then `size`, then what should be otherwise.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PublisherOptions {
    /// sizeof(chronicle_publisher_options): which fields the program knows.
    pub size: usize,
    /// One of CHRONICLE_PROFILE_*.
    pub profile: u32,
    /// Length of segments, a multiple of 32 from 512 bytes to 1 GiB; 0 = the profile's.
    pub segment_len: u32,
    /// Bytes that all segments together may take, at least three of them; 0 = the profile's.
    pub max_bytes: u64,
}

impl PublisherOptions {
    /// What the first header had. A field is only ever added behind the last one, and where no older program has padding.
    const FIRST_LEN: usize = offset_of!(PublisherOptions, max_bytes) + size_of::<u64>();

    fn check(&self) -> Result<queue::PublisherOptions, Failure> {
        let profile = match self.profile {
            CHRONICLE_PROFILE_RAW => Profile::Raw,
            CHRONICLE_PROFILE_CLEAN => Profile::Clean,
            CHRONICLE_PROFILE_ORDERS => Profile::Orders,
            other => return Err(Failure::invalid(format!("options.profile is {other}, which stands for none"))),
        };
        let mut options = queue::PublisherOptions::new(profile);
        if self.segment_len != 0 {
            options.segment_len = self.segment_len;
        }
        if self.max_bytes != 0 {
            options.max_bytes = self.max_bytes;
        }
        Ok(options)
    }
}

/// A refusal, and what lies behind it where the system said no while a segment was prepared.
fn told(inner: &Inner, refused: Refused) -> Failure {
    let mut failure = Failure::from(refused);
    if let (Status::Trouble | Status::Poisoned, Some(trouble)) = (failure.status, inner.last_trouble()) {
        failure.message = format!("{}: {}", failure.message, with_sources(&*trouble));
    }
    failure
}

/// Opens the queue at `path` for writing; makes it where there is none, and recovers it after a crash.
///
/// `options` may be NULL: CHRONICLE_PROFILE_RAW. On success `*publisher` is a handle to be ended with
/// chronicle_publisher_close(), otherwise NULL. CHRONICLE_STATUS_LOCKED: there is a writer already.
///
/// # Safety
///
/// `path` is NULL or a string; `options` is NULL or points to options; `publisher` is NULL or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_publisher_open(
    path: *const c_char,
    options: *const PublisherOptions,
    publisher: *mut *mut Publisher,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let place = unsafe { Place::new("publisher", publisher) }?;
        place.put(std::ptr::null_mut());
        // SAFETY: the caller's contract.
        let path = unsafe { self::path("path", path) }?;
        // SAFETY: the caller's contract; integers may hold anything, and the first says how many bytes there are.
        let options = match unsafe { sized("options", options, PublisherOptions::FIRST_LEN) }? {
            Some(options) => options.check()?,
            None => queue::PublisherOptions::default(),
        };
        handle::give(&place, Queue::publisher(&System, path, options)?);
        Ok(Status::Ok)
    })
}

/// Appends one frame; readers in any process see it at once. Makes no system call unless a reader sleeps.
///
/// `time_ns` is ns since 1970, `type_id` and `flags` are the program's own. `payload` may be NULL where `payload_len` is 0.
/// `*seq` becomes the frame's number, from 1, where `seq` is not NULL. Below 0 the queue is as it was.
///
/// # Safety
///
/// `publisher` is NULL or a handle that no other thread uses now; `payload` is NULL or valid for `payload_len` bytes; `seq`
/// is NULL or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_publisher_append(
    publisher: *mut Publisher,
    time_ns: u64,
    type_id: u16,
    flags: u16,
    payload: *const u8,
    payload_len: usize,
    seq: *mut u64,
) -> Status {
    let act = |inner: &mut Inner| {
        // SAFETY: the caller's contract.
        let payload = unsafe { bytes("payload", payload, payload_len) }?;
        // SAFETY: the caller's contract.
        let place = unsafe { Place::or_none(seq) };
        let appended = inner.append(Append { time_ns, type_id, flags }, payload);
        place.put(appended.map_err(|refused| told(inner, refused))?);
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_publisher_open` makes such handles.
    unsafe { handle::with("publisher", publisher, act) }
}

/// As chronicle_publisher_append(), but waits, at most `timeout_ns`, while nothing is ready.
///
/// # Safety
///
/// As chronicle_publisher_append().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_publisher_append_wait(
    publisher: *mut Publisher,
    time_ns: u64,
    type_id: u16,
    flags: u16,
    payload: *const u8,
    payload_len: usize,
    timeout_ns: u64,
    seq: *mut u64,
) -> Status {
    let act = |inner: &mut Inner| {
        // SAFETY: the caller's contract.
        let payload = unsafe { bytes("payload", payload, payload_len) }?;
        // SAFETY: the caller's contract.
        let place = unsafe { Place::or_none(seq) };
        let timeout = Duration::from_nanos(timeout_ns);
        let appended = inner.append_wait(Append { time_ns, type_id, flags }, payload, timeout);
        place.put(appended.map_err(|refused| told(inner, refused))?);
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_publisher_open` makes such handles.
    unsafe { handle::with("publisher", publisher, act) }
}

/// Makes every frame appended so far durable. `*seq` becomes the last one that is, where `seq` is not NULL.
///
/// # Safety
///
/// As chronicle_publisher_append().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_publisher_sync(publisher: *mut Publisher, seq: *mut u64) -> Status {
    let act = |inner: &mut Inner| {
        // SAFETY: the caller's contract.
        let place = unsafe { Place::or_none(seq) };
        place.put(inner.sync()?.seq);
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_publisher_open` makes such handles.
    unsafe { handle::with("publisher", publisher, act) }
}

/// Syncs and ends. The handle is gone whatever is returned; below 0 the queue is left as by a crash of the process. NULL
/// is nothing to end.
///
/// # Safety
///
/// `publisher` is NULL or a handle that no other thread uses now, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_publisher_close(publisher: *mut Publisher) -> Status {
    let act = |inner: Inner| {
        inner.close()?;
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_publisher_open` makes such handles.
    unsafe { handle::end(publisher, act) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    #[test]
    fn options_of_another_size_open_nothing() {
        // All there is of them is the size.
        for size in [0, 1, PublisherOptions::FIRST_LEN - 1, size_of::<PublisherOptions>() + 1, usize::MAX] {
            let mut publisher = null_mut();
            // SAFETY: a string, options that say that they have no more than a size, and a place.
            let status =
                unsafe { chronicle_publisher_open(c"/nowhere".as_ptr(), (&raw const size).cast(), &raw mut publisher) };
            assert_eq!((status, publisher), (Status::Invalid, null_mut()), "{size}");
        }
    }
}
