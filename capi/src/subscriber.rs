//! The reading end.

use crate::{
    argument::{Place, path, text},
    handle,
    status::{Failure, Status, guard},
};
use chronicle::{
    System,
    storage::queue::{self, Disconnect, Queue, Start, SubscriberOptions, Waited},
};
use std::{ffi::c_char, time::Duration};

/// A reading end of a queue.
#[derive(Debug)]
pub struct Subscriber {
    /// C knows the name only; the pointer is to a `handle::Handle`.
    _opaque: [u8; 0],
}

struct Inner {
    queue: queue::Subscriber<System>,
    /// The frame that C looks at: copied, so that nobody changes it meanwhile.
    payload: Vec<u8>,
}

const fn goes_to_another_thread<T: Send>() {}
// What the header promises of handles.
const _: () = goes_to_another_thread::<Inner>();

/// Where the reader's cursor says; at the oldest frame if it has none.
pub const CHRONICLE_START_CURSOR: u32 = 0;
/// At the oldest frame.
pub const CHRONICLE_START_EARLIEST: u32 = 1;
/// Behind the newest frame.
pub const CHRONICLE_START_LATEST: u32 = 2;

/// One frame.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    /// Its number in the stream, from 1.
    pub seq: u64,
    /// What its writer passed: ns since 1970.
    pub time_ns: u64,
    /// What the payload is, by the program's own word.
    pub type_id: u16,
    /// Bits that the program defines.
    pub flags: u16,
    /// Its bytes: the subscriber's, valid until its next call. Aligned to nothing; never NULL.
    pub payload: *const u8,
    /// Length of the payload in bytes.
    pub payload_len: usize,
}

/// Opens the queue at `path` for reading.
///
/// `name` is the reader's: it has a cursor of its own and one reader at a time. NULL leaves no trace and commits nothing.
/// `start` is one of CHRONICLE_START_*. On success `*subscriber` is a handle to be ended with
/// chronicle_subscriber_close(), otherwise NULL. CHRONICLE_STATUS_NOT_FOUND: there is no queue yet.
///
/// # Safety
///
/// `path` and `name` are NULL or strings; `subscriber` is NULL or a place for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_subscriber_open(
    path: *const c_char,
    name: *const c_char,
    start: u32,
    subscriber: *mut *mut Subscriber,
) -> Status {
    guard(|| {
        // SAFETY: the caller's contract.
        let place = unsafe { Place::new("subscriber", subscriber) }?;
        place.put(std::ptr::null_mut());
        // SAFETY: the caller's contract.
        let path = unsafe { self::path("path", path) }?;
        let start = match start {
            CHRONICLE_START_CURSOR => Start::Cursor,
            CHRONICLE_START_EARLIEST => Start::Earliest,
            CHRONICLE_START_LATEST => Start::Latest,
            other => return Err(Failure::invalid(format!("start is {other}, which stands for none"))),
        };
        let options = SubscriberOptions { start, ..SubscriberOptions::default() };
        let queue = if name.is_null() {
            Queue::observer(&System, path, options)?
        } else {
            // SAFETY: the caller's contract.
            Queue::subscriber(&System, path, unsafe { text("name", name) }?, options)?
        };
        handle::give(&place, Inner { queue, payload: Vec::new() });
        Ok(Status::Ok)
    })
}

/// Takes the next frame. CHRONICLE_STATUS_EMPTY: the writer has come no further, and `*frame` is as it was.
///
/// CHRONICLE_STATUS_LOST, _LAPPED and _RESET are news, told once: the next call goes on behind them.
///
/// # Safety
///
/// `subscriber` is NULL or a handle that no other thread uses now; `frame` is NULL or a place for a frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_subscriber_read(subscriber: *mut Subscriber, frame: *mut Frame) -> Status {
    let act = |inner: &mut Inner| {
        // SAFETY: the caller's contract.
        let place = unsafe { Place::new("frame", frame) }?;
        let Some(next) = inner.queue.next()? else { return Ok(Status::Empty) };
        inner.payload.resize(next.payload.len(), 0);
        next.payload.copy_to(&mut inner.payload);
        place.put(Frame {
            seq: next.seq,
            time_ns: next.time_ns,
            type_id: next.type_id,
            flags: next.flags,
            payload: inner.payload.as_ptr(),
            payload_len: inner.payload.len(),
        });
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_subscriber_open` makes such handles.
    unsafe { handle::with("subscriber", subscriber, act) }
}

/// Waits until there is something to read, at most `timeout_ns`: CHRONICLE_STATUS_OK, _TIMED_OUT, or why no frame will
/// come for now, _CLOSED, _DIED or _STALE. Sleeps without cost to the writer.
///
/// # Safety
///
/// As chronicle_subscriber_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_subscriber_wait(subscriber: *mut Subscriber, timeout_ns: u64) -> Status {
    let act = |inner: &mut Inner| {
        Ok(match inner.queue.wait(Duration::from_nanos(timeout_ns))? {
            Waited::Ready => Status::Ok,
            Waited::TimedOut => Status::TimedOut,
            Waited::Disconnected(Disconnect::Closed) => Status::Closed,
            Waited::Disconnected(Disconnect::Died) => Status::Died,
            Waited::Disconnected(Disconnect::Stale { .. }) => Status::Stale,
        })
    };
    // SAFETY: the caller's contract; only `chronicle_subscriber_open` makes such handles.
    unsafe { handle::with("subscriber", subscriber, act) }
}

/// Stores the cursor behind the frames taken so far: where a reader of this name goes on. Without a name it does nothing.
///
/// # Safety
///
/// As chronicle_subscriber_read().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_subscriber_commit(subscriber: *mut Subscriber) -> Status {
    let act = |inner: &mut Inner| {
        inner.queue.commit()?;
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_subscriber_open` makes such handles.
    unsafe { handle::with("subscriber", subscriber, act) }
}

/// Ends. Frames taken and not committed come again. The handle is gone, and with it what its last frame lent. NULL is
/// nothing to end.
///
/// # Safety
///
/// `subscriber` is NULL or a handle that no other thread uses now, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn chronicle_subscriber_close(subscriber: *mut Subscriber) -> Status {
    let act = |inner: Inner| {
        drop(inner);
        Ok(Status::Ok)
    };
    // SAFETY: the caller's contract; only `chronicle_subscriber_open` makes such handles.
    unsafe { handle::end(subscriber, act) }
}
