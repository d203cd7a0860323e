//! `GET /azure/identity/token`: the managed identity of a person's or a program's machine.

use serde_json::json;

use super::{VAULT, assert_refused, claims, get, guid, holder};
use crate::world::{World, text};

fn address(path: &str, version: &str) -> String {
    format!("{path}?api-version={version}&resource=https://vault.localhost:8443&clientid=x")
}

#[tokio::test]
async fn both_ways_of_asking_give_a_token_in_the_holders_name() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let id = text(&world.get("/whoami", &ada).await.ok()["principal"]["id"]);
    for (path, version, header) in [
        ("/azure/identity/token", "2017-09-01", "secret"),
        ("/azure/identity/token/", "2017-09-01", "secret"),
        ("/azure/identity/token", "2019-08-01", "x-identity-header"),
    ] {
        let issued = get(&world, &address(path, version), &[(header, &ada), ("metadata", "true")]).await.ok();
        assert_eq!(holder(&world, &issued["access_token"]).await, "ada");
        let expires = world.clock_seconds() + 900;
        assert_eq!(issued["expires_on"], json!(expires.to_string()));
        assert_eq!((&issued["expires_in"], &issued["token_type"]), (&json!("900"), &json!("Bearer")));
        assert_eq!(issued["resource"], VAULT);
        assert_eq!(text(&issued["client_id"]).to_ascii_uppercase(), guid(&id));
        assert_eq!(claims(&issued["access_token"])["idtyp"], "user");
    }
    // As clients write it that encode everything.
    let encoded = "/azure/identity/token?api-version=2017-09-01&resource=https%3A%2F%2Fvault.localhost%3A8443";
    get(&world, encoded, &[("secret", &ada)]).await.ok();
}

#[tokio::test]
async fn a_refusal_is_quick_and_says_nothing_of_the_secret() {
    let world = World::new().await;
    let address = address("/azure/identity/token", "2017-09-01");
    for headers in [
        vec![],
        vec![("secret", "hunter2")],
        vec![("secret", world.owner.as_str()), ("secret", world.owner.as_str())],
        vec![("secret", world.owner.as_str()), ("x-identity-header", world.owner.as_str())],
        vec![("authorization", world.owner.as_str())],
    ] {
        let answer = get(&world, &address, &headers).await;
        assert_refused(&answer, 401, "invalid_client");
        assert!(!answer.text().contains("hunter2") && !answer.text().contains(&world.owner));
    }
    let good = [("secret", world.owner.as_str())];
    for (query, error) in [
        ("resource=https://vault.localhost:8443", "invalid_request"),
        ("api-version=2017-09-01", "invalid_request"),
        ("api-version=2017-09-01&resource=https://vault.azure.net", "invalid_resource"),
        ("api-version=1&api-version=2&resource=https://vault.localhost:8443", "invalid_request"),
    ] {
        assert_refused(&get(&world, &format!("/azure/identity/token?{query}"), &good).await, 400, error);
    }
}

#[tokio::test]
async fn who_asks_comes_before_what_is_asked() {
    let world = World::new().await;
    let answer = get(&world, "/azure/identity/token?resource=hunter2&resource=x", &[("secret", "x")]).await;
    assert_refused(&answer, 401, "invalid_client");
}
