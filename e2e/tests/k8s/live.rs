//! Objects of the reference's kinds, changed while calls run, as sidecars in pods see them. Rows KL and KG.

use anyhow::Result;
use ironside_e2e::k8s::{self, Place, Sample};
use serde_json::json;

use crate::shop::{ORDERS, Shop, call, put};

async fn timeouts(place: &Place) -> Result<()> {
    let shop = Shop::open(place, Sample::with_sidecar(ORDERS)).await?;
    let limited = |limit: &str| json!({"policies": {"timeouts": {"limit": limit}}, "targets": {"apps": {ORDERS: {"timeout": "limit"}}}});
    let slow = "/slow?ms=1500";
    shop.always(shop.web(), ORDERS, "/slow?ms=100", 200).await?;
    put(place, "Resiliency", "limits", &limited("300ms"))?;
    let late = async || {
        let outcome = place.call(shop.web(), &call(ORDERS, slow)).await.ok()?;
        (outcome["status"].as_u64()? >= 500).then_some(())
    };
    place.until("a timeout that counts", late).await?;
    put(place, "Resiliency", "limits", &limited("20s"))?;
    shop.becomes(shop.web(), ORDERS, slow, 200).await?;
    shop.same_processes().await
}

/// KL-07, KG-06: a Resiliency that is edited holds for the calls after.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn a_timeout_of_a_resiliency_is_live() {
    k8s::test("live::a_timeout_of_a_resiliency_is_live", timeouts).await;
}
