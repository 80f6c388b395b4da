//! `LEASE`, `READY` and `owner.lock` of strangers: what is accepted is what its writer would write, and whatever lies there
//! unlocked keeps nobody from registering.
#![no_main]

use chronicle_bus::{
    Entry, Layout, Lease, Ready, Registration, RegistrationOptions, State, lease, look,
    owner::{self, Last},
    sweep,
};
use chronicle_fuzz::{choices, put_crc};
use chronicle_platform::{File, Open, Platform, sim::Sim};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choice, data) = choices(data);
    let mut bytes = data.to_vec();
    let name = ["LEASE", "READY", "owner.lock", "LEASE.tmp"][choice as usize % 4];
    if choice & 4 != 0 {
        put_right(name, &mut bytes);
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(entry) = text.parse::<Entry>()
    {
        assert_eq!(entry.to_string(), text);
    }
    match name {
        "LEASE" => {
            if let Ok(lease) = Lease::parse(&bytes) {
                let written = lease.to_bytes();
                assert_eq!(Lease::parse(&written), Ok(lease));
                assert_eq!(written[..lease::SLOTS[0]], bytes[..lease::SLOTS[0]], "there is one way to say it");
            }
        }
        "READY" => {
            if let Ok(ready) = Ready::parse(&bytes) {
                assert_eq!(ready.to_bytes(), bytes[..]);
            }
        }
        _ => {
            if let Ok(last) = Last::parse(&bytes) {
                let next = Last::next(last, 1);
                assert!(next.epoch > last.map_or(0, |last| last.epoch) && !next.left);
            }
        }
    }

    let sim = Sim::new(1);
    let layout = Layout::new("/hot");
    let entry = Entry::strategy("s").expect("a name");
    sim.create_dirs(&layout.dir(&entry)).expect("a directory");
    sim.open(&layout.dir(&entry).join(name), Open::Create).and_then(|file| file.write_at(&bytes, 0)).expect("a file");
    let state = look(&sim, &layout, &entry);
    assert!(matches!(state, State::Dead(_) | State::Absent), "{state}");
    let registered = Registration::begin(&sim, &layout, entry.clone(), RegistrationOptions::default());
    if name == "owner.lock" && Last::parse(&bytes[..bytes.len().min(owner::OWNER_LEN)]).is_err() {
        assert!(registered.is_err(), "epochs would begin again unasked");
        return;
    }
    let mut registration = registered.expect("nobody has it");
    registration.ready().expect("nobody is in the way");
    assert!(matches!(look(&sim, &layout, &entry), State::Ready(_)));
    drop(registration);
    assert_eq!(look(&sim, &layout, &entry), State::Absent);
    assert_eq!(sweep(&sim, &layout).expect("a listing").removed, []);
});

/// Puts the checksums right, so that what lies behind them is reached.
fn put_right(name: &str, bytes: &mut [u8]) {
    let magic: &[u8; 8] = match name {
        "READY" => b"CHRONRDY",
        "owner.lock" => b"CHRONOWN",
        _ => b"CHRONLSE",
    };
    let Some(head) = bytes.get_mut(..10) else { return };
    head[..8].copy_from_slice(magic);
    head[8..].copy_from_slice(&1u16.to_le_bytes());
    match name {
        "owner.lock" => put_crc(bytes, 0, 60, 0),
        "READY" => put_crc(bytes, 0, 124, 0),
        _ => {
            put_crc(bytes, 0, 124, 0);
            let seed = bytes.get(124..128).map_or(0, |crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
            for at in lease::SLOTS {
                put_crc(bytes, at, at + 60, seed);
            }
        }
    }
}
