//! In whose name: the check inside every unit of work.

use kluis_core::access::{Epoch, Role};
use kluis_core::id::PrincipalId;
use kluis_core::run::{RunEvent, RunStatus};
use kluis_store::identity::TokenRevoke;
use kluis_store::secrets::SecretFind;
use kluis_store::{Authority, Error, Store};

use crate::world::{World, authenticated, secret_name, write, write_as};

pub(crate) async fn a_moved_epoch_refuses_the_command_and_its_record(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", Some(Role::Contributor)).await;
    let old = world.by(ada).await;
    let token = world.token_of(ada);
    store.token_insert(write(token.clone())).await.unwrap();
    store.token_revoke(write(TokenRevoke { principal: ada, token: token.row.id })).await.unwrap();

    let size = world.log_size().await;
    let set = write_as(old, vec![world.new_secret("db-password", "x")]);
    let current = world.epoch(ada).await;
    assert_eq!(store.secret_version_insert(set).await, Err(Error::Stale { current }));
    assert_eq!(world.log_size().await, size);
    assert_eq!(store.secret_get(world.workspace, &secret_name("db-password")).await.unwrap(), None);

    let set = write_as(world.by(ada).await, vec![world.new_secret("db-password", "x")]);
    store.secret_version_insert(set).await.unwrap();
}

pub(crate) async fn a_disabled_principal_is_stale(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    let mut row = world.principal(ada, "ada");
    (row.enabled, row.revision) = (false, 2);
    let current = store.principal_change(write(authenticated(row))).await.unwrap();
    // Even with the right epoch.
    let authority = Authority::Principal { principal: ada, token: None, epoch: current };
    assert_eq!(store.audit_append(write_as(authority, ())).await, Err(Error::Stale { current }));
}

pub(crate) async fn a_revoked_token_is_stale_even_under_the_new_epoch(store: &Store) {
    let world = World::new(store).await;
    let alive = Authority::principal(world.owner, world.token, world.epoch(world.owner).await);
    store.audit_append(write_as(alive, ())).await.unwrap();
    let revoke = TokenRevoke { principal: world.owner, token: world.token };
    let epoch = store.token_revoke(write(revoke)).await.unwrap();
    let authority = Authority::principal(world.owner, world.token, epoch);
    assert_eq!(store.audit_append(write_as(authority, ())).await, Err(Error::Stale { current: epoch }));
}

pub(crate) async fn an_unknown_principal_is_stale(store: &Store) {
    World::new(store).await;
    let authority = Authority::Principal { principal: PrincipalId::from_bytes([1; 16]), token: None, epoch: Epoch(1) };
    assert_eq!(store.audit_append(write_as(authority, ())).await, Err(Error::Stale { current: Epoch(0) }));
}

pub(crate) async fn a_session_that_reports_can_do_nothing_else(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "x").await;
    let session = Authority::Session(world.start("churn_1").await);
    let size = world.log_size().await;

    let set = write_as(session.clone(), vec![world.new_secret("other", "x")]);
    assert_eq!(store.secret_version_insert(set).await, Err(Error::NotFound));
    assert_eq!(world.read_as(session.clone(), "db-password", false).await, Err(Error::NotFound));
    let found = world.found("db-password").await;
    let read = write_as(session.clone(), vec![world.read_of(&found, false)]);
    assert_eq!(store.secret_read(read).await, Err(Error::NotFound));
    let token = write_as(session.clone(), world.token_of(world.owner));
    assert_eq!(store.token_insert(token).await, Err(Error::NotFound));
    assert_eq!(store.run_insert(write_as(session, world.submission("churn_2"))).await.unwrap_err(), Error::NotFound);
    assert_eq!(world.log_size().await, size);
    assert_eq!(store.secret_get(world.workspace, &secret_name("other")).await.unwrap(), None);
}

pub(crate) async fn a_session_of_another_workspace_is_not_found(store: &Store) {
    let world = World::new(store).await;
    let mut session = world.start("churn_1").await;
    session.workspace = world.another_workspace("research").await.0;
    let end = write_as(Authority::Session(session), world.end(RunStatus::Running, RunEvent::Succeeded));
    assert_eq!(store.session_end(end).await.unwrap_err(), Error::NotFound);
}

pub(crate) async fn reads_check_the_authority_too(store: &Store) {
    let world = World::new(store).await;
    let version = world.set("db-password", "x").await.version.row.id;
    let stale = Authority::Principal { principal: world.owner, token: None, epoch: Epoch(1) };
    let current = world.epoch(world.owner).await;
    let find = SecretFind { workspace: world.workspace, names: vec![secret_name("db-password")], refresh: false };
    assert_eq!(store.secrets_find(stale.clone(), find).await, Err(Error::Stale { current }));
    let one = store.secret_find_version(stale, world.workspace, &secret_name("db-password"), version).await;
    assert_eq!(one, Err(Error::Stale { current }));
}
