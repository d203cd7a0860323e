//! `/tokens`, and what a token is good for.

use std::time::Duration;

use serde_json::json;

use crate::world::{World, refused, text};

#[tokio::test]
async fn a_further_token_works_until_it_is_revoked() {
    let world = World::new().await;
    let issued = world.post("/tokens", &world.owner, json!({ "label": "ci" })).await.ok();
    let (token, id) = (text(&issued["token"]), text(&issued["view"]["id"]));
    world.get("/whoami", &token).await.ok();
    let listed = world.get("/tokens", &world.owner).await.ok();
    let labels: Vec<_> = listed["items"].as_array().unwrap().iter().map(|t| text(&t["label"])).collect();
    assert_eq!(labels, ["first start", "ci"]);
    assert!(!listed.to_string().contains(&token), "a list shows no token");

    world.delete(&format!("/tokens/{id}"), &world.owner).await.ok();
    refused(&world.get("/whoami", &token).await, 401, "unauthenticated");
    refused(&world.delete(&format!("/tokens/{id}"), &world.owner).await, 404, "not_found");
    world.get("/whoami", &world.owner).await.ok();
}

#[tokio::test]
async fn a_caller_signs_out_with_current() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    world.delete("/tokens/current", &ada).await.ok();
    refused(&world.get("/whoami", &ada).await, 401, "unauthenticated");
}

#[tokio::test]
async fn nobody_takes_anothers_token() {
    let world = World::new().await;
    let ada = world.user("ada", None).await;
    let id = text(&world.get("/whoami", &world.owner).await.ok()["token"]["id"]);
    refused(&world.delete(&format!("/tokens/{id}"), &ada).await, 404, "not_found");
    world.get("/whoami", &world.owner).await.ok();
}

#[tokio::test]
async fn a_short_login_can_not_be_turned_into_a_long_one() {
    let world = World::new().await;
    let (id, secret) = world.service_principal("ci").await;
    let login = json!({ "client_id": id, "client_secret": secret });
    let short = world.call("POST", "/login/client", None, Some(login)).await.ok();
    let longer = json!({ "label": "for ever" });
    let second = world.post("/tokens", &text(&short["token"]), longer).await.ok();
    assert_eq!(second["view"]["expires"], short["view"]["expires"]);
    world.advance(Duration::from_mins(15));
    refused(&world.get("/whoami", &text(&second["token"])).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_token_dies_on_time_and_is_forgotten() {
    let world = World::new().await;
    let issued = world.post("/tokens", &world.owner, json!({ "label": "hour", "life_seconds": 3600 })).await.ok();
    world.advance(Duration::from_secs(3599));
    world.get("/whoami", &text(&issued["token"])).await.ok();
    world.advance(Duration::from_secs(1));
    let answer = world.get("/whoami", &text(&issued["token"])).await;
    assert!(answer.detail().contains("expired"), "{}", answer.detail());
    world.advance(Duration::from_secs(1));
    world.app.identity().forget_expired().await.unwrap();
    let answer = world.get("/whoami", &text(&issued["token"])).await;
    assert!(answer.detail().contains("not known"), "{}", answer.detail());
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    for i in 0..5 {
        world.advance(Duration::from_secs(1));
        world.post("/tokens", &world.owner, json!({ "label": i.to_string() })).await.ok();
    }
    let (mut seen, mut path) = (Vec::new(), "/tokens?limit=2".to_owned());
    loop {
        let page = world.get(&path, &world.owner).await.ok();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        seen.extend(items.iter().map(|t| text(&t["label"])));
        match page["next"].as_str() {
            Some(next) => path = format!("/tokens?limit=2&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["first start", "0", "1", "2", "3", "4"]);
    for limit in ["0", "201", "-1", "x"] {
        refused(&world.get(&format!("/tokens?limit={limit}"), &world.owner).await, 400, "bad_request");
    }
}

#[tokio::test]
async fn labels_are_for_people() {
    let world = World::new().await;
    let create = |label: String| world.post("/tokens", &world.owner, json!({ "label": label }));
    create("x".repeat(127)).await.ok();
    refused(&create("x".repeat(128)).await, 400, "bad_request");
    refused(&create("a\u{1b}[31mb".into()).await, 400, "bad_request");
    let never = json!({ "label": "x", "life_seconds": 0 });
    refused(&world.post("/tokens", &world.owner, never).await, 400, "bad_request");
}

#[tokio::test]
async fn only_one_plain_bearer_header_signs_in() {
    let world = World::new().await;
    let ask = |values: Vec<String>| {
        let mut request = http::Request::get("/api/v1/whoami");
        for value in values {
            request = request.header("authorization", value);
        }
        world.send(request.body(axum::body::Body::empty()).unwrap())
    };
    let good = format!("Bearer {}", world.owner);
    ask(vec![good.clone()]).await.ok();
    ask(vec![good.replace("Bearer", "bearer")]).await.ok();
    for values in [
        vec![],
        vec![good.clone(), good.clone()],
        vec![world.owner.clone()],
        vec![format!("Basic {}", world.owner)],
        vec!["Bearer".into()],
        vec![format!("{good}x")],
        vec![good.replace("kls_usr", "kls_agt")],
    ] {
        let answer = ask(values.clone()).await;
        refused(&answer, 401, "unauthenticated");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"kluis\"", "{values:?}");
    }
}

#[tokio::test]
async fn a_life_that_has_an_end_has_one_in_sight() {
    let world = World::new().await;
    for life in [315_360_001, u64::MAX] {
        let create = json!({ "label": "x", "life_seconds": life });
        refused(&world.post("/tokens", &world.owner, create).await, 400, "bad_request");
    }
    world.post("/tokens", &world.owner, json!({ "label": "x", "life_seconds": 315_360_000 })).await.ok();
}
