//! How many sockets and files a process may have open.
//!
//! Owns that the soft limit, which systems keep at 1,024 for the sake of old programs, becomes the hard one, as the
//! reference's runtime does by itself: a connection takes a descriptor, and a call through a sidecar up to two.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Children inherit it, so it is for programs that have none.
///
/// A system that refuses leaves the limit as it was; `process_max_fds` shows it.
pub fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Nothing fails for it here; who runs out is told when a descriptor is refused.
    let _kept = setrlimit(Resource::Nofile, raised);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let lowered = Rlimit {
            current: hard.map_or(Some(1024), |hard| Some(hard.min(1024))),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, lowered).unwrap();
        raise_limit();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.maximum), (hard, hard));
    }
}
