//! What objects decided in the last hour, minute by minute.

use std::time::Duration;

use super::Counts;

/// Minutes of an hour.
const MINUTES: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// Counts of the last hour, by minute.
#[derive(Debug)]
pub(super) struct Hour {
    minutes: [Counts; MINUTES],
    newest: u64,
}

// === impl Hour ===

impl Default for Hour {
    fn default() -> Self {
        Self {
            minutes: [Counts::default(); MINUTES],
            newest: 0,
        }
    }
}

impl Hour {
    /// The place of the present minute.
    pub(super) fn minute(&mut self, now: Duration) -> &mut Counts {
        let minute = now.as_secs() / MINUTE.as_secs();
        let gone = minute.saturating_sub(self.newest).min(MINUTES as u64);
        for step in 0..gone {
            *self.place(minute - step) = Counts::default();
        }
        self.newest = self.newest.max(minute);
        self.place(minute)
    }

    pub(super) fn sum(&self, now: Duration) -> Counts {
        let minute = now.as_secs() / MINUTE.as_secs();
        let oldest = minute.saturating_sub(MINUTES as u64 - 1);
        let mut sum = Counts::default();
        for each in oldest..=self.newest.min(minute) {
            let counts = self.minutes.get(index(each)).copied().unwrap_or_default();
            sum.denied = sum.denied.saturating_add(counts.denied);
            sum.would_deny = sum.would_deny.saturating_add(counts.would_deny);
        }
        sum
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is a remainder of the length"
    )]
    fn place(&mut self, minute: u64) -> &mut Counts {
        &mut self.minutes[index(minute)]
    }
}

fn index(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or_default()
}
