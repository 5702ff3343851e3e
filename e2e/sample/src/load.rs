//! A load: one call again and again by several workers, and an account of what came of it.
//!
//! The account counts, keeps the first failures word for word, and notes each change of the outcome with its time,
//! so that a test can tell when a rule arrived.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

/// A load that is wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// The call.
    call: Call,
    /// How many make it at once.
    #[serde(default = "one")]
    workers: u16,
    /// How long each pauses after a call.
    #[serde(default)]
    pause_ms: u64,
    /// How many calls each makes; without end if it is not there.
    #[serde(default)]
    rounds: Option<u64>,
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
    /// The answer, for the reason it gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

impl Account {
    fn note(&mut self, worker: u16, outcome: Outcome) {
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
                outcome: None,
            });
        }
        if outcome.is_good() {
            self.ok = self.ok.saturating_add(1);
            self.last_ok_unix_ms = Some(unix_ms());
            return;
        }
        self.failed = self.failed.saturating_add(1);
        if self.failures.len() < KEPT {
            self.failures.push(Noted {
                unix_ms: unix_ms(),
                verdict,
                outcome: Some(outcome),
            });
        }
    }
}

/// A load in progress or ended; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Load {
    account: Arc<Mutex<Account>>,
    workers: JoinSet<()>,
}

impl Load {
    /// Starts the workers.
    pub(crate) fn start(caller: &Caller, order: &Order) -> Self {
        let account = Arc::new(Mutex::new(Account {
            running: true,
            ..Account::default()
        }));
        let mut workers = JoinSet::new();
        for worker in 0..order.workers.min(WORKERS) {
            let account = Arc::clone(&account);
            workers.spawn(work(worker, caller.clone(), order.clone(), account));
        }
        Self { account, workers }
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

async fn work(worker: u16, caller: Caller, order: Order, account: Arc<Mutex<Account>>) {
    let mut made: u64 = 0;
    while order.rounds.is_none_or(|rounds| made < rounds) {
        let outcome = caller.make(&order.call).await;
        lock(&account).note(worker, outcome);
        made = made.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(order.pause_ms)).await;
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}
