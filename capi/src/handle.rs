//! Handles: boxes that C holds by pointer, and what a panic does to one.

use crate::{
    argument::Place,
    status::{Failure, Outcome, Status, bug, guard},
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a handle points to.
#[derive(Debug)]
pub(crate) struct Handle<T> {
    inner: T,
    /// A panic left it half done: nothing that it would do now can be relied upon.
    is_broken: bool,
}

/// Gives a new handle to C. `H` is the name that C knows `Handle<T>` by.
pub(crate) fn give<H, T>(place: &Place<*mut H>, inner: T) {
    place.put(Box::into_raw(Box::new(Handle { inner, is_broken: false })).cast());
}

/// Runs `act` on what the handle points to.
///
/// # Safety
///
/// `handle` is null, or was given to C by [`give`] with this `T` and not taken back, and no other thread uses it now.
pub(crate) unsafe fn with<H, T>(name: &str, handle: *mut H, act: impl FnOnce(&mut T) -> Outcome) -> Status {
    guard(|| {
        // SAFETY: null, or by the contract a box of ours that nobody else looks at meanwhile.
        let handle = unsafe { handle.cast::<Handle<T>>().as_mut() };
        let handle = handle.ok_or_else(|| Failure::invalid(format!("{name} is NULL")))?;
        if handle.is_broken {
            let message = format!("{name} was left half done by an earlier panic: close it");
            return Err(Failure { status: Status::Bug, message });
        }
        catch_unwind(AssertUnwindSafe(|| act(&mut handle.inner))).unwrap_or_else(|panic| {
            handle.is_broken = true;
            Err(bug(&*panic))
        })
    })
}

/// Takes a handle back and ends it; null is nothing to end.
///
/// # Safety
///
/// As [`with`], and C does not use the handle again.
pub(crate) unsafe fn end<H, T>(handle: *mut H, act: impl FnOnce(T) -> Outcome) -> Status {
    guard(|| {
        if handle.is_null() {
            return Ok(Status::Ok);
        }
        // SAFETY: by the contract a box that `give` leaked, and nobody takes it back twice.
        let handle = unsafe { Box::from_raw(handle.cast::<Handle<T>>()) };
        if handle.is_broken { Ok(Status::Ok) } else { act(handle.inner) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null_mut;

    #[test]
    fn a_handle_that_a_panic_left_takes_nothing_more_and_can_be_closed() {
        let mut handle: *mut u8 = null_mut();
        // SAFETY: a place of ours that outlives it.
        give(&unsafe { Place::new("handle", &raw mut handle) }.unwrap(), vec![1]);
        let push = |number: i32| {
            // SAFETY: the handle is a `Vec<i32>`'s, and this thread's alone.
            unsafe {
                with("handle", handle, |numbers: &mut Vec<i32>| {
                    numbers.push(number);
                    assert_ne!(number, 3);
                    Ok(Status::Ok)
                })
            }
        };
        assert_eq!([push(2), push(3), push(4)], [Status::Ok, Status::Bug, Status::Bug]);
        // SAFETY: as above, and for the last time.
        let ended = unsafe { end(handle, |_: Vec<i32>| panic!("what is broken is only dropped")) };
        assert_eq!(ended, Status::Ok);
    }

    #[test]
    fn null_is_refused_and_closes_as_nothing() {
        // SAFETY: null is allowed.
        let used = unsafe { with("handle", null_mut::<u8>(), |_: &mut u8| Ok(Status::Ok)) };
        assert_eq!(used, Status::Invalid);
        // SAFETY: as above.
        assert_eq!(unsafe { end(null_mut::<u8>(), |_: u8| Ok(Status::Bug)) }, Status::Ok);
    }
}
