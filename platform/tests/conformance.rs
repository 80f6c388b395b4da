//! The simulator does what every platform must do, so that what is proven on it is proven of the same `Queue` that
//! ships.

use chronicle_platform::{Platform, sim::Sim};
use std::path::Path;

mod on_disk {
    use super::Sim;
    chronicle_platform::conformance!(Sim::new(1), "/scratch/below");
}

mod in_memory {
    use super::in_memory;
    chronicle_platform::conformance!(in_memory(), "/shm/scratch");
}

fn in_memory() -> Sim {
    let sim = Sim::new(2);
    sim.mount_memory(Path::new("/shm")).unwrap();
    assert_eq!(sim.memory_dir().as_deref(), Some(Path::new("/shm")));
    sim
}
