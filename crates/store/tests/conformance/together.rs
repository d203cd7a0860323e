//! Many at the same time.

use std::time::Duration;

use kluis_store::{Error, Hint, Store};

use crate::world::{World, secret_name, write, write_as};

pub(crate) async fn writes_at_the_same_time_all_happen(store: &Store) {
    let world = World::new(store).await;
    let before = world.log_size().await;
    let authority = world.by(world.owner).await;
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let insert = world.new_secret(&format!("secret-{i}"), &format!("value {i}"));
            let (store, authority) = (store.clone(), authority.clone());
            tokio::spawn(async move { store.secret_version_insert(write_as(authority, vec![insert])).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(world.log_size().await, before + 200);
    for i in 0..200 {
        assert_eq!(world.found(&format!("secret-{i}")).await.sealed.value, format!("value {i}").into_bytes());
    }
    assert!(store.audit_prove(Vec::new()).await.unwrap().holds());

    // Of those who want the same name, one gets it.
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let insert = world.new_secret("contested", "x");
            let store = store.clone();
            tokio::spawn(async move { store.secret_version_insert(write(vec![insert])).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => assert_eq!(error.entry().1, &Error::Revision { current: 1 }),
        }
    }
    assert_eq!(won, 1);
}

pub(crate) async fn a_caller_that_goes_away_leaves_a_whole_write_or_none(store: &Store) {
    let world = World::new(store).await;
    let mut sizes = vec![world.log_size().await];
    for i in 0..60_u64 {
        let names = [format!("a-{i}"), format!("b-{i}")];
        let batch = names.iter().map(|name| world.new_secret(name, "x")).collect();
        let task = tokio::spawn({
            let store = store.clone();
            async move { store.secret_version_insert(write(batch)).await }
        });
        tokio::time::sleep(Duration::from_micros(i * 7)).await;
        task.abort();
        drop(task.await);
        // Whatever was handed over before this one is done when this one is.
        store.audit_append(write(())).await.unwrap();
        let mut there = 0;
        for name in &names {
            there += u64::from(store.secret_get(world.workspace, &secret_name(name)).await.unwrap().is_some());
        }
        assert!(there == 0 || there == 2, "half a write");
        let size = world.log_size().await;
        assert_eq!(size, sizes.last().unwrap() + 1 + there / 2, "its record goes with it");
        sizes.push(size);
    }
}

pub(crate) async fn hints_come_after_the_commit(store: &Store) {
    let world = World::new(store).await;
    let mut hints = store.subscribe();
    world.submit("churn_1").await;
    let hinted: Vec<_> = std::iter::from_fn(|| hints.try_recv().ok()).collect();
    assert!(
        hinted.iter().any(|h| matches!(h, Hint::RunQueued { compute } if compute.key() == "cluster")),
        "{hinted:?}"
    );
    assert!(hinted.iter().any(|h| matches!(h, Hint::RunChanged { run, .. } if run.key() == "churn_1")));

    let found = world.set("db-password", "x").await;
    let told = Hint::SecretChanged { workspace: world.workspace, secret: found.secret.row.id };
    assert_eq!(hints.try_recv().unwrap(), told);
    let mut row = world.principal(world.user("ada", None).await, "ada");
    let principal = row.id;
    row.revision = 2;
    store.principal_change(write(crate::world::authenticated(row))).await.unwrap();
    assert_eq!(hints.try_recv().unwrap(), Hint::PrincipalChanged { principal });
}
