//! The simulator and Linux, side by side through random operations, must answer alike.
//!
//! The conformance suite states what both must do; this finds what nobody thought of stating. A difference means
//! that what was proven on the simulator was proven of another machine. `CHRONICLE_SEED=n` repeats one story.
#![cfg(target_os = "linux")]

use chronicle_core::{Region, RegionMut};
use chronicle_platform::{
    File, Lock, Open, Platform, Result, TroubleKind,
    sim::{Faults, Sim},
};
use chronicle_platform_linux::Linux;
use std::{collections::BTreeMap, fmt::Debug, path::Path};

/// A few small numbers from a seed; the same for both machines.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % n
    }
}

/// One machine with what is open on it.
struct Side<P: Platform> {
    platform: P,
    root: std::path::PathBuf,
    files: Vec<Option<P::File>>,
    maps: Vec<Option<P::Map>>,
    maps_mut: Vec<Option<P::MapMut>>,
}

const SLOTS: u64 = 4;
const NAMES: [&str; 8] = ["a", "b", "c", "d", "d/a", "d/b", "d/d", "a/x"];

/// What an operation answered, made comparable: no paths, no system's words.
#[derive(Debug, PartialEq)]
enum Answer {
    Done(String),
    Refused(TroubleKind),
    NothingOpen,
}

fn answer<T: Debug>(result: Result<T>) -> Answer {
    match result {
        Ok(value) => Answer::Done(format!("{value:?}")),
        Err(trouble) => Answer::Refused(trouble.kind()),
    }
}

/// Mostly whole words, as mappings must be.
fn words(len: u64) -> usize {
    if len.is_multiple_of(10) { len as usize } else { len as usize / 4 * 4 }
}

impl<P: Platform> Side<P> {
    fn new(platform: P, root: &Path) -> Self {
        platform.create_dirs(root).unwrap();
        let empty = || (0..SLOTS).map(|_| None);
        Side {
            platform,
            root: root.to_owned(),
            files: empty().collect(),
            maps: (0..SLOTS).map(|_| None).collect(),
            maps_mut: (0..SLOTS).map(|_| None).collect(),
        }
    }

    fn step(&mut self, draw: &mut Draw) -> (String, Answer) {
        let slot = draw.below(SLOTS) as usize;
        let name = NAMES[draw.below(NAMES.len() as u64) as usize];
        let other = NAMES[draw.below(NAMES.len() as u64) as usize];
        let (at, len, byte) = (draw.below(10_000), draw.below(10_000), draw.below(255) as u8 + 1);
        let path = self.root.join(name);
        let p = &self.platform;
        let what = draw.below(20);
        let with_file = |act: &dyn Fn(&P::File) -> Answer| self.files[slot].as_ref().map_or(Answer::NothingOpen, act);
        let (told, found) = match what {
            0..=3 => {
                let how = [Open::Read, Open::Write, Open::Create, Open::Ensure, Open::EnsurePrivate][(at % 5) as usize];
                let opened = p.open(&path, how);
                let found = match opened {
                    Ok(file) => {
                        self.files[slot] = Some(file);
                        Answer::Done(String::new())
                    }
                    Err(trouble) => Answer::Refused(trouble.kind()),
                };
                (format!("open {name} {how:?} as {slot}"), found)
            }
            4 => {
                self.files[slot] = None;
                (format!("close {slot}"), Answer::Done(String::new()))
            }
            5 | 6 => {
                let bytes = vec![byte; len as usize];
                (format!("write {len} at {at} of {slot}"), with_file(&|file| answer(file.write_at(&bytes, at))))
            }
            7 => {
                let read = |file: &P::File| {
                    let mut bytes = vec![0; len as usize];
                    answer(file.read_at(&mut bytes, at).map(|n| bytes[..n].to_vec()))
                };
                (format!("read {len} at {at} of {slot}"), with_file(&read))
            }
            8 => (format!("allocate {len} of {slot}"), with_file(&|file| answer(file.allocate(len)))),
            9 => {
                // Never under a mapping: Linux would raise SIGBUS.
                let mapped = self.maps.iter().any(Option::is_some) || self.maps_mut.iter().any(Option::is_some);
                let cut = |file: &P::File| if mapped { Answer::NothingOpen } else { answer(file.set_len(len)) };
                (format!("set length {len} of {slot}"), with_file(&cut))
            }
            10 => (format!("rename {name} to {other}"), answer(p.rename(&path, &self.root.join(other)))),
            11 => (format!("remove {name}"), answer(p.remove(&path))),
            12 if at % 3 == 0 => (format!("remove directory {name}"), answer(p.remove_dir(&path))),
            12 => (format!("create directories {name}"), answer(p.create_dirs(&path))),
            13 => (format!("list {name}"), answer(p.list(&path))),
            14 => {
                let lock = if byte % 2 == 0 { Lock::Shared } else { Lock::Exclusive };
                let found = match byte % 3 {
                    0 => with_file(&|file| answer(file.unlock())),
                    _ => with_file(&|file| answer(file.try_lock(lock))),
                };
                (format!("lock {slot} {lock:?} or unlock ({byte})"), found)
            }
            15 => {
                let Some(file) = &self.files[slot] else { return (String::new(), Answer::NothingOpen) };
                let found = answer(p.map(file, words(len)).map(|map| self.maps[slot] = Some(map)));
                (format!("map {len} of {slot}"), found)
            }
            16 => {
                let Some(file) = &self.files[slot] else { return (String::new(), Answer::NothingOpen) };
                let found = answer(file.allocate(len))
                    .and(|| answer(p.map_mut(file, words(len)).map(|map| self.maps_mut[slot] = Some(map))));
                (format!("allocate and map for writing {len} of {slot}"), found)
            }
            17 => {
                let found = match &self.maps_mut[slot] {
                    Some(map) if at as usize + 8 <= map.len() => {
                        map.window_mut().copy_in(at as usize, &[byte; 8]);
                        Answer::Done(String::new())
                    }
                    _ => Answer::NothingOpen,
                };
                (format!("store at {at} of {slot}"), found)
            }
            18 => {
                let found = match &self.maps[slot] {
                    Some(map) => {
                        let mut bytes = vec![0; map.len()];
                        map.window().copy_out(0, &mut bytes);
                        Answer::Done(format!("{bytes:?}"))
                    }
                    None => Answer::NothingOpen,
                };
                (format!("load all of {slot}"), found)
            }
            _ => {
                let found = match byte % 4 {
                    0 => answer(p.exists(&path)),
                    1 => answer(p.sync_dir(&path)),
                    2 => with_file(&|file| answer(file.len())),
                    _ => with_file(&|file| answer(file.sync())),
                };
                if byte % 5 == 0 {
                    self.maps[slot] = None;
                    self.maps_mut[slot] = None;
                }
                (format!("look at {name} or {slot} ({byte})"), found)
            }
        };
        (told, found)
    }
}

impl Answer {
    fn and(self, next: impl FnOnce() -> Answer) -> Answer {
        match self {
            Answer::Done(_) => next(),
            refused => refused,
        }
    }
}

#[test]
fn the_simulator_and_linux_answer_alike() {
    let seeds = match std::env::var("CHRONICLE_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..40).collect(),
    };
    let mut done = BTreeMap::<String, u32>::new();
    let mut refused = 0;
    let all = seeds.len() > 1;
    for seed in seeds {
        let dir = tempfile::tempdir().unwrap();
        let mut linux = Side::new(Linux, dir.path());
        let sim = Sim::new(seed);
        // What a kernel does at its leisure must not be seen, so it may do much of it.
        sim.faults(Faults { write_back_one_in: 1, ..Faults::default() });
        let mut sim = Side::new(sim, Path::new("/root"));
        let mut story = Vec::new();
        for _ in 0..400 {
            let draw = seed * 1_000_003 + story.len() as u64;
            let (told, real) = linux.step(&mut Draw(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let (_, simulated) = sim.step(&mut Draw(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            match &real {
                Answer::Done(_) => *done.entry(told.split(' ').next().unwrap_or_default().into()).or_default() += 1,
                Answer::Refused(_) => refused += 1,
                Answer::NothingOpen => {}
            }
            story.push(told);
            if real != simulated {
                let last = &story[story.len().saturating_sub(30)..];
                let short = |answer: &Answer| format!("{answer:?}").chars().take(300).collect::<String>();
                panic!(
                    "seed {seed}, the last of:\n  {}\nLinux: {}\nSim:   {}",
                    last.join("\n  "),
                    short(&real),
                    short(&simulated)
                );
            }
        }
    } // Stories in which nothing ever succeeds, or fails, would agree about anything.
    assert!(
        !all || (done.len() == 15 && done.values().all(|&count| count > 20) && refused > 500),
        "{done:?} {refused}"
    );
}
