//! Measurements behind Chronicle's decisions; each file in `benches/` asks one question.
//!
//! ```text
//! cargo bench -p chronicle-benches --bench frame_header     docs/decisions/0001-frame-header.md
//! cargo bench -p chronicle-benches --bench append           time of an append, by payload and checksum
//! cargo bench -p chronicle-benches --bench read             time of a step, by payload and care
//! cargo bench -p chronicle-benches --bench roll             time from a full segment to the next frame
//! cargo bench -p chronicle-benches --bench archive          time to compress and to read back, by level and threads
//! bash ci/instructions                                      instruction counts, docs/instructions.md
//! ```
//!
//! Nothing here is a library. Comparisons with other people's programs are in `benches/rivals`, a package of its own.
