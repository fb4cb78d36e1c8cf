//! Ctrl-C while something is fetched or sent: every transfer of this process ends, and whoever made something undoes it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::Agent;

static CANCELLED: AtomicBool = AtomicBool::new(false);
static AGENTS: Mutex<BTreeMap<u64, Agent>> = Mutex::new(BTreeMap::new());

/// Ends all transfers, now and from now on.
pub fn cancel() {
    CANCELLED.store(true, Ordering::SeqCst);
    for (_, agent) in std::mem::take(&mut *agents()) {
        agent.shutdown();
    }
}

/// Whether somebody has.
pub fn is_on() -> bool {
    CANCELLED.load(Ordering::SeqCst)
}

/// Has this agent's connections shut, too, until the answer is dropped.
pub(super) fn watch(agent: &Agent) -> Watched {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    agents().insert(number, agent.clone());
    if is_on() {
        cancel();
    }
    Watched(number)
}

/// Who asks many servers, one after the other, doesn't keep them all.
#[must_use]
pub(super) struct Watched(u64);

impl Drop for Watched {
    fn drop(&mut self) {
        agents().remove(&self.0);
    }
}

fn agents() -> MutexGuard<'static, BTreeMap<u64, Agent>> {
    AGENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits, at most until then.
pub(super) fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !is_on() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
}
