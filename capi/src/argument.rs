//! What C passes by pointer, as Rust's own: the one place where it is believed.
//!
//! Null is looked for and refused by name. Whether anything else points to what it should nobody can tell: each function
//! here is `unsafe` and hands that on to C, whose contract is in the header.

use crate::status::Failure;
use std::{
    ffi::{CStr, c_char},
    path::Path,
    slice,
};

fn null(name: &str) -> Failure {
    Failure::invalid(format!("{name} is NULL"))
}

/// A string.
///
/// # Safety
///
/// `string` is null or ends in a 0, and nobody changes it for `'a`.
pub(crate) unsafe fn text<'a>(name: &str, string: *const c_char) -> Result<&'a str, Failure> {
    if string.is_null() {
        return Err(null(name));
    }
    // SAFETY: not null, and by the contract a string that stays as it is for 'a.
    let string = unsafe { CStr::from_ptr(string) };
    string.to_str().map_err(|error| Failure::invalid(format!("{name} is not UTF-8: {error}")))
}

/// A path that names something.
///
/// # Safety
///
/// As [`text`].
pub(crate) unsafe fn path<'a>(name: &str, string: *const c_char) -> Result<&'a Path, Failure> {
    // SAFETY: the same contract.
    let path = unsafe { text(name, string) }?;
    if path.is_empty() { Err(Failure::invalid(format!("{name} is empty"))) } else { Ok(Path::new(path)) }
}

/// Bytes; null stands for none of them.
///
/// # Safety
///
/// `bytes` is null, or valid for reads of `len` bytes that nobody changes for `'a`.
pub(crate) unsafe fn bytes<'a>(name: &str, bytes: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if bytes.is_null() {
        return Err(null(name));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::invalid(format!("{name} of {len} bytes is longer than memory can be")));
    }
    // SAFETY: not null, no longer than a slice may be, and by the contract readable and unchanged for 'a.
    Ok(unsafe { slice::from_raw_parts(bytes, len) })
}

/// A place for a result, which may hold anything: written, never read.
#[derive(Debug)]
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// A place that must be there.
    ///
    /// # Safety
    ///
    /// `place` is null, or aligned and valid for writes as long as the value lives.
    pub(crate) unsafe fn new(name: &str, place: *mut T) -> Result<Self, Failure> {
        if place.is_null() { Err(null(name)) } else { Ok(Place(place)) }
    }

    /// A place that may be missing.
    ///
    /// # Safety
    ///
    /// As [`Place::new`].
    pub(crate) unsafe fn or_none(place: *mut T) -> Self {
        Place(place)
    }

    /// Writes the result, where there is a place for it.
    pub(crate) fn put(&self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not null, and by the constructors' contract aligned and valid for writes.
            unsafe { self.0.write(value) };
        }
    }
}
