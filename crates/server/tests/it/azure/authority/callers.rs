//! The authority's routes as everybody. Who gets a token there, and who does not, stands in one table.

use std::fmt::Write;

use serde_json::json;

use super::{HERE, SCOPE, VAULT, by_secret, form, get, native};
use crate::session::stage::Stage;
use crate::world::{World, text};

/// Who comes, and with what.
struct Callers(Vec<(&'static str, String)>);

async fn callers(world: &World) -> Callers {
    let mut all = vec![("nothing", String::new()), ("garbage", "kls_usr_garbage".to_owned())];
    let short = world.post("/tokens", &world.owner, json!({ "label": "short", "life_seconds": 1 })).await.ok();
    world.advance(std::time::Duration::from_secs(1));
    all.push(("expired", text(&short["token"])));
    let revoked = world.user("revoked", None).await;
    world.delete("/tokens/current", &revoked).await.ok();
    all.push(("revoked", revoked));
    let disabled = world.user("disabled", None).await;
    world.patch("/principals/disabled", &world.owner, json!({ "enabled": false })).await.ok();
    all.push(("disabled", disabled));
    let invite = world.post("/invites", &world.owner, json!({ "name": "invited", "kind": "user" })).await.ok();
    all.push(("invitation", text(&invite["code"])));
    let (id, secret) = world.service_principal("ci").await;
    let service = native(world, &id, &secret).await;
    all.push(("client secret", secret));
    all.push(("user", world.user("ada", None).await));
    all.push(("owner", world.owner.clone()));
    all.push(("agent", world.agent("node", "server").await));
    let audience = world.app.audience("https://localhost:8443").unwrap();
    let caller = world.app.sign_in(&service, HERE).await.unwrap();
    let issuer = kluis_server::service::identity::Issuer("x".into());
    let face = world.app.identity().face_token(&caller, &audience, &issuer).await.unwrap();
    all.push(("service", service));
    all.push(("face", face.token.expose().to_owned()));
    Callers(all)
}

#[tokio::test]
async fn who_gets_a_token_by_what() {
    let world = World::new().await;
    let Callers(callers) = callers(&world).await;
    let mut table = String::new();
    for (n, (who, credential)) in callers.iter().enumerate() {
        let (client, _) = world.service_principal(&format!("other-{n}")).await;
        let address = format!("/azure/identity/token?api-version=2017-09-01&resource={VAULT}");
        let managed = get(&world, &address, &[("secret", credential)]).await;
        let secret = form(&world, "/adfs/oauth2/token", &by_secret(&client, credential)).await;
        let own = match world.app.sign_in(credential, HERE).await {
            Ok(caller) => caller.id().to_string(),
            Err(_) => client.clone(),
        };
        let own = if *who == "face" { own_of(&world, credential).await } else { own };
        let assertion = form(
            &world,
            "/adfs/oauth2/token",
            &[
                ("grant_type", "client_credentials"),
                ("client_id", &own),
                ("client_assertion", credential),
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("scope", SCOPE),
            ],
        )
        .await;
        let refresh = form(
            &world,
            "/adfs/oauth2/token",
            &[("grant_type", "refresh_token"), ("client_id", &client), ("refresh_token", credential), ("scope", SCOPE)],
        )
        .await;
        let answers = [managed, secret, assertion, refresh].map(|answer| match answer.status.as_u16() {
            200 => "yes".to_owned(),
            status => status.to_string(),
        });
        let [managed, secret, assertion, refresh] = answers;
        writeln!(table, "{who:14} managed {managed:4} secret {secret:4} assertion {assertion:4} refresh {refresh}")
            .unwrap();
    }
    insta::assert_snapshot!(table);
}

async fn own_of(world: &World, face: &str) -> String {
    world.app.sign_in_face(face, HERE, "https://localhost:8443").await.unwrap().id().to_string()
}

/// A run has no token of its own here: its launcher signs, and nothing that it holds is one.
#[tokio::test]
async fn a_ticket_gets_no_token() {
    let stage = Stage::new().await;
    stage.run(json!({ "run": "mine" })).await;
    let lease = stage.lease().await;
    let ticket = text(&lease["tickets"][0]);
    let address = format!("/azure/identity/token?api-version=2017-09-01&resource={VAULT}");
    let answer = get(&stage.world, &address, &[("secret", &ticket)]).await;
    super::assert_refused(&answer, 401, "invalid_client");
}
