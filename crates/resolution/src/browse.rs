//! Which apps are looked for on the network, and when the next question about each is due.
//!
//! Owns the timing (service-invocation 6.3): a question at once, again with growing pauses until an
//! address is seen, then every 30 s for as long as somebody asks for the app. Callers that come
//! while a question is under way share it. Bounded: a further app is refused when too many are
//! looked for. Time comes in as an argument; refuses to send anything.

use std::collections::HashMap;
use std::time::Duration;

use ironside_identity::AppId;

#[cfg(test)]
mod tests;

/// How long the caller that began a look-up waits for the first answer. Fact: 6.3, row Lookup.
pub const BROWSER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a caller waits that joined a look-up under way. Fact: 6.3, row Lookup.
pub const JOINER_PATIENCE: Duration = Duration::from_secs(2);
/// How long an address is believed after it was last seen. Fact: 6.3, row Refresh.
pub const ADDRESS_LIFETIME: Duration = Duration::from_secs(60);

/// Between the questions about an app whose address is known. Fact: 6.3, row Refresh.
const REFRESH: Duration = Duration::from_secs(30);
/// Before the second question about an app that nobody answers for. Fact: 6.3, row Query.
const FIRST_PAUSE: Duration = Duration::from_secs(4);
/// The longest pause between two such questions; RFC 6762 5.2 allows up to an hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// RFC 6762 5.2: between two questions of the same content lies one second at least.
const SPACING: Duration = Duration::from_secs(1);
/// An app that nobody asked for in this time is forgotten.
const INTEREST: Duration = Duration::from_secs(600);
/// The same for an app that was never found, so that wrong names cost little.
const VAIN_INTEREST: Duration = Duration::from_secs(60);

/// The apps that are looked for.
#[derive(Debug)]
pub struct Browse {
    limit: usize,
    apps: HashMap<AppId, Search>,
}

/// What a caller is to the look-up it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its question is due now.
    Browser,
    /// It waits for the answer to a question that is on its way.
    Joiner,
}

#[derive(Debug)]
struct Search {
    /// When somebody last wanted the app.
    asked: Duration,
    /// When a caller last became the browser.
    begun: Option<Duration>,
    /// When a question was last sent.
    sent: Option<Duration>,
    due: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sought { pause: Duration },
    Found,
}

// === impl Browse ===

impl Browse {
    /// Looks for nothing yet, and never for more than `limit` apps at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            apps: HashMap::new(),
        }
    }

    /// A caller needs an address of the app; `None` if too many apps are looked for already.
    pub fn ask(&mut self, app: &AppId, now: Duration) -> Option<Role> {
        let search = self.search(app, now)?;
        search.asked = now;
        if search.is_under_way(now) {
            return Some(Role::Joiner);
        }
        search.begun = Some(now);
        search.due = now;
        // The clock of the pauses starts anew: somebody is waiting.
        search.state = State::sought();
        Some(Role::Browser)
    }

    /// A caller used an address of the app that is known anyway: keep looking in the background.
    pub fn keep(&mut self, app: &AppId, now: Duration) {
        if let Some(search) = self.search(app, now) {
            search.asked = now;
        }
    }

    /// Whether answers about the app are of interest.
    #[must_use]
    pub fn wants(&self, app: &AppId) -> bool {
        self.apps.contains_key(app)
    }

    /// An address was seen. The first time asks once more, because others may answer too.
    pub fn found(&mut self, app: &AppId, now: Duration) {
        let Some(search) = self.apps.get_mut(app) else {
            return;
        };
        if search.state != State::Found {
            search.state = State::Found;
            search.due = search.soonest(now);
        }
    }

    /// Found apps of which no address is left are looked for again, in the background.
    pub fn lost_unless(&mut self, is_known: impl Fn(&AppId) -> bool, now: Duration) {
        for (app, search) in &mut self.apps {
            if search.state == State::Found && !is_known(app) {
                search.state = State::sought();
                search.due = search.soonest(now);
            }
        }
    }

    /// The apps whose question is due now; they count as asked about. Forgets apps out of interest.
    pub fn due(&mut self, now: Duration) -> Vec<AppId> {
        self.apps.retain(|_, search| search.is_of_interest(now));
        let mut due = Vec::new();
        for (app, search) in &mut self.apps {
            if search.due <= now {
                search.sent(now);
                due.push(app.clone());
            }
        }
        due
    }

    /// The instant of the next question; `None` if there is nothing to look for.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.apps.values().map(|search| search.due).min()
    }

    fn search(&mut self, app: &AppId, now: Duration) -> Option<&mut Search> {
        if !self.apps.contains_key(app) {
            if self.apps.len() >= self.limit {
                self.apps.retain(|_, search| search.is_of_interest(now));
            }
            if self.apps.len() >= self.limit {
                return None;
            }
        }
        Some(self.apps.entry(app.clone()).or_insert(Search {
            asked: now,
            begun: None,
            sent: None,
            due: now,
            state: State::sought(),
        }))
    }
}

// === impl Search ===

impl Search {
    fn sent(&mut self, now: Duration) {
        self.sent = Some(now);
        let pause = match &mut self.state {
            State::Found => REFRESH,
            State::Sought { pause } => {
                let current = *pause;
                *pause = current.saturating_mul(2).min(LONGEST_PAUSE);
                current
            }
        };
        self.due = now.saturating_add(pause);
    }

    /// Now, or as soon as the spacing allows.
    fn soonest(&self, now: Duration) -> Duration {
        let spaced = |sent: Duration| now.max(sent.saturating_add(SPACING));
        self.sent.map_or(now, spaced)
    }

    fn is_under_way(&self, now: Duration) -> bool {
        let recent = |at: Duration| now.saturating_sub(at) < SPACING;
        self.begun.is_some_and(recent) || self.sent.is_some_and(recent)
    }

    fn is_of_interest(&self, now: Duration) -> bool {
        let limit = match self.state {
            State::Found => INTEREST,
            State::Sought { .. } => VAIN_INTEREST,
        };
        now.saturating_sub(self.asked) < limit
    }
}

// === impl State ===

impl State {
    fn sought() -> Self {
        Self::Sought { pause: FIRST_PAUSE }
    }
}
