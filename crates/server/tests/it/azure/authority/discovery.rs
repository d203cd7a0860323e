//! Where clients find everything.

use http::Request;

use super::get;
use crate::world::World;

#[tokio::test]
async fn addresses_are_built_from_how_the_client_came_here() {
    let world = World::new().await;
    let found = get(&world, "/adfs/.well-known/openid-configuration", &[]).await.ok();
    assert_eq!(found["issuer"], "https://localhost:8443/adfs");
    assert_eq!(found["token_endpoint"], "https://localhost:8443/adfs/oauth2/token");
    assert_eq!(found["device_authorization_endpoint"], "https://localhost:8443/adfs/oauth2/devicecode");

    let tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    let found = get(&world, &format!("/{tenant}/v2.0/.well-known/openid-configuration"), &[]).await.ok();
    assert_eq!(found["token_endpoint"], format!("https://localhost:8443/{tenant}/oauth2/v2.0/token"));
    assert!(found["authorization_endpoint"].is_string(), "clients want one");
}

#[tokio::test]
async fn a_tenant_or_host_that_can_be_none_is_refused() {
    let world = World::new().await;
    for tenant in ["a%20b", "%3Cscript%3E", "a%22b", &"a".repeat(300)] {
        let answer = get(&world, &format!("/{tenant}/v2.0/.well-known/openid-configuration"), &[]).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    for host in ["user@localhost", "", "a b"] {
        let request = Request::get("/adfs/.well-known/openid-configuration").header("host", host);
        let answer = world.send(request.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(!answer.text().contains("user@"));
    }
}
