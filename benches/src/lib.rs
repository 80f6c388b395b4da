//! Measurements behind Chronicle's decisions; each file in `benches/` asks one question.
//!
//! ```text
//! cargo bench -p chronicle-benches --bench frame_header     docs/decisions/0001-frame-header.md
//! bash ci/instructions                                      instruction counts against benches/baseline.json
//! ```
//!
//! Nothing here is a library. Comparisons with other people's programs are in `benches/rivals`, a package of its own.
