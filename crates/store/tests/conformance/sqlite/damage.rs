//! A damaged or tampered database: what is wrong is named and left out, the rest works.

use std::path::PathBuf;
use std::time::Duration;

use kluis_store::audit::AuditFilter;
use kluis_store::runs::RunFilter;
use kluis_store::{After, Authority, Error, Finding, Integrity, OpenError, Options, Store};

use super::opening::database;
use super::{Home, open};
use crate::world::{World, run_id, secret_name, write};

/// Closes the store, lets somebody write to its database, opens it again.
fn tampered(home: &mut Home, world: World, statement: &str) -> World {
    let folder = data(home);
    world.store.close();
    let database = database(&folder);
    database.execute_batch("PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF;").unwrap();
    database.execute_batch(statement).unwrap();
    drop(database);
    home.store = Store::open(Options::new(folder)).unwrap();
    World { store: home.store.clone(), ..world }
}

fn data(home: &Home) -> PathBuf {
    home.folder.path().join("data")
}

async fn checked(store: &Store) -> (Integrity, Vec<Finding>) {
    for _ in 0..1000 {
        let health = store.health();
        if health.integrity != Integrity::Checking {
            return (health.integrity, health.findings);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the check does not end");
}

#[tokio::test]
async fn a_sound_database_is_found_sound() {
    let home = open();
    World::new(&home.store).await.set("db-password", "x").await;
    assert_eq!(checked(&home.store).await, (Integrity::Sound, Vec::new()));
}

#[tokio::test]
async fn a_bad_row_is_named_and_the_others_work() {
    let mut home = open();
    let world = World::new(&home.store).await;
    let bad = world.set("bad", "x").await.secret.row.id;
    world.set("good", "x").await;
    let world = tampered(&mut home, world, "UPDATE secret SET name = 'not a name' WHERE name_key = 'bad'");

    let inconsistent = Error::Inconsistent { table: "secret", row: bad.to_string() };
    assert_eq!(world.find_as(Authority::server(), "bad", false).await, Err(inconsistent.clone()));
    assert_eq!(world.store.secret_get(world.workspace, &secret_name("bad")).await, Err(inconsistent));
    assert_eq!(world.found("good").await.sealed.value, b"x");
    let listed = world.store.secret_list(world.workspace, false, After::first(1)).await.unwrap();
    assert_eq!((listed.items.len(), listed.next.as_deref()), (0, Some("bad")), "a page goes on behind it");
    let rest = world.store.secret_list(world.workspace, false, After { after: listed.next, limit: 9 }).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    let finding = Finding { table: "secret".into(), row: bad.to_string() };
    assert_eq!(world.store.health().findings.iter().filter(|f| **f == finding).count(), 1, "found once, kept once");
}

#[tokio::test]
async fn a_secret_under_another_ones_key_is_not_delivered_in_its_place() {
    let mut home = open();
    let world = World::new(&home.store).await;
    world.set("cheap", "x").await;
    world.set("precious", "y").await;
    let swap = "UPDATE secret SET name_key = 'tmp' WHERE name_key = 'cheap';
                UPDATE secret SET name_key = 'cheap' WHERE name_key = 'precious';";
    let world = tampered(&mut home, world, swap);
    let swapped = world.find_as(Authority::server(), "cheap", false).await.unwrap_err();
    assert!(matches!(swapped, Error::Inconsistent { table: "secret", .. }), "{swapped}");
}

#[tokio::test]
async fn a_pointer_into_nothing_is_named() {
    let mut home = open();
    let world = World::new(&home.store).await;
    let id = world.set("db-password", "x").await.secret.row.id;
    let world = tampered(&mut home, world, "UPDATE secret SET current = zeroblob(16)");
    let found = world.find_as(Authority::server(), "db-password", false).await;
    assert_eq!(found, Err(Error::Inconsistent { table: "secret", row: id.to_string() }));
}

#[tokio::test]
async fn a_login_with_a_bad_grant_is_refused_as_a_whole() {
    let mut home = open();
    let world = World::new(&home.store).await;
    let hash = world.store.token_list(world.owner).await.unwrap()[0].row.hash;
    let world = tampered(&mut home, world, "UPDATE role_grant SET effect = 'maybe' WHERE scope = 'workspace'");
    let login = world.store.token_by_hash(hash).await.unwrap_err();
    assert_eq!(login, Error::Inconsistent { table: "role_grant", row: world.owner.to_string() });
}

#[tokio::test]
async fn a_bad_run_does_not_hold_up_the_queue() {
    let mut home = open();
    let world = World::new(&home.store).await;
    for run in ["first", "second"] {
        world.submit(run).await;
    }
    let world = tampered(&mut home, world, "UPDATE run SET spec = '{}' WHERE id = 'first'");
    assert_eq!(world.next().await.unwrap().run.id.as_str(), "second");
    let named = world.store.run_get(world.workspace, &run_id("first")).await.unwrap_err();
    assert_eq!(named, Error::Inconsistent { table: "run", row: "1".into() });
    let listed = world.store.run_list(world.workspace, RunFilter::default(), After::first(9)).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}

/// What is looked up by is not what the MAC covers, so it must be what the row says.
#[tokio::test]
async fn a_row_under_another_ones_key_is_not_taken_for_it() {
    let mut home = open();
    let world = World::new(&home.store).await;
    world.another_workspace("research").await;
    let spare = world.compute_row(kluis_core::id::ComputeId::from_bytes([9; 16]), "spare");
    world.store.compute_insert(write(crate::world::authenticated(spare))).await.unwrap();
    for run in ["first", "second"] {
        world.submit(run).await;
    }
    let swap = |table: &str, column: &str, a: &str, b: &str| {
        format!(
            "UPDATE {table} SET {column} = 'tmp' WHERE {column} = '{a}';
             UPDATE {table} SET {column} = '{a}' WHERE {column} = '{b}';"
        )
    };
    let swaps = [
        swap("workspace", "name_key", "default", "research"),
        swap("compute", "name_key", "cluster", "spare"),
        swap("run", "id_key", "first", "second"),
    ];
    let world = tampered(&mut home, world, &swaps.concat());
    let workspace = world.store.workspace_by_name(&crate::world::workspace_name("default")).await.unwrap_err();
    assert!(matches!(workspace, Error::Inconsistent { table: "workspace", .. }), "{workspace}");
    let compute = world.store.compute_by_name(&crate::world::compute_name("cluster")).await.unwrap_err();
    assert!(matches!(compute, Error::Inconsistent { table: "compute", .. }), "{compute}");
    let run = world.store.run_get(world.workspace, &run_id("first")).await.unwrap_err();
    assert_eq!(run, Error::Inconsistent { table: "run", row: "2".into() });
}

#[tokio::test]
async fn a_grant_that_does_not_read_keeps_nobody_from_taking_another() {
    let mut home = open();
    let world = World::new(&home.store).await;
    world.another_workspace("research").await;
    world.user("ada", Some(kluis_core::access::Role::Owner)).await;
    world.start("churn_1").await;
    let damage = "UPDATE role_grant SET effect = 'maybe' WHERE scope = 'workspace'
                  AND workspace = (SELECT id FROM workspace WHERE name_key = 'research')";
    let world = tampered(&mut home, world, damage);
    let remove = kluis_store::identity::GrantRemove {
        principal: world.owner,
        scope: kluis_core::access::Scope::Workspace(world.workspace),
        effect: kluis_core::access::Effect::Allow,
        revision: 1,
    };
    world.store.grant_remove(write(remove)).await.unwrap();
    assert_eq!(world.run("churn_1").await.status, kluis_core::run::RunStatus::Canceled);
}

#[tokio::test]
async fn a_broken_reference_is_found_in_the_background() {
    let mut home = open();
    let world = World::new(&home.store).await;
    world.set("db-password", "x").await;
    let world = tampered(&mut home, world, "DELETE FROM workspace_key");
    let (integrity, findings) = checked(&world.store).await;
    assert_eq!(integrity, Integrity::Damaged);
    assert!(findings.iter().any(|f| f.table == "version"), "{findings:?}");
}

#[tokio::test]
async fn a_damaged_page_is_found_in_the_background() {
    let home = open();
    let world = World::new(&home.store).await;
    for i in 0..200 {
        world.set(&format!("secret-{i}"), &"x".repeat(500)).await;
    }
    let folder = data(&home);
    world.store.close();
    let path = folder.join("kluis.db");
    let root: u32 = database(&folder)
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'log_chunk'", [], |row| row.get(0))
        .unwrap();
    let root = root as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(root - 1) * 4096..root * 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    let store = Store::open(Options::new(&folder)).unwrap();
    let (integrity, findings) = checked(&store).await;
    assert_eq!(integrity, Integrity::Damaged);
    assert!(!findings.is_empty());
    let world = World { store, ..world };
    assert_eq!(world.found("secret-7").await.sealed.value, "x".repeat(500).into_bytes());
    world.set("secret-7", "y").await;
}

#[tokio::test]
async fn the_audit_log_can_not_be_changed_in_passing() {
    let home = open();
    let world = World::new(&home.store).await;
    world.store.close();
    let database = database(&data(&home));
    for statement in ["UPDATE audit_page SET count = 2", "DELETE FROM audit_page"] {
        assert!(database.execute(statement, []).is_err(), "{statement}");
    }
}

#[tokio::test]
async fn a_rewritten_audit_log_does_not_prove() {
    let mut home = open();
    let world = World::new(&home.store).await;
    world.set("db-password", "x").await;
    let rewrite = "DROP TRIGGER audit_page_stays;
                   UPDATE audit_page SET entries = CAST(substr(entries, 1, length(entries) - 1) || x'5a' AS BLOB) WHERE first_seq = 0;";
    let world = tampered(&mut home, world, rewrite);
    assert!(!world.store.audit_prove(Vec::new()).await.unwrap().holds());
}

#[tokio::test]
async fn a_log_cut_short_is_refused_at_the_door() {
    let home = open();
    let world = World::new(&home.store).await;
    world.set("db-password", "x").await;
    world.store.close();
    let database = database(&data(&home));
    database
        .execute_batch(
            "DROP TRIGGER audit_page_remains;
             DELETE FROM audit_page WHERE first_seq = (SELECT max(first_seq) FROM audit_page);",
        )
        .unwrap();
    let error = Store::open(Options::new(data(&home))).unwrap_err();
    assert!(matches!(&error, OpenError::Database { reason, .. } if reason.contains("audit_head")), "{error}");
}

#[tokio::test]
async fn a_page_taken_from_the_middle_is_found_and_the_rest_is_searched() {
    let mut home = open();
    let world = World::new(&home.store).await;
    for name in ["a", "b", "c"] {
        world.set(name, "x").await;
    }
    let size = world.log_size().await;
    std::fs::remove_file(data(&home).join("audit-index.db")).unwrap();
    let take = "DROP TRIGGER audit_page_remains; DELETE FROM audit_page WHERE first_seq = 2;";
    let world = tampered(&mut home, world, take);
    let found = world.store.audit_query(AuditFilter { limit: 99, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(
        found.items.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
        (0..size).filter(|s| *s != 2).collect::<Vec<_>>()
    );
    let missing = Finding { table: "audit_page".into(), row: "2".into() };
    assert!(world.store.health().findings.contains(&missing));
    let unproven = world.store.audit_prove(Vec::new()).await.unwrap_err();
    assert!(matches!(unproven, Error::Inconsistent { table: "audit_page", .. }));
}

/// Its number is in the page all the same, so a page never looks shorter than it is.
#[tokio::test]
async fn a_record_that_can_not_be_read_keeps_its_place_in_the_page() {
    let mut home = open();
    let world = World::new(&home.store).await;
    let size = world.log_size().await;
    std::fs::remove_file(data(&home).join("audit-index.db")).unwrap();
    // The version byte of the last leaf of all.
    let spoil = "DROP TRIGGER audit_page_stays;
                 UPDATE audit_page SET entries = CAST(substr(entries, 1, 4) || x'5a' || substr(entries, 6) AS BLOB)
                 WHERE first_seq = (SELECT max(first_seq) FROM audit_page);";
    let world = tampered(&mut home, world, spoil);
    let found = world.store.audit_query(AuditFilter { limit: 99, ..AuditFilter::default() }).await.unwrap();
    assert_eq!(found.items.len() as u64, size);
    assert_eq!(found.items.iter().filter(|(_, entry)| entry.is_none()).count(), 1);
}

#[tokio::test]
async fn the_index_is_made_anew_when_it_is_gone_or_belongs_to_another_log() {
    let mut home = open();
    let world = World::new(&home.store).await;
    world.set("db-password", "x").await;
    let all = AuditFilter { limit: 99, ..AuditFilter::default() };
    let records = world.store.audit_query(all.clone()).await.unwrap();

    world.store.close();
    std::fs::remove_file(data(&home).join("audit-index.db")).unwrap();
    home.store = Store::open(Options::new(data(&home))).unwrap();
    assert_eq!(home.store.audit_query(all.clone()).await.unwrap(), records);

    // Another installation's index, further on than this log.
    let other = open();
    let another = World::new(&other.store).await;
    for _ in 0..9 {
        another.store.audit_append(write(())).await.unwrap();
    }
    another.store.audit_query(all.clone()).await.unwrap();
    other.store.close();
    home.store.close();
    std::fs::copy(data(&other).join("audit-index.db"), data(&home).join("audit-index.db")).unwrap();
    home.store = Store::open(Options::new(data(&home))).unwrap();
    assert_eq!(home.store.audit_query(all.clone()).await.unwrap(), records);

    home.store.close();
    std::fs::write(data(&home).join("audit-index.db"), "rubbish".repeat(1000)).unwrap();
    home.store = Store::open(Options::new(data(&home))).unwrap();
    assert_eq!(home.store.audit_query(all).await.unwrap(), records);
    drop(world);
}
