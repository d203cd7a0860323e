//! Tokens for the Azure faces: what they are good for, and what ends them.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use kluis_core::api::identity::ClientLogin;
use kluis_core::plaintext::Plaintext;
use kluis_server::Server;
use kluis_server::error::{Error, Unauthenticated};
use kluis_server::service::identity::{FaceIssued, Issuer};
use serde_json::{Value, json};

use super::{HERE, VAULT};
use crate::world::{World, options, tamper, text};

const MINUTE: Duration = Duration::from_mins(1);

fn issuer() -> Issuer {
    Issuer("https://localhost:8443/adfs".into())
}

async fn from_token(world: &World, native: &str) -> Result<FaceIssued, Error> {
    let caller = world.app.sign_in(native, HERE).await.unwrap();
    let audience = world.app.audience(VAULT).unwrap();
    world.app.identity().face_token(&caller, &audience, &issuer()).await
}

async fn from_secret(world: &World, id: &str, secret: &str) -> Result<FaceIssued, Error> {
    let login = ClientLogin { client_id: id.parse().unwrap(), client_secret: Plaintext::from_text(secret).unwrap() };
    let audience = world.app.audience(VAULT).unwrap();
    world.app.identity().face_login_client(&login, HERE, &audience, &issuer()).await
}

async fn refusal(world: &World, token: &str) -> Error {
    world.app.sign_in_face(token, HERE, VAULT).await.expect_err("this does not sign in")
}

#[tokio::test]
async fn one_is_good_for_its_audience_and_says_what_clients_look_for() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let issued = from_token(&world, &ada).await.unwrap();
    let caller = world.app.sign_in_face(issued.token.expose(), HERE, VAULT).await.unwrap();
    assert_eq!(caller.known.principal.name.as_str(), "ada");
    world.app.sign_in_face(issued.token.expose(), HERE, "https://Vault.localhost:8443/").await.unwrap();

    for other in ["https://localhost:8443", "https://vault.localhost", "https://vault.azure.net", "", "nonsense"] {
        let refused = world.app.sign_in_face(issued.token.expose(), HERE, other).await.unwrap_err();
        assert_eq!(refused, Unauthenticated::Audience.into(), "{other}");
    }

    let claims = issued.token.expose().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap()).unwrap();
    let now = world.clock_seconds();
    assert_eq!(claims["aud"], VAULT);
    assert_eq!((claims["iat"].as_i64(), claims["exp"].as_i64()), (Some(now), Some(now + 900)));
    let id = text(&world.get("/whoami", &ada).await.ok()["principal"]["id"]);
    assert_eq!(text(&claims["oid"]).replace('-', ""), id);
    assert_eq!(text(&claims["tid"]).len(), 36);
}

#[tokio::test]
async fn what_one_says_of_itself_grants_nothing() {
    let world = World::new().await;
    let issued = from_token(&world, &world.owner).await.unwrap();
    let parts: Vec<&str> = issued.token.expose().split('.').collect();
    let claims = BASE64URL_NOPAD.encode(br#"{"exp":99999999999,"aud":"https://vault.localhost:8443"}"#);
    let forged = format!("{}.{claims}.{}", parts[0], parts[2]);
    assert_eq!(refusal(&world, &forged).await, Unauthenticated::Unknown.into());
    assert!(matches!(refusal(&world, &world.owner).await, Error::Unauthenticated(Unauthenticated::Form(_))));
    // Nor does it open the native API.
    crate::world::refused(&world.get("/whoami", issued.token.expose()).await, 401, "unauthenticated");
}

#[tokio::test]
async fn one_lives_a_quarter_of_an_hour_and_not_longer_than_what_it_was_made_from() {
    let world = World::new().await;
    let issued = from_token(&world, &world.owner).await.unwrap();
    let short = world.post("/tokens", &world.owner, json!({ "label": "short", "life_seconds": 600 })).await.ok();
    let of_short = from_token(&world, &text(&short["token"])).await.unwrap();
    world.advance(10 * MINUTE);
    assert_eq!(refusal(&world, of_short.token.expose()).await, Unauthenticated::Expired.into());
    world.app.sign_in_face(issued.token.expose(), HERE, VAULT).await.unwrap();
    world.advance(5 * MINUTE);
    assert_eq!(refusal(&world, issued.token.expose()).await, Unauthenticated::Expired.into());
    world.advance(MINUTE);
    world.app.identity().forget_expired().await.unwrap();
    assert_eq!(refusal(&world, issued.token.expose()).await, Unauthenticated::Unknown.into());
}

#[tokio::test]
async fn one_dies_at_once_with_the_token_secret_or_principal_behind_it() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let issued = from_token(&world, &ada).await.unwrap();
    world.delete("/tokens/current", &ada).await.ok();
    assert_eq!(refusal(&world, issued.token.expose()).await, Unauthenticated::Unknown.into());

    let (id, secret) = world.service_principal("ci").await;
    let issued = from_secret(&world, &id, &secret).await.unwrap();
    world.app.sign_in_face(issued.token.expose(), HERE, VAULT).await.unwrap();
    let listed = world.get("/principals/ci/secrets", &world.owner).await.ok();
    world.delete(&format!("/principals/ci/secrets/{}", text(&listed["items"][0]["id"])), &world.owner).await.ok();
    assert_eq!(refusal(&world, issued.token.expose()).await, Unauthenticated::Unknown.into());
    let refused = from_secret(&world, &id, &secret).await.unwrap_err();
    assert_eq!(refused, Unauthenticated::Credentials.into());

    let bob = world.user("bob", None).await;
    let issued = from_token(&world, &bob).await.unwrap();
    world.patch("/principals/bob", &world.owner, json!({ "enabled": false })).await.ok();
    assert_eq!(refusal(&world, issued.token.expose()).await, Unauthenticated::Disabled.into());
}

#[tokio::test]
async fn one_survives_a_restart() {
    let mut world = World::new().await;
    let issued = from_token(&world, &world.owner).await.unwrap();
    world.app.store.close();
    let (app, _) = Server::open(&options(&world.folder, &world.clock)).await.unwrap();
    world.app = app;
    world.app.sign_in_face(issued.token.expose(), HERE, VAULT).await.unwrap();
}

#[tokio::test]
async fn a_row_that_was_changed_is_no_login() {
    let world = World::new().await;
    for change in [
        "audience = 'https://localhost:8443'",
        "expires = expires + 1000000",
        "parent_token = (SELECT id FROM token WHERE label = 'other')",
        "principal = (SELECT id FROM principal WHERE name_key = 'ada')",
    ] {
        let issued = from_token(&world, &world.owner).await.unwrap();
        world.post("/tokens", &world.owner, json!({ "label": "other" })).await.ok();
        world.user("ada", None).await;
        tamper(&world.folder.path().join("data"), &format!("UPDATE token SET {change} WHERE kind = 'face'"));
        for audience in [VAULT, "https://localhost:8443"] {
            let refused = world.app.sign_in_face(issued.token.expose(), HERE, audience).await.unwrap_err();
            assert_eq!(refused, Unauthenticated::Unknown.into(), "{change}");
        }
        tamper(&world.folder.path().join("data"), "DELETE FROM token WHERE label = 'other' OR kind = 'face'");
    }
}

#[tokio::test]
async fn only_resources_of_this_installation_are_audiences() {
    let world = World::with(|options| options.hosts = vec!["kluis.example.org".parse().unwrap()]).await;
    for (ours, canonical) in [
        (VAULT, VAULT),
        ("https://vault.kluis.example.org/", "https://vault.kluis.example.org"),
        ("https://localhost:9000/azure", "https://localhost:9000"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ] {
        assert_eq!(world.app.audience(ours).map(|a| a.as_str().to_owned()).as_deref(), Some(canonical), "{ours}");
    }
    for other in
        ["https://vault.azure.net", "https://default.vault.localhost", "https://evillocalhost", "http://localhost", "x"]
    {
        assert_eq!(world.app.audience(other), None, "{other}");
    }
}

#[tokio::test]
async fn issuing_is_on_record_without_the_token() {
    let world = World::new().await;
    let issued = from_token(&world, &world.owner).await.unwrap();
    let page = world.get("/audit?last=1", &world.owner).await.ok();
    let record = &page["items"][0];
    assert_eq!((&record["action"], &record["name"]), (&json!("token.issued"), &json!(VAULT)));
    let random = issued.token.expose().rsplit('.').next().unwrap();
    assert!(!page.to_string().contains(random));
    let listed = world.get("/tokens", &world.owner).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "a list of logins does not show it");
}
