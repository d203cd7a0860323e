//! Workspaces, members, keys, compute targets.

use kluis_core::access::{Role, Scope};
use kluis_core::id::{ComputeId, KeyId};
use kluis_store::runs::RunFilter;
use kluis_store::workspaces::{ComputeSeen, WorkspaceKeyRemove, WorkspaceKeyRow};
use kluis_store::{After, Error, Store};

use crate::world::{NOW, World, authenticated, compute_name, later, secret_name, workspace_name, write};

pub(crate) async fn a_deleted_workspace_is_not_found_by_anything(store: &Store) {
    let world = World::new(store).await;
    let found = world.set("db-password", "x").await;
    let ada = world.user("ada", Some(Role::Contributor)).await;
    let epoch = world.epoch(ada).await;
    let mut delete = world.workspace_now(world.workspace).await;
    delete.deleted = Some(NOW);
    let stale = store.workspace_delete(write(authenticated(delete.clone()))).await;
    assert_eq!(stale, Err(Error::Revision { current: 1 }));
    delete.revision = 2;
    let delete = authenticated(delete);
    store.workspace_delete(write(delete.clone())).await.unwrap();

    assert_eq!(store.workspace_get(world.workspace).await.unwrap(), None);
    assert_eq!(store.workspace_by_name(&workspace_name("default")).await.unwrap(), None);
    assert!(world.epoch(ada).await > epoch);
    assert_eq!(store.grants_of(ada).await.unwrap(), []);
    assert_eq!(store.workspace_list(None, After::first(10)).await.unwrap().items, []);
    assert_eq!(world.find_as(kluis_store::Authority::server(), "db-password", false).await, Err(Error::NotFound));
    assert_eq!(store.secret_get(world.workspace, &secret_name("db-password")).await.unwrap(), None);
    let read = store.secret_read(write(vec![world.read_of(&found, false)])).await.unwrap_err();
    assert_eq!(read.entry().1, &Error::NotFound);
    let set = store.secret_version_insert(write(vec![world.new_secret("other", "x")])).await.unwrap_err();
    assert_eq!(set.entry().1, &Error::NotFound);
    assert_eq!(store.run_insert(write(world.submission("churn_1"))).await.unwrap_err(), Error::NotFound);
    let list = store.run_list(world.workspace, RunFilter::default(), After::first(1)).await;
    assert_eq!(list.unwrap_err(), Error::NotFound);
    assert_eq!(store.workspace_delete(write(delete)).await, Err(Error::NotFound));
    let back = world.grant(ada, Scope::Workspace(world.workspace), Role::Owner);
    assert_eq!(store.grant_set(write(back)).await, Err(Error::NotFound));

    let again = world.workspace_row(
        kluis_core::id::WorkspaceId::generate(&world.rng),
        "DEFAULT",
        KeyId::generate(&world.rng),
        world.owner,
    );
    assert!(matches!(store.workspace_insert(write(again)).await, Err(Error::Conflict(_))), "the name stays taken");
}

pub(crate) async fn a_workspace_with_a_live_run_stays(store: &Store) {
    let world = World::new(store).await;
    world.submit("churn_1").await;
    let mut delete = world.workspace_now(world.workspace).await;
    (delete.deleted, delete.revision) = (Some(NOW), 2);
    assert!(matches!(store.workspace_delete(write(authenticated(delete))).await, Err(Error::Conflict(_))));
    assert!(store.workspace_get(world.workspace).await.unwrap().is_some());
}

pub(crate) async fn a_role_shows_in_the_members_workspaces(store: &Store) {
    let world = World::new(store).await;
    world.another_workspace("research").await;
    let ada = world.user("ada", Some(Role::SecretsWriter)).await;
    let of = |items: Vec<kluis_store::workspaces::WorkspaceListed>| {
        items.into_iter().map(|w| (w.workspace.row.name.to_string(), w.role)).collect::<Vec<_>>()
    };
    let adas = store.workspace_list(Some(ada), After::first(10)).await.unwrap().items;
    assert_eq!(of(adas), [("default".to_owned(), Some(Role::SecretsWriter))]);
    let all = store.workspace_list(None, After::first(10)).await.unwrap().items;
    assert_eq!(of(all), [("default".to_owned(), None), ("research".to_owned(), None)]);
    let first = store.workspace_list(Some(world.owner), After::first(1)).await.unwrap();
    assert_eq!((first.items.len(), first.next.as_deref()), (1, Some("default")));
}

pub(crate) async fn members_come_in_pages(store: &Store) {
    let world = World::new(store).await;
    for name in ["ada", "ada.b", "Bob"] {
        world.user(name, Some(Role::Reader)).await;
    }
    let ada = store.principal_by_name(&crate::world::principal_name("ada")).await.unwrap().unwrap().row.id;
    let mut deny = world.grant(ada, Scope::Workspace(world.workspace), Role::Contributor);
    deny.row.effect = kluis_core::access::Effect::Deny;
    store.grant_set(write(deny)).await.unwrap();
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store.members(world.workspace, After { after, limit: 1 }).await.unwrap();
        names.extend(page.items.into_iter().map(|m| m.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["ada", "ada", "ada.b", "Bob", "owner"]);
}

pub(crate) async fn settings_change_by_revision(store: &Store) {
    let world = World::new(store).await;
    let mut row = world.workspace_now(world.workspace).await;
    row.settings.retention_days = 7;
    row.settings.enforce_validity = true;
    assert_eq!(store.workspace_change(write(authenticated(row.clone()))).await, Err(Error::Revision { current: 1 }));
    row.revision = 2;
    store.workspace_change(write(authenticated(row.clone()))).await.unwrap();
    assert_eq!(world.workspace_now(world.workspace).await, row);
}

fn key(world: &World) -> WorkspaceKeyRow {
    WorkspaceKeyRow {
        workspace: world.workspace,
        id: KeyId::generate(&world.rng),
        wrapped: vec![6; 60],
        current: true,
        created: later(1),
    }
}

pub(crate) async fn the_newest_key_is_current(store: &Store) {
    let world = World::new(store).await;
    let new = key(&world);
    store.workspace_key_add(write(new.clone())).await.unwrap();
    let keys = store.workspace_keys(world.workspace).await.unwrap();
    assert_eq!(keys.iter().map(|k| (k.id, k.current)).collect::<Vec<_>>(), [(world.key, false), (new.id, true)]);
}

pub(crate) async fn a_key_in_use_stays(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "x").await;
    let remove = WorkspaceKeyRemove { workspace: world.workspace, key: world.key };
    assert!(matches!(store.workspace_key_remove(write(remove)).await, Err(Error::Conflict(_))), "a version uses it");

    let (research, research_key) = world.another_workspace("research").await;
    let current = WorkspaceKeyRemove { workspace: research, key: research_key };
    assert!(matches!(store.workspace_key_remove(write(current)).await, Err(Error::Conflict(_))), "it is current");
    let elsewhere = WorkspaceKeyRemove { workspace: world.workspace, key: research_key };
    assert_eq!(store.workspace_key_remove(write(elsewhere)).await, Err(Error::NotFound));
}

pub(crate) async fn a_compute_target_in_use_stays(store: &Store) {
    let world = World::new(store).await;
    let taken = world.compute_row(ComputeId::generate(&world.rng), "CLUSTER");
    assert!(matches!(store.compute_insert(write(authenticated(taken))).await, Err(Error::Conflict(_))));
    world.submit("churn_1").await;
    let seen = ComputeSeen { compute: world.compute, now: later(5) };
    store.compute_seen(write(seen)).await.unwrap();
    let row = store.compute_by_name(&compute_name("cluster")).await.unwrap().unwrap().row;
    assert_eq!((row.queued, row.last_seen), (1, Some(later(5))));
    assert!(matches!(store.compute_delete(write(world.compute)).await, Err(Error::Conflict(_))));

    let agent = world.user("agent", None).await;
    let spare = world.compute_row(ComputeId::generate(&world.rng), "spare");
    store.compute_insert(write(authenticated(spare.clone()))).await.unwrap();
    store.grant_set(write(world.grant(agent, Scope::Compute(spare.id), Role::Agent))).await.unwrap();
    let epoch = world.epoch(agent).await;
    let listed = store.compute_list(After::first(10)).await.unwrap().items;
    assert_eq!(listed.len(), 2);
    store.compute_delete(write(spare.id)).await.unwrap();
    assert!(world.epoch(agent).await > epoch);
    assert_eq!(store.grants_of(agent).await.unwrap(), []);
    assert_eq!(store.compute_delete(write(spare.id)).await, Err(Error::NotFound));
}
