//! Darwin does what every platform must do; for whoever has a machine to run it on.
#![cfg(target_os = "macos")]

use chronicle_platform_darwin::Darwin;

chronicle_platform::conformance!(Darwin, tempfile::tempdir().unwrap());
