//! What C passes by pointer, as Rust's own: the one place where it is believed.
//!
//! Null is looked for and refused by name. Whether anything else points to what it should nobody can tell: each function
//! here is `unsafe` and hands that on to C, whose contract is in the header.

use crate::status::Failure;
use std::{
    ffi::{CStr, c_char},
    mem::MaybeUninit,
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

/// A struct that may be an older header's: its first field, a `usize`, is its length, and what it does not have is zero.
/// Null stands for none.
///
/// # Safety
///
/// `value` is null, or aligned and valid for reads of a `usize`; if that is from `first_len` to the length of a `T`, for
/// reads of so many bytes. Any bytes are a `T`.
pub(crate) unsafe fn sized<T: Copy>(name: &str, value: *const T, first_len: usize) -> Result<Option<T>, Failure> {
    const { assert!(align_of::<T>() >= align_of::<usize>() && size_of::<T>() >= size_of::<usize>()) };
    if value.is_null() {
        return Ok(None);
    }
    // No reference is made: it would say that all of a `T` is there.
    // SAFETY: not null, and by the contract an aligned `usize`.
    let (len, known) = (unsafe { value.cast::<usize>().read() }, size_of::<T>());
    if !(first_len..=known).contains(&len) {
        // A longer one has fields that would be passed over in silence.
        return Err(Failure::invalid(format!("{name}.size is {len}, this library's is {known}")));
    }
    let mut whole = MaybeUninit::<T>::zeroed();
    // SAFETY: `len` bytes are there by the contract, fit `whole` as was just checked, and `whole` is nobody else's.
    unsafe { value.cast::<u8>().copy_to_nonoverlapping(whole.as_mut_ptr().cast(), len) };
    // SAFETY: each byte is zero or copied, and by the contract any bytes will do.
    Ok(Some(unsafe { whole.assume_init() }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Newer {
        size: usize,
        old: u64,
        new: u64,
    }

    #[test]
    fn an_older_struct_is_read_as_far_as_it_goes() {
        const OLD_LEN: usize = size_of::<usize>() + size_of::<u64>();
        let read = |value: *const Newer| {
            // SAFETY: null, or as many bytes as the first field says; integers may hold anything.
            unsafe { sized("options", value, OLD_LEN) }.map_err(|failure| failure.message)
        };
        assert_eq!(read(std::ptr::null()), Ok(None));
        let newer = Newer { size: size_of::<Newer>(), old: 7, new: 8 };
        assert_eq!(read(&newer), Ok(Some(newer)));
        // What lies behind it is not its own, and is not read.
        let older = Newer { size: OLD_LEN, ..newer };
        assert_eq!(read(&older), Ok(Some(Newer { new: 0, ..older })));
        for len in [0, OLD_LEN - 1, size_of::<Newer>() + 1, usize::MAX] {
            let what = format!("options.size is {len}, this library's is {}", size_of::<Newer>());
            assert_eq!(read((&raw const len).cast()), Err(what));
        }
    }
}
