//! What the machine gives the root: room, memory that may be pinned, huge pages.
//!
//! Read from /proc and /sys; where a system has none, nothing is said.

use super::{Finding, Patient};
use crate::run::{Size, Word};
use chronicle::{
    System,
    platform::{Medium, Platform},
    storage::queue::{Description, describe},
};
use rustix::{
    fs::statvfs,
    process::{Resource, getrlimit},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The bit of CAP_IPC_LOCK among a process's capabilities: no limit on locked memory holds for it.
const IPC_LOCK: u64 = 1 << 14;

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    let queues: Vec<(&PathBuf, Description)> =
        patient.queues.iter().filter_map(|queue| Some((queue, describe(&System, queue).ok()?))).collect();
    if queues.is_empty() {
        return;
    }
    // Those in memory, and those that feeds overflow into, on a disk.
    let (hot, overflows): (Vec<_>, Vec<_>) = queues.iter().partition(|(queue, _)| queue.starts_with(&patient.root.hot));
    room(patient, &patient.root.hot, &hot, findings);
    room(patient, &crate::queues::overflows(&patient.root), &overflows, findings);
    locked_memory(patient, &queues, findings);
    huge_pages(patient, findings);
}

/// Whether what the queues below `dir` may still take is there.
fn room(patient: &Patient, dir: &Path, queues: &[&(&PathBuf, Description)], findings: &mut Vec<Finding>) {
    let Ok(stat) = statvfs(dir) else { return };
    let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    let wanted: u64 = queues.iter().map(|(_, queue)| queue.max_bytes.saturating_sub(queue.used_bytes)).sum();
    if free >= wanted {
        return;
    }
    let may_take: u64 = queues.iter().map(|(_, queue)| queue.max_bytes).sum();
    let memory = System.medium(dir).is_ok_and(|medium| medium == Medium::Memory);
    let mount = mount_of(dir);
    let place = mount.as_ref().map_or(dir, |mount| mount.point.as_path());
    let what = format!(
        "{} may take {}, {} more than now, and {} are free of {}",
        if queues.len() == 1 { "1 queue".to_owned() } else { format!("{} queues", queues.len()) },
        Size(may_take),
        Size(wanted),
        Size(free),
        Size(total)
    );
    let why =
        "a segment gets its room before it is used: when there is none, appends are refused; nothing is lost before";
    let fix = if memory {
        // What is there already, what may come, and a tenth to spare, in whole MiB.
        let size = ((total - free + wanted).saturating_mul(11) / 10).div_ceil(1 << 20);
        format!("sudo mount -o remount,size={size}m {}", Word(place))
    } else {
        format!(
            "chronicle tier run --once --root {}, or let the writers take less: max_bytes, of a feed --segments and --overflow-mib",
            patient.called
        )
    };
    let id = if memory { "tmpfs-small" } else { "disk-small" };
    findings.push(Finding::problem(id, place, what, why, fix));
}

/// Whether a writer that pins its segments could.
fn locked_memory(patient: &Patient, queues: &[(&PathBuf, Description)], findings: &mut Vec<Finding>) {
    if capabilities().is_none_or(|held| held & IPC_LOCK != 0) {
        return;
    }
    let Some(limit) = getrlimit(Resource::Memlock).current else { return };
    let most = queues.iter().map(|(queue, of)| ((u64::from(of.segments_ahead) + 1) * u64::from(of.segment_len), queue));
    let Some((needed, queue)) = most.max() else { return };
    if needed <= limit {
        return;
    }
    findings.push(Finding::advice(
        "memlock-low",
        *queue,
        format!(
            "this user may lock {} in memory; a writer with lock_memory needs {} for this queue",
            Size(limit),
            Size(needed)
        ),
        "pages that are not locked can be swapped out, and the append that meets one waits for a disk",
        format!(
            "ulimit -l {}; for good: \"* - memlock {0}\" in /etc/security/limits.conf, or LimitMEMLOCK={0}K in the unit of {1}",
            needed.div_ceil(1024),
            patient.called
        ),
    ));
}

fn capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(held.trim(), 16).ok()
}

/// Whether queues in memory can get large pages.
fn huge_pages(patient: &Patient, findings: &mut Vec<Finding>) {
    if !System.medium(&patient.root.hot).is_ok_and(|medium| medium == Medium::Memory) {
        return;
    }
    let Ok(choice) = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled") else { return };
    let chosen = choice.split(['[', ']']).nth(1).unwrap_or_default();
    let Some(mount) = mount_of(&patient.root.hot) else { return };
    let of_mount = mount.options.split(',').find_map(|option| option.strip_prefix("huge=")).unwrap_or("never");
    let has = match chosen {
        "force" => true,
        "deny" => false,
        _ => matches!(of_mount, "always" | "within_size"),
    };
    if has {
        return;
    }
    let fix = if chosen == "deny" {
        "echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled; then run the doctor again".to_owned()
    } else {
        format!("sudo mount -o remount,huge=within_size {}", Word(&mount.point))
    };
    findings.push(Finding::advice(
        "no-huge-pages",
        &mount.point,
        format!("queues here lie in pages of 4 KiB (huge={of_mount}, shmem_enabled is {chosen})"),
        "a segment of 64 MiB takes 16,384 entries of the page tables instead of 32: more misses on every pass over it",
        fix,
    ));
}

/// A mounted file system.
struct Mount {
    point: PathBuf,
    options: String,
}

/// The one that a path lies on.
fn mount_of(path: &Path) -> Option<Mount> {
    let path = path.canonicalize().ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // 36 35 98:0 /root /mount/point rw,noatime master:1 - tmpfs source rw,size=8192k,huge=within_size
    let mounts = table.lines().filter_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        let point = PathBuf::from(place.split(' ').nth(4)?.replace("\\040", " "));
        path.starts_with(&point).then(|| Mount { point, options: system.split(' ').nth(2).unwrap_or("").to_owned() })
    });
    // The deepest, and of those that lie over each other the last.
    mounts.max_by_key(|mount| mount.point.components().count())
}
