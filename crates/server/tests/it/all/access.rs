//! Every route as everybody. What each of them answers stands in access.txt, one line for each route: `yes`, or the
//! status of the refusal. A difference is a decision: look at it, then accept it with `KLUIS_ACCEPT=1`.
//!
//! The rules behind the table: without a good credential 401; who may not see a thing hears 404, who sees it and may not
//! act 403; a run that has ended 409.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::routes::{Route, all};
use super::scene::{CALLERS, Scene};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/all/access.txt");

/// Route name to one answer for each caller.
type Table = BTreeMap<String, Vec<String>>;

#[tokio::test]
async fn every_route_answers_everybody_as_the_table_says_and_a_refusal_changes_nothing() {
    let routes = all();
    let listed = parse(&std::fs::read_to_string(TABLE).unwrap());
    let scene = Scene::new().await;
    let expected = |route: &Route, column: usize| listed.get(&route.name()).map(|answers| answers[column].as_str());

    // First all that is refused, with one request for each route: nothing changes, so it stays good for the next caller.
    let mut asks = Vec::new();
    for route in &routes {
        asks.push(scene.ask(route).await);
    }
    let (seen, last) = (scene.seen().await, scene.last_record().await);
    let mut found = Table::new();
    for (route, ask) in routes.iter().zip(&asks) {
        let answers = found.entry(route.name()).or_insert_with(|| vec![String::new(); CALLERS.len()]);
        for (column, caller) in CALLERS.iter().enumerate() {
            if expected(route, column).is_some_and(|answer| answer != "yes") {
                let answer = scene.send(caller, ask).await;
                assert!(answer.status.is_success() || !answer.refused().1.is_empty());
                answers[column] = class(answer.status);
            }
        }
    }
    // What is not refused as listed is told in the end, with the rest of the table.
    if found == refusals(&listed, &routes) {
        for record in scene.records(last).await {
            assert_eq!(record["action"], "refused", "a refused request left {record}");
        }
        for (before, after) in seen.iter().zip(scene.seen().await) {
            assert_eq!(*before, after, "a refused request changed something");
        }
    }

    // Then what is allowed, each time with a request of its own.
    for route in &routes {
        for (column, caller) in CALLERS.iter().enumerate() {
            if expected(route, column).is_none_or(|answer| answer == "yes") {
                let ask = scene.ask(route).await;
                let answer = scene.send(caller, &ask).await;
                found.get_mut(&route.name()).unwrap()[column] = class(answer.status);
            }
        }
    }
    compare(&routes, &listed, &found);
}

#[tokio::test]
async fn whoever_may_certainly_ask_a_route_is_answered() {
    let scene = Scene::new().await;
    for route in all() {
        let ask = scene.ask(&route).await;
        let answer = scene.send(Scene::who_may(&route), &ask).await;
        assert!(answer.status.is_success(), "{}: {}", route.name(), answer.text());
    }
}

fn class(status: http::StatusCode) -> String {
    if status.is_success() { "yes".into() } else { status.as_str().into() }
}

/// The listed refusals, with all else left empty.
fn refusals(listed: &Table, routes: &[Route]) -> Table {
    let answers = |route: &Route| {
        let all = listed.get(&route.name()).cloned().unwrap_or_else(|| vec![String::new(); CALLERS.len()]);
        all.into_iter().map(|answer| if answer == "yes" { String::new() } else { answer }).collect()
    };
    routes.iter().map(|route| (route.name(), answers(route))).collect()
}

/// Fails with each cell that differs, or writes the table when that was asked for.
fn compare(routes: &[Route], listed: &Table, found: &Table) {
    #[expect(clippy::disallowed_methods, reason = "accepting a table is said from outside")]
    if std::env::var_os("KLUIS_ACCEPT").is_some() {
        std::fs::write(TABLE, render(routes, found)).unwrap();
        return;
    }
    let mut different = String::new();
    for (route, answers) in found {
        let Some(before) = listed.get(route) else {
            writeln!(different, "{route}: is not in access.txt").unwrap();
            continue;
        };
        for ((caller, before), now) in CALLERS.iter().zip(before).zip(answers) {
            if before != now {
                writeln!(different, "{route} as `{caller}`: {now}, and access.txt says {before}").unwrap();
            }
        }
    }
    for route in listed.keys().filter(|route| !found.contains_key(*route)) {
        writeln!(different, "{route}: stands in access.txt and is no route").unwrap();
    }
    assert!(different.is_empty(), "\n{different}accept what is meant with KLUIS_ACCEPT=1");
}

fn parse(table: &str) -> Table {
    let lines = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let parts = |line: &str| {
        let mut words = line.split_whitespace().map(ToOwned::to_owned);
        let route = format!("{} {}", words.next().unwrap(), words.next().unwrap());
        let answers: Vec<String> = words.filter(|word| word != "|").collect();
        assert_eq!(answers.len(), CALLERS.len(), "access.txt: {line}");
        (route, answers)
    };
    lines.map(parts).collect()
}

fn render(routes: &[Route], found: &Table) -> String {
    let names = routes.iter().map(Route::name);
    let width = names.map(|name| name.len()).max().unwrap_or_default();
    let row = |name: &str, cells: &[String]| {
        let mut line = format!("{name:width$}");
        for (column, cell) in cells.iter().enumerate() {
            // Nobody we know | not of this workspace | members | launchers.
            if [6, 10, 16].contains(&column) {
                line.push_str(" |");
            }
            write!(line, " {cell:>column$}", column = CALLERS[column].len().max(3)).unwrap();
        }
        line + "\n"
    };
    let mut text =
        String::from("# What every route answers to everybody; see access.rs, and scene.rs for who they are.\n");
    text.push_str(&row("#", &CALLERS.map(String::from)));
    for route in routes {
        text.push_str(&row(&route.name(), &found[&route.name()]));
    }
    text
}
