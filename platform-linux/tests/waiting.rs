//! Loops of other people's making sleep on our words: the examples, run.
//!
//! If one of these fails, a consumer inside such a loop sleeps for ever beside a ring that has something for it.
#![cfg(target_os = "linux")]

#[path = "../examples/wait_epoll.rs"]
mod wait_epoll;
#[path = "../examples/wait_io_uring.rs"]
mod wait_io_uring;
#[path = "../examples/wait_tokio.rs"]
mod wait_tokio;

#[test]
fn an_io_uring_loop_is_woken() {
    wait_io_uring::main().unwrap();
}

#[test]
fn a_tokio_task_is_woken() {
    wait_tokio::main().unwrap();
}

#[test]
fn an_epoll_loop_is_woken() {
    wait_epoll::main().unwrap();
}
