//! A load: one call again and again by several workers, and an account of what came of it.
//!
//! The account counts, keeps the first failures word for word, and notes each change of the outcome with its time,
//! so that a test can tell when a rule arrived.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    call::{Call, Caller, Outcome},
    clock::unix_ms,
};

/// Failures kept word for word, and changes of the outcome.
const KEPT: usize = 200;

/// Workers at most.
const WORKERS: u16 = 256;

/// Pause between looks at what a load waits for.
const LOOK: Duration = Duration::from_millis(100);

/// A load that is wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The call.
    call: Call,
    /// Further calls: the workers share them out, each makes one of them all the time.
    #[serde(default)]
    more: Vec<Call>,
    /// How many make calls at once.
    #[serde(default = "one")]
    workers: u16,
    /// How long each pauses after a call.
    #[serde(default)]
    pause_ms: u64,
    /// How many calls each makes; without end if it is not there.
    #[serde(default)]
    rounds: Option<u64>,
    /// A call that has to succeed before the first one, as apps wait for their sidecar.
    #[serde(default)]
    after: Option<Call>,
}

fn one() -> u16 {
    1
}

/// What came of it so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Account {
    /// Whether calls are still made.
    running: bool,
    /// Calls with a status of success.
    ok: u64,
    /// All others.
    failed: u64,
    /// Successes of each call, in the order of the load.
    each_ok: Vec<u64>,
    /// How often each verdict came.
    verdicts: BTreeMap<String, u64>,
    /// The first failures.
    failures: Vec<Noted>,
    /// When the verdict changed, and to what; of the first worker only.
    changes: Vec<Noted>,
    /// The longest call, in milliseconds.
    longest_ms: u64,
    /// The last success, in milliseconds since 1970.
    last_ok_unix_ms: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Noted {
    unix_ms: u64,
    verdict: String,
    /// Whose it is, in the order of the load.
    call: usize,
    /// The answer, for the reason it gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

impl Account {
    fn note(&mut self, worker: u16, call: usize, outcome: Outcome) {
        let verdict = outcome.verdict();
        self.longest_ms = self.longest_ms.max(outcome.ms());
        let of_same = self.verdicts.entry(verdict.clone()).or_default();
        *of_same = of_same.saturating_add(1);
        let changed = self
            .changes
            .last()
            .is_none_or(|last| last.verdict != verdict);
        if worker == 0 && changed && self.changes.len() < KEPT {
            self.changes.push(Noted {
                unix_ms: unix_ms(),
                verdict: verdict.clone(),
                call,
                outcome: None,
            });
        }
        if outcome.is_good() {
            self.ok = self.ok.saturating_add(1);
            if let Some(ok) = self.each_ok.get_mut(call) {
                *ok = ok.saturating_add(1);
            }
            self.last_ok_unix_ms = Some(unix_ms());
            return;
        }
        self.failed = self.failed.saturating_add(1);
        if self.failures.len() < KEPT {
            self.failures.push(Noted {
                unix_ms: unix_ms(),
                verdict,
                call,
                outcome: Some(outcome),
            });
        }
    }
}

/// A load in progress or ended; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Load {
    account: Arc<Mutex<Account>>,
    is_ending: Arc<AtomicBool>,
    workers: JoinSet<()>,
}

impl Load {
    /// Starts the workers.
    pub(crate) fn start(caller: &Caller, order: &Order) -> Self {
        let account = Arc::new(Mutex::new(Account {
            running: true,
            each_ok: vec![0; order.more.len().saturating_add(1)],
            ..Account::default()
        }));
        let is_ending = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for worker in 0..order.workers.min(WORKERS) {
            let (account, is_ending) = (Arc::clone(&account), Arc::clone(&is_ending));
            workers.spawn(work(
                worker,
                caller.clone(),
                order.clone(),
                account,
                is_ending,
            ));
        }
        Self {
            account,
            is_ending,
            workers,
        }
    }

    /// Lets the calls in flight end, and begins no other.
    pub(crate) async fn finish(mut self) -> Account {
        self.is_ending.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.account()
    }

    /// The account so far.
    pub(crate) fn account(&mut self) -> Account {
        while self.workers.try_join_next().is_some() {}
        let mut account = lock(&self.account).clone();
        account.running = !self.workers.is_empty();
        account
    }

    /// Ends it; calls in flight are given up and not counted.
    pub(crate) fn end(&mut self) -> Account {
        self.workers.abort_all();
        let mut account = lock(&self.account).clone();
        account.running = false;
        account
    }
}

async fn work(
    worker: u16,
    caller: Caller,
    order: Order,
    account: Arc<Mutex<Account>>,
    is_ending: Arc<AtomicBool>,
) {
    let of_call = usize::from(worker) % order.more.len().saturating_add(1);
    let call = match of_call.checked_sub(1) {
        Some(further) => order.more.get(further),
        None => Some(&order.call),
    };
    let Some(call) = call else { return };
    if let Some(first) = &order.after {
        while !is_ending.load(Ordering::Relaxed) && !caller.make(first).await.is_good() {
            tokio::time::sleep(LOOK).await;
        }
    }
    let mut made: u64 = 0;
    while order.rounds.is_none_or(|rounds| made < rounds) && !is_ending.load(Ordering::Relaxed) {
        let outcome = caller.make(call).await;
        lock(&account).note(worker, of_call, outcome);
        made = made.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(order.pause_ms)).await;
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}
