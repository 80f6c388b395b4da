//! Processors: which ones a thread may run on, which memory is near them, and staying on one.

use chronicle_platform::{Processor, Result, Trouble};
use rustix::{
    io::Errno,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

const PATH: &str = "/sys/devices/system/cpu";

/// The calling thread's.
pub(crate) fn processors() -> Result<Vec<Processor>> {
    let set = sched_getaffinity(None).map_err(|errno| Trouble::new("list processors", PATH, errno))?;
    let ids = (0..CpuSet::MAX_CPU).filter(|&id| set.is_set(id));
    Ok(ids.map(|id| Processor { id: id as u32, node: node_of(id) }).collect())
}

/// A processor's directory has a link to its node, called `node0` and so on.
fn node_of(id: usize) -> Option<u32> {
    let links = std::fs::read_dir(format!("{PATH}/cpu{id}")).ok()?;
    links.flatten().find_map(|link| link.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// Keeps the calling thread on one.
pub(crate) fn run_on(processor: u32) -> Result<()> {
    let trouble = |errno| Trouble::new("run on a processor", format!("{PATH}/cpu{processor}"), errno);
    if processor as usize >= CpuSet::MAX_CPU {
        return Err(trouble(Errno::INVAL));
    }
    let mut set = CpuSet::new();
    set.set(processor as usize);
    sched_setaffinity(None, &set).map_err(|errno| {
        let trouble = trouble(errno);
        match errno {
            Errno::INVAL => {
                trouble.noting("the machine has no such processor, or this process may not use it (cgroup)")
            }
            _ => trouble,
        }
    })
}
