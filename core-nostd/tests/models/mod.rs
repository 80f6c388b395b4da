//! Checking a model on every schedule, and checking one that has to be refuted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Checks `model` on every schedule, or where `preemptions` are given on those with at most so many of them.
pub(crate) fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let counted = executions.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}

/// Passes if the model finds a failure, and says which.
pub(crate) fn must_fail(check: impl FnOnce()) {
    let refuted = catch_unwind(AssertUnwindSafe(check)).expect_err("the weakened protocol passed: the model is blind");
    let why = refuted
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| refuted.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without text");
    println!("refuted, as it must be: {}", why.replace('\n', " "));
}
