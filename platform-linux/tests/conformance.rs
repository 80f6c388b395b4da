//! Linux does what every platform must do, on the disk and in memory.
//!
//! The same checks run on the simulator (`chronicle-platform`'s own tests). If one fails here and not there, what is
//! proven on the simulator is proven of a machine that does not exist.
#![cfg(target_os = "linux")]

mod on_disk {
    use chronicle_platform_linux::Linux;
    // The system's temporary directory; on many machines it is memory too, which is all the same to these checks.
    chronicle_platform::conformance!(Linux, tempfile::tempdir().unwrap());
}

mod in_memory {
    use chronicle_platform::Platform;
    use chronicle_platform_linux::Linux;
    use tempfile::TempDir;

    fn scratch() -> TempDir {
        match Linux.memory_dir() {
            Some(shm) => tempfile::tempdir_in(shm).unwrap(),
            None => {
                eprintln!("skipped: no memory directory on this machine; checked in the temporary directory instead");
                tempfile::tempdir().unwrap()
            }
        }
    }
    chronicle_platform::conformance!(Linux, scratch());
}
