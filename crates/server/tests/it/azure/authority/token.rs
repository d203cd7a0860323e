//! `POST /adfs/oauth2/token` and `POST /{tenant}/oauth2/v2.0/token`: what is granted to whom.

use std::time::Duration;

use http::Request;
use serde_json::json;

use super::{SCOPE, VAULT, assert_refused, by_secret, claims, form, guid, holder, native};
use crate::world::{World, text};

const TENANT: &str = "/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token";
const ADFS: &str = "/adfs/oauth2/token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[tokio::test]
async fn a_secret_gives_a_token_under_either_kind_of_tenant_and_either_spelling_of_the_id() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    for path in [ADFS, TENANT] {
        for id in [id.clone(), guid(&id)] {
            let issued = form(&world, path, &by_secret(&id, &secret)).await.ok();
            assert_eq!((&issued["token_type"], &issued["expires_in"]), (&json!("Bearer"), &json!(900)));
            assert_eq!(issued.get("refresh_token"), None);
            assert_eq!(issued.get("scope"), None, "clients keep it under what they asked for");
            assert_eq!(holder(&world, &issued["access_token"]).await, "ci");
            assert_eq!(claims(&issued["access_token"])["aud"], VAULT);
        }
    }
}

#[tokio::test]
async fn whatever_does_not_fit_looks_the_same_and_guessing_is_slowed_down() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let (other, others) = world.service_principal("other").await;
    world.patch("/principals/other", &world.owner, json!({ "enabled": false })).await.ok();
    let mut seen = Vec::new();
    for (id, secret) in [
        (id.as_str(), others.as_str()),
        (other.as_str(), others.as_str()),
        (other.as_str(), secret.as_str()),
        ("00000000000000000000000000000000", secret.as_str()),
        ("nobody", secret.as_str()),
        (id.as_str(), "hunter2"),
        (id.as_str(), world.owner.as_str()),
    ] {
        let answer = form(&world, ADFS, &by_secret(id, secret)).await;
        assert_refused(&answer, 401, "invalid_client");
        assert!(!answer.text().contains("hunter2") && !answer.text().contains(id));
        seen.push(answer.text());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);

    for _ in 0..10 {
        form(&world, ADFS, &by_secret(&id, "hunter2")).await;
    }
    let answer = form(&world, ADFS, &by_secret(&id, &secret)).await;
    assert_refused(&answer, 429, "temporarily_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    let records = world.get("/audit?last=200", &world.owner).await.ok();
    assert!(!records.to_string().contains("refused"), "failures of strangers are counted, not recorded");
    assert!(world.app.throttle.total() >= 14);
}

#[tokio::test]
async fn a_token_of_ours_is_an_assertion_for_the_program_whose_it_is() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let login = native(&world, &id, &secret).await;
    let assertion = |id: &str, assertion: &str| {
        let fields = [
            ("client_id", id.to_owned()),
            ("client_assertion", assertion.to_owned()),
            ("client_assertion_type", JWT_BEARER.to_owned()),
            ("grant_type", "client_credentials".to_owned()),
            ("scope", SCOPE.to_owned()),
        ];
        let world = &world;
        async move {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            form(world, ADFS, &fields).await
        }
    };
    let first = assertion(&guid(&id), &login).await.ok();
    assert_eq!(holder(&world, &first["access_token"]).await, "ci");
    let second = assertion(&id, &text(&first["access_token"])).await.ok();
    assert_eq!(holder(&world, &second["access_token"]).await, "ci");
    let agent = world.agent("node", "server").await;
    let agents_id = text(&world.get("/whoami", &agent).await.ok()["principal"]["id"]);
    assertion(&agents_id, &agent).await.ok();

    let ada = world.user("ada", None).await;
    let adas_id = text(&world.get("/whoami", &ada).await.ok()["principal"]["id"]);
    let foreign = format!("{}.{}.{}", "eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2ln".repeat(86));
    for (id, token) in [(&adas_id, &ada), (&agents_id, &login), (&id, &foreign), (&id, &secret), (&id, &"x".to_owned())]
    {
        let answer = assertion(id, token).await;
        assert_refused(&answer, 401, "invalid_client");
        assert!(!answer.text().contains(token.as_str()));
    }

    // A face's token is one for its own resource alone.
    let other = [
        ("client_id", id.as_str()),
        ("client_assertion", first["access_token"].as_str().unwrap()),
        ("client_assertion_type", JWT_BEARER),
        ("grant_type", "client_credentials"),
        ("scope", "https://localhost:8443/.default"),
    ];
    assert_refused(&form(&world, ADFS, &other).await, 401, "invalid_client");

    // It dies with the token it was made from, however far back, and never outlives it.
    assert_eq!(second["expires_in"], 900);
    world.advance(Duration::from_mins(5));
    let third = assertion(&id, &text(&second["access_token"])).await.ok();
    assert_eq!(third["expires_in"], 600);
    world.delete("/tokens/current", &login).await.ok();
    let gone = world.app.sign_in_face(&text(&third["access_token"]), super::HERE, VAULT).await;
    assert!(gone.is_err());
}

#[tokio::test]
async fn only_resources_of_this_server_are_granted() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let ask = |name: &'static str, value: &'static str| {
        let (world, id, secret) = (&world, id.clone(), secret.clone());
        async move {
            let mut fields = by_secret(&id, &secret);
            fields.retain(|(name, _)| *name != "scope");
            fields.push((name, value));
            form(world, ADFS, &fields).await
        }
    };
    for (name, value, audience) in [
        ("scope", "https://vault.localhost:8443//.default", VAULT),
        ("scope", "openid https://vault.localhost:8443/.default profile offline_access", VAULT),
        ("resource", "https://vault.localhost:8443", VAULT),
        ("scope", "https://localhost:8443/.default", "https://localhost:8443"),
    ] {
        let issued = ask(name, value).await.ok();
        assert_eq!(claims(&issued["access_token"])["aud"], audience, "{value}");
    }
    for (name, value, error) in [
        ("scope", "https://vault.azure.net/.default", "invalid_target"),
        ("scope", "https://vault.localhost:8443/.default https://localhost:8443/.default", "invalid_target"),
        ("scope", "openid", "invalid_target"),
        ("scope", "hunter2", "invalid_target"),
        ("state", "x", "invalid_target"),
        ("resource", "https://management.azure.com/", "invalid_resource"),
    ] {
        let answer = ask(name, value).await;
        assert_refused(&answer, 400, error);
        assert!(!answer.text().contains("azure.") && !answer.text().contains("hunter2"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_told_so_without_its_content() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let whole = by_secret(&id, &secret);
    for missing in ["client_id", "client_secret", "grant_type"] {
        let fields: Vec<_> = whole.iter().copied().filter(|(name, _)| *name != missing).collect();
        assert_refused(&form(&world, ADFS, &fields).await, 400, "invalid_request");
    }
    let twice: Vec<_> = whole.iter().copied().chain([("client_secret", "hunter2")]).collect();
    assert_refused(&form(&world, ADFS, &twice).await, 400, "invalid_request");
    for grant in ["password", "authorization_code", "hunter2"] {
        let answer = form(&world, ADFS, &[("grant_type", grant)]).await;
        assert_refused(&answer, 400, "unsupported_grant_type");
        assert!(!answer.text().contains("hunter2"));
    }
    let long = form(&world, ADFS, &[("grant_type", "client_credentials"), ("claims", &"x".repeat(20_000))]).await;
    assert_refused(&long, 413, "invalid_request");

    let json = Request::post(ADFS).header("host", "localhost").header("content-type", "application/json");
    let answer = world.send(json.body(axum::body::Body::from("{}")).unwrap()).await;
    assert_refused(&answer, 400, "invalid_request");
    let get = super::get(&world, ADFS, &[]).await;
    assert_refused(&get, 405, "invalid_request");
}
