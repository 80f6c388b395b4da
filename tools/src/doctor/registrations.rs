//! What the bus says of its entries: registrations whose owner is dead or stands still, and files that are none.

use super::{Cure, Finding, Patient, queues::is_stopped};
use crate::run::Word;
use chronicle::{
    System,
    bus::{Layout, State, look},
};

pub(super) fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    let layout = Layout::of(&patient.root);
    for entry in crate::queues::entries(&patient.root.hot) {
        let dir = layout.dir(&entry);
        match look(&System, &layout, &entry) {
            State::Gone | State::Absent | State::Starting(_) | State::Ready(_) => {}
            State::Dead(lease) => {
                let who = lease.map_or_else(
                    || "who had it died".to_owned(),
                    |lease| format!("process {}, which had it in epoch {}, died", lease.pid, lease.epoch),
                );
                let finding = Finding::problem(
                    "lease-stale",
                    dir,
                    format!("{entry}: {who} and left its registration"),
                    "nobody serves it; whoever scans the bus or registers it next removes what is left, and nobody has yet",
                    format!("chronicle doctor {} --fix, then start its process again", patient.called),
                );
                findings.push(finding.with(Cure::Sweep { layout: layout.clone(), entry }));
            }
            State::Stalled(lease) => {
                let age = lease.age(chronicle::platform::Platform::monotonic_ns(&System)).as_secs_f64();
                let stopped = is_stopped(lease.pid);
                let fix = match stopped {
                    Some(true) => format!("kill -CONT {}", lease.pid),
                    _ => {
                        format!("cat /proc/{0}/wchan says what it waits for; if it is lost: kill -KILL {0}", lease.pid)
                    }
                };
                findings.push(Finding::problem(
                    "lease-stalled",
                    dir,
                    format!(
                        "{entry}: process {} {}has not renewed its lease for {age:.1} s, {:.1} s are agreed",
                        lease.pid,
                        if stopped == Some(true) { "is stopped and " } else { "" },
                        lease.ttl.as_secs_f64()
                    ),
                    "it lives, so nobody takes its place, and it does nothing: strategies wait for answers",
                    fix,
                ));
            }
            State::Refused(why) if why.contains("ermission denied") => {
                let fix = patient.as_owner_of(&dir);
                findings.push(Finding::problem(
                    "no-permission",
                    dir,
                    format!("{entry}: its LEASE and READY may not be read: {why}"),
                    "whether its owner lives cannot be told; who may not read them does not find it either",
                    fix,
                ));
            }
            State::Refused(why) => {
                let version = why.contains("this program knows");
                findings.push(Finding::problem(
                    if version { "versions-mixed" } else { "registration-foreign" },
                    &dir,
                    format!("{entry}: its LEASE or READY is not one: {why}"),
                    if version {
                        "a newer program has registered here: what is older neither sees nor replaces it"
                    } else {
                        "nobody can register it, and nobody finds it, until what is in the way is gone"
                    },
                    if version {
                        "install the newer release for everything that uses this root".to_owned()
                    } else {
                        format!("ls -l {0}; then move what is no LEASE or READY of ours away", Word(&dir))
                    },
                ));
            }
        }
    }
}
