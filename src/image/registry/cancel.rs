//! Ctrl-C while something is fetched or sent: every transfer of this process ends, and whoever made something undoes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;

static CANCELLED: AtomicBool = AtomicBool::new(false);
static AGENTS: Mutex<Vec<Agent>> = Mutex::new(Vec::new());

/// Ends all transfers, now and from now on.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
    for agent in AGENTS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        agent.shutdown();
    }
}

/// Whether somebody has.
pub fn is_on() -> bool {
    CANCELLED.load(Ordering::SeqCst)
}

/// Has this agent's connections shut, too.
pub(super) fn watch(agent: &Agent) {
    AGENTS.lock().unwrap_or_else(PoisonError::into_inner).push(agent.clone());
    if is_on() {
        cancel();
    }
}

/// Waits, at most until then.
pub(super) fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !is_on() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
}
