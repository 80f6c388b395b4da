//! A local exchange for tests and the demo.
#![forbid(unsafe_code)]
