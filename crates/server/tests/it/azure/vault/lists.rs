//! Lists, page by page.

use serde_json::{Value, json};

use super::{HERE, call, get, patch, refused, set, version};
use crate::world::{World, text};

/// Follows the links of a list as clients do; the ids of each page.
async fn pages(world: &World, first: &str) -> Vec<Vec<String>> {
    let (mut pages, mut path) = (Vec::new(), first.to_owned());
    loop {
        let page = get(world, &path).await.ok();
        pages.push(page["value"].as_array().unwrap().iter().map(|item| text(&item["id"])).collect());
        match &page["nextLink"] {
            Value::Null => return pages,
            link => text(link).strip_prefix(HERE).expect("it stays on this host").clone_into(&mut path),
        }
        assert!(pages.len() < 100, "the list ends");
    }
}

#[tokio::test]
async fn a_list_comes_in_pages_whose_links_lead_on() {
    let world = World::new().await;
    for n in 0..7 {
        set(&world, &format!("s{n}"), "v").await;
    }
    let ids = |range: std::ops::Range<u32>| -> Vec<String> { range.map(|n| format!("{HERE}/secrets/s{n}")).collect() };
    let found = pages(&world, "/secrets?api-version=7.6&maxresults=3").await;
    assert_eq!(found, [ids(0..3), ids(3..6), ids(6..7)]);
    let link = get(&world, "/secrets?api%2Dversion=2025-07-01&maxresults=3").await.ok()["nextLink"].clone();
    assert!(text(&link).starts_with(&format!("{HERE}/secrets?api-version=2025-07-01&$skiptoken=")), "{link}");
    assert!(text(&link).ends_with("&maxresults=3"), "{link}");
}

#[tokio::test]
async fn a_page_has_25_items_unless_fewer_were_asked_for() {
    let world = World::new().await;
    for n in 0..26 {
        set(&world, &format!("s{n:02}"), "v").await;
    }
    let sizes: Vec<usize> = pages(&world, "/secrets").await.iter().map(Vec::len).collect();
    assert_eq!(sizes, [25, 1]);
    for wrong in ["0", "26", "-1", "x", ""] {
        let answer = get(&world, &format!("/secrets?api-version=7.6&maxresults={wrong}")).await;
        assert_eq!(refused(&answer, 400, "BadParameter", None), "the parameter maxresults must be 1 to 25");
    }
    let answer = get(&world, "/secrets?api-version=7.6&$skiptoken=%00").await;
    refused(&answer, 400, "BadParameter", None);
}

#[tokio::test]
async fn what_is_set_and_deleted_meanwhile_neither_repeats_nor_hides_anything_else() {
    let world = World::new().await;
    for name in ["b", "d", "f", "h"] {
        set(&world, name, "v").await;
    }
    let first = get(&world, "/secrets?api-version=7.6&maxresults=2").await.ok();
    let link = text(&first["nextLink"]).strip_prefix(HERE).unwrap().to_owned();
    for name in ["a", "c", "e", "i"] {
        set(&world, name, "v").await;
    }
    // The one that the link was made from.
    call(&world, "DELETE", "/secrets/d", Some(&world.owner), None).await.ok();
    let rest: Vec<String> = pages(&world, &link).await.concat();
    let rest: Vec<&str> = rest.iter().map(|id| id.rsplit('/').next().unwrap()).collect();
    assert_eq!(rest, ["e", "f", "h", "i"]);
}

#[tokio::test]
async fn a_page_may_be_empty_and_not_the_last() {
    let world = World::new().await;
    for name in ["a_1", "a_2", "b"] {
        world.put(&format!("/workspaces/default/secrets/{name}"), &world.owner, json!({ "value": "v" })).await.ok();
    }
    let found = pages(&world, "/secrets?api-version=7.6&maxresults=1").await;
    assert_eq!(found, [vec![], vec![], vec![format!("{HERE}/secrets/b")]], "names with `_` are not for this interface");
}

#[tokio::test]
async fn versions_are_listed_newest_first_and_an_unknown_name_has_none() {
    let world = World::new().await;
    let mut set_ones = Vec::new();
    for value in ["1", "2", "3"] {
        set_ones.push(set(&world, "a", value).await);
    }
    patch(&world, &format!("/secrets/a/{}", set_ones[0]), json!({ "attributes": { "enabled": false } })).await.ok();
    let found = pages(&world, "/secrets/A/versions?api-version=7.6&maxresults=2").await;
    let id = |n: usize| format!("{HERE}/secrets/a/{}", set_ones[n]);
    assert_eq!(found, [vec![id(2), id(1)], vec![id(0)]]);
    let listed = get(&world, "/secrets/a/versions").await.ok();
    assert_eq!(version(&listed["value"][2]), set_ones[0]);
    assert_eq!(listed["value"][2]["attributes"]["enabled"], false);
    assert_eq!(listed["value"][0].get("value"), None);
    assert_eq!(get(&world, "/secrets/unknown/versions").await.ok(), json!({ "value": [], "nextLink": null }));
}

#[tokio::test]
async fn versions_set_meanwhile_do_not_move_the_pages() {
    let world = World::new().await;
    let mut set_ones = Vec::new();
    for value in ["1", "2", "3", "4"] {
        set_ones.push(set(&world, "a", value).await);
    }
    let first = get(&world, "/secrets/a/versions?api-version=7.6&maxresults=2").await.ok();
    let link = text(&first["nextLink"]).strip_prefix(HERE).unwrap().to_owned();
    set(&world, "a", "5").await;
    let rest = pages(&world, &link).await.concat();
    let rest: Vec<&str> = rest.iter().map(|id| id.rsplit('/').next().unwrap()).collect();
    assert_eq!(rest, [&set_ones[1], &set_ones[0]]);
}
