//! Two candidates and one Lease.

use super::rig::{LONG, Rig};
use crate::lease::{Election, Leadership, NAME};
use ironside_proto::operator as proto;
use ironside_testkit::kube::{ApiServer, Fault, When};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct Candidate {
    leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
}

fn candidate(rig: &Rig, name: &str) -> Candidate {
    let common = rig.common.clone();
    let (election, leadership) = Election::new(
        common.calls,
        common.namespace,
        (name.to_owned(), Some(format!("{name}:6500"))),
        common.clock,
        common.metrics,
    );
    let stop = rig.tasks.token();
    rig.tasks.spawn("election", election.run(stop.clone()));
    Candidate { leadership, stop }
}

async fn leads(candidate: &mut Candidate) {
    let leads = candidate.leadership.wait_for(|held| held.is_leader);
    tokio::time::timeout(LONG, leads).await.unwrap().unwrap();
}

fn holder(server: &ApiServer) -> Option<String> {
    let lease = server.object("coordination.k8s.io/v1", "Lease", "dapr-system", NAME)?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

/// KO-18: one leads, the other knows where it is, and follows on when it goes.
#[tokio::test]
async fn the_next_one_leads_when_one_goes() {
    let rig = Rig::start().await;
    let mut a = candidate(&rig, "a");
    leads(&mut a).await;
    assert_eq!(holder(&rig.server).as_deref(), Some("a"));
    let mut b = candidate(&rig, "b");
    let knows = b
        .leadership
        .wait_for(|held| held.leader_address.as_deref() == Some("a:6500"));
    tokio::time::timeout(LONG, knows).await.unwrap().unwrap();
    a.stop.cancel();
    leads(&mut b).await;
    assert!(!a.leadership.borrow().is_leader);
    assert_eq!(holder(&rig.server).as_deref(), Some("b"));
}

/// KO-19: without rights nobody leads, and sidecars are served nevertheless.
#[tokio::test]
async fn without_rights_nobody_leads() {
    let rig = Rig::start().await;
    let when = When::new("get", "leases");
    rig.server.inject(when.clone(), Fault::Status(403), 1);
    let mut a = candidate(&rig, "a");
    rig.until("an attempt", |server| {
        (!server.seen(&when).is_empty()).then_some(())
    })
    .await;
    assert!(!a.leadership.borrow().is_leader);
    leads(&mut a).await;
    // Another one that never leads.
    let rig = Rig::start().await;
    rig.server
        .inject(when.clone(), Fault::Status(403), usize::MAX);
    let a = candidate(&rig, "a");
    rig.leadership.send_modify(|held| held.is_leader = false);
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    rig.until("an attempt", |server| {
        (!server.seen(&when).is_empty()).then_some(())
    })
    .await;
    let namespace = "ns1".to_owned();
    let request = proto::ListResiliencyRequest { namespace };
    let listed = client.list_resiliency(request).await.unwrap();
    assert!(listed.into_inner().resiliencies.is_empty());
    assert!(!a.leadership.borrow().is_leader);
    assert_eq!(holder(&rig.server), None);
}
