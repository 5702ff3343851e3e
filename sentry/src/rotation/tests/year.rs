//! Workloads renew while roots come and go: years of it, in simulated time, with real certificates.
//!
//! Three kinds of workloads: ours, which learn roots from every answer; the reference's, which know the roots of
//! their start for ever; and Sentry, whose certificate all must believe who want to renew.

use super::*;
use crate::issue::leaf::{self, Names, Validity};
use ironside_identity::{TrustBundle, verify};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;

/// A chain as it was issued.
struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    from: SystemTime,
    to: SystemTime,
}

struct Workload {
    /// What it was started with.
    anchors: TrustBundle,
    /// Whether it adds the roots of an answer.
    learns: bool,
    bundle: TrustBundle,
    leaf: Leaf,
    renews: SystemTime,
}

struct World {
    maker: Maker,
    state: State,
    authority: Authority,
    now: SystemTime,
    workloads: Vec<Workload>,
    /// All leaves that have not ended.
    leaves: Vec<Leaf>,
    rng: SmallRng,
    spki: Vec<u8>,
    steps: Vec<Step>,
    /// When Sentry looks at its plan; it may be late.
    looks: SystemTime,
    latest: Duration,
    checks: usize,
}

impl World {
    fn new(plan: Plan, seed: u64, latest: Duration) -> Self {
        let (maker, now) = (maker(plan), now());
        let state = maker.first(now).unwrap();
        let authority = Authority::from_texts(&state.texts(), now).unwrap();
        Self {
            maker,
            state,
            authority,
            now,
            workloads: Vec::new(),
            leaves: Vec::new(),
            rng: SmallRng::seed_from_u64(seed),
            spki: KeyPair::generate().unwrap().subject_public_key_info(),
            steps: Vec::new(),
            looks: now,
            latest,
            checks: 0,
        }
    }

    fn issue(&mut self) -> Leaf {
        self.authority.check_ready(self.now).unwrap();
        let Plan { leaf_ttl, skew, .. } = self.maker.plan;
        let validity = Validity {
            not_before: self.now - skew,
            not_after: (self.now + leaf_ttl).min(self.authority.issuer_not_after()),
        };
        let names = Names {
            id: SpiffeId::parse("spiffe://public/ns/default/app").unwrap(),
            dns: Vec::new(),
            images: None,
        };
        let signer = self.authority.signer();
        let leaf = leaf::write(signer, &self.spki, &names, validity, self.rng.random()).unwrap();
        let chain = [&leaf].into_iter().chain(self.authority.chain(self.now));
        Leaf {
            chain: chain.cloned().collect(),
            from: validity.not_before,
            to: validity.not_after,
        }
    }

    fn start(&mut self, learns: bool) -> Workload {
        let anchors = self.authority.bundle().clone();
        let leaf = self.issue();
        self.leaves.push(leaf.copy());
        let mut workload = Workload {
            bundle: anchors.clone(),
            anchors,
            learns,
            leaf,
            renews: self.now,
        };
        workload.plan_renewal(self.now, &mut self.rng);
        workload
    }

    /// Who learns roots believes a leaf by its issuer alone; who does not needs what old roots have signed for new
    /// ones.
    fn believes(&mut self, (bundle, learns): &(TrustBundle, bool), leaf: &Leaf) {
        self.checks += 1;
        let chain = match learns {
            true => &leaf.chain[..2],
            false => &leaf.chain[..],
        };
        let verified = verify(chain, bundle, self.now);
        let (state, steps) = (&self.state, &self.steps);
        assert!(
            verified.is_ok(),
            "{verified:?} in {state:?} after {steps:?}"
        );
    }

    /// Everybody's leaf is believed by everybody, and every leaf that lives by the roots of an answer.
    fn check_all(&mut self) {
        let now = self.now;
        self.leaves.retain(|leaf| leaf.to >= now);
        let leaves: Vec<_> = self.leaves.iter().map(Leaf::copy).collect();
        let mut bundles = vec![(self.authority.bundle().clone(), true)];
        bundles.extend(self.workloads.iter().map(Workload::judge));
        for bundle in &bundles {
            for leaf in &leaves {
                self.believes(bundle, leaf);
            }
        }
    }

    fn renew(&mut self, index: usize) {
        let sentry = self.issue();
        let judge = self.workloads[index].judge();
        self.believes(&judge, &sentry);
        let leaf = self.issue();
        for other in 0..self.workloads.len() {
            let judge = self.workloads[other].judge();
            self.believes(&judge, &leaf);
        }
        self.leaves.push(leaf.copy());
        let (answer, now) = (self.authority.bundle().clone(), self.now);
        let workload = &mut self.workloads[index];
        workload.leaf = leaf;
        workload.plan_renewal(now, &mut self.rng);
        if workload.learns {
            workload.bundle = workload.anchors.merge(&answer);
        }
        let judge = workload.judge();
        for other in 0..self.workloads.len() {
            let leaf = self.workloads[other].leaf.copy();
            self.believes(&judge, &leaf);
        }
    }

    fn rotate(&mut self) {
        let advanced = self.maker.advance(&self.state, false, self.now).unwrap();
        let lateness = self.latest.mul_f64(self.rng.random());
        self.looks = advanced.next.0 + lateness;
        if advanced.steps.is_empty() {
            return;
        }
        // The stored form is what lives on.
        let stored = advanced.state.to_json().unwrap();
        self.state = State::from_json(&stored).unwrap();
        self.authority = Authority::from_texts(&self.state.texts(), self.now).unwrap();
        self.steps.extend(advanced.steps);
        self.check_all();
    }

    /// A workload of the reference lives as long as a root that it knows.
    fn restart_the_orphaned(&mut self) {
        for index in 0..self.workloads.len() {
            let workload = &self.workloads[index];
            // It is restarted a minute before that.
            let soon = self.now + MINUTE / 30;
            if workload.bundle.valid_at(soon).next().is_none() {
                let learns = workload.learns;
                self.workloads[index] = self.start(learns);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let last = |workload: &Workload| {
            let anchors = workload.bundle.anchors().iter();
            anchors.map(|anchor| anchor.not_after()).max().unwrap() - MINUTE / 60
        };
        for learns in [true, true, false] {
            let workload = self.start(learns);
            self.workloads.push(workload);
        }
        while self.now < end {
            let renewals = self.workloads.iter().map(|workload| workload.renews);
            let orphaned = self.workloads.iter().map(last);
            let next = renewals.chain(orphaned).chain([self.looks]).min().unwrap();
            self.now = next.max(self.now);
            if self.looks <= self.now {
                self.rotate();
            }
            self.restart_the_orphaned();
            let due = |workload: &Workload| workload.renews <= next;
            let due: Vec<_> = (0..3).filter(|&i| due(&self.workloads[i])).collect();
            for index in due {
                self.renew(index);
            }
        }
    }

    fn count(&self, step: Step) -> usize {
        self.steps.iter().filter(|done| **done == step).count()
    }
}

impl Leaf {
    fn copy(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            from: self.from,
            to: self.to,
        }
    }
}

impl Workload {
    fn judge(&self) -> (TrustBundle, bool) {
        (self.bundle.clone(), self.learns)
    }

    fn plan_renewal(&mut self, now: SystemTime, rng: &mut SmallRng) {
        let Leaf { from, to, .. } = self.leaf;
        let half = to.duration_since(from).unwrap() / 2;
        self.renews = match self.learns {
            true => ironside_identity::renewal::renew_at(now, to, rng),
            false => (from + half).max(now + Duration::from_secs(1)),
        };
    }
}

#[test]
fn a_year_of_monthly_roots_with_daily_leaves() {
    let monthly = Plan {
        ca_ttl: 30 * DAY,
        ..PLAN
    };
    let mut world = World::new(monthly, 1, HOUR);
    world.run(365 * DAY);
    assert!(world.count(Step::Withdraw) >= 11, "{:?}", world.steps);
    assert!(world.checks > 10_000, "{}", world.checks);
}

#[test]
fn ten_years_of_the_defaults_with_leaves_of_a_month() {
    let slow = Plan {
        leaf_ttl: 30 * DAY,
        ..PLAN
    };
    let mut world = World::new(slow, 2, DAY);
    world.run(3650 * DAY);
    assert!(world.count(Step::Withdraw) >= 9, "{:?}", world.steps);
}

#[test]
fn three_minute_roots_with_one_minute_leaves() {
    let mut world = World::new(FAST, 3, Duration::ZERO);
    world.run(Duration::from_secs(3600));
    assert!(world.count(Step::Withdraw) >= 15, "{:?}", world.steps);
}

#[test]
fn issuers_change_below_a_kept_root_and_the_root_changes_in_its_time() {
    let keep = Plan {
        ca_ttl: 20 * DAY,
        root_ttl: 90 * DAY,
        root_key: RootKey::Keep,
        ..PLAN
    };
    let mut world = World::new(keep, 4, HOUR);
    world.run(365 * DAY);
    assert!(world.count(Step::Reissue) >= 10, "{:?}", world.steps);
    assert!(world.count(Step::Withdraw) >= 4, "{:?}", world.steps);
}
