//! `/session/redeem`: one ticket, one key.

use std::time::Duration;

use serde_json::json;

use super::launcher::Launcher;
use super::stage::Stage;
use crate::world::{refused, text};

#[tokio::test]
async fn a_lost_reply_costs_nothing_the_same_key_gets_the_same_session() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    let (mut first, mut again) = (Launcher::new(1), Launcher::new(1));
    first.redeem(&stage.world, &lease).await.ok();
    // Long after the window: the session is there, so its key may ask for it.
    stage.world.advance(Duration::from_mins(10));
    again.redeem(&stage.world, &lease).await.ok();
    assert_eq!(first.session, again.session);
    again.beat(&stage.world).await.ok();
    let redeemed = stage.actions(&run).await.iter().filter(|a| *a == "ticket.redeemed").count();
    assert_eq!(redeemed, 1, "one session, one record");
}

#[tokio::test]
async fn a_second_key_is_theft_whoever_came_first() {
    for (rightful, thief) in [(1, 2), (2, 1)] {
        let stage = Stage::new().await;
        let world = &stage.world;
        let run = stage.run(json!({})).await;
        let lease = stage.lease().await;
        stage.confirm(&lease).await.ok();
        let (mut first, mut second) = (Launcher::new(rightful), Launcher::new(thief));
        first.redeem(world, &lease).await.ok();
        first.read(world, &["db-password"]).await.ok();

        refused(&second.redeem(world, &lease).await, 403, "compromised");
        assert_eq!(stage.status(&run).await, "compromised");
        assert!(stage.actions(&run).await.contains(&"ticket.theft".to_owned()), "the alarm is on record");
        for answer in [
            first.read(world, &["db-password"]).await,
            first.beat(world).await,
            first.log(world, 0, &["x\n"]).await,
            first.end(world, 0).await,
            first.redeem(world, &lease).await,
            second.redeem(world, &lease).await,
        ] {
            refused(&answer, 403, "compromised");
        }
    }
}

#[tokio::test]
async fn theft_is_heard_after_the_end_too() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    let mut launcher = Launcher::new(1);
    launcher.redeem(&stage.world, &lease).await.ok();
    launcher.end(&stage.world, 0).await.ok();
    refused(&Launcher::new(2).redeem(&stage.world, &lease).await, 403, "compromised");
    assert_eq!(stage.status(&run).await, "compromised");
}

#[tokio::test]
async fn theft_is_heard_while_the_run_waits_for_another_attempt() {
    let stage = Stage::new().await;
    let run = stage.run(json!({ "max_attempts": 2 })).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    Launcher::new(1).redeem(&stage.world, &lease).await.ok();
    stage.report(&lease, "gone").await.ok();
    assert_eq!(stage.status(&run).await, "queued");
    refused(&Launcher::new(2).redeem(&stage.world, &lease).await, 403, "compromised");
    assert_eq!(stage.status(&run).await, "compromised");
    assert_eq!(stage.lease().await, serde_json::Value::Null);
}

#[tokio::test]
async fn a_ticket_is_inert_until_its_agent_has_confirmed() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let lease = stage.lease().await;
    let mut launcher = Launcher::new(1);
    refused(&launcher.redeem(&stage.world, &lease).await, 409, "ticket_not_confirmed");
    assert_eq!(stage.status(&run).await, "starting");
    stage.confirm(&lease).await.ok();
    stage.confirm(&lease).await.ok();
    launcher.redeem(&stage.world, &lease).await.ok();
}

#[tokio::test]
async fn a_ticket_expires_two_minutes_after_its_confirmation() {
    let stage = Stage::new().await;
    stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    stage.world.advance(Duration::from_secs(121));
    refused(&Launcher::new(1).redeem(&stage.world, &lease).await, 403, "ticket_refused");
}

#[tokio::test]
async fn a_second_lease_voids_the_first_ticket() {
    let stage = Stage::new().await;
    let run = stage.run(json!({})).await;
    let first = stage.lease().await;
    stage.report(&first, "returned").await.ok();
    let second = stage.lease().await;
    assert_eq!(second["attempt"]["attempt"], 2);
    stage.confirm(&second).await.ok();
    refused(&Launcher::new(1).redeem(&stage.world, &first).await, 403, "ticket_refused");
    assert_eq!(stage.status(&run).await, "starting", "an old ticket hurts nobody");
    Launcher::new(1).redeem(&stage.world, &second).await.ok();
}

#[tokio::test]
async fn a_ticket_works_for_its_own_attempt_only() {
    let stage = Stage::new().await;
    stage.run(json!({})).await;
    stage.run(json!({})).await;
    let (first, second) = (stage.lease().await, stage.lease().await);
    stage.confirm(&first).await.ok();
    stage.confirm(&second).await.ok();
    let mixed = json!({ "attempt": first["attempt"], "tickets": second["tickets"] });
    refused(&Launcher::new(1).redeem(&stage.world, &mixed).await, 403, "ticket_refused");
    let elsewhere = json!({ "attempt": { "workspace": "default", "run": first["attempt"]["run"], "attempt": 1 },
        "tickets": first["tickets"] });
    refused(&Launcher::new(1).redeem(&stage.world, &elsewhere).await, 403, "ticket_refused");
    let made_up = json!({ "attempt": first["attempt"], "tickets": ["kls_tkt_hunter2"] });
    let answer = Launcher::new(1).redeem(&stage.world, &made_up).await;
    refused(&answer, 403, "ticket_refused");
    assert!(!answer.text().contains("hunter2"));
}

#[tokio::test]
async fn a_token_is_no_ticket_and_a_key_can_not_be_borrowed() {
    let stage = Stage::new().await;
    stage.run(json!({})).await;
    let lease = stage.lease().await;
    stage.confirm(&lease).await.ok();
    let with_token = json!({ "attempt": lease["attempt"], "tickets": [stage.world.owner] });
    refused(&Launcher::new(1).redeem(&stage.world, &with_token).await, 403, "ticket_refused");

    // Signed with one key, naming another's.
    let named = data_encoding::HEXLOWER.encode(&[3; 32]);
    let body = json!({ "attempt": lease["attempt"], "ticket": lease["tickets"][0], "public_key": named, "host": "h",
        "version": "0" });
    refused(&Launcher::new(1).post(&stage.world, "/session/redeem", body).await, 401, "unauthenticated");
    assert_eq!(stage.status(&text(&lease["attempt"]["run"])).await, "starting");
}
