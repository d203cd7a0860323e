//! Delivering values: what is re-checked, what is recorded, and what a run's attempt is pinned to.

use kluis_core::access::{Role, Scope};
use kluis_core::audit::AuditAction;
use kluis_core::run::{RunEvent, RunStatus};
use kluis_store::attempts::RunSilent;
use kluis_store::audit::AuditFilter;
use kluis_store::identity::GrantRemove;
use kluis_store::runs::RunCancel;
use kluis_store::secrets::PinState;
use kluis_store::{Authority, Error, Store, Write};

use crate::world::{NOW, World, authenticated, entry, later, records, run_id, write, write_as};

pub(crate) async fn a_delivery_is_on_record_when_it_returns(store: &Store) {
    let world = World::new(store).await;
    let found = world.set("db-password", "x").await;
    let mut record = entry(AuditAction::SecretDelivered);
    record.record.workspace = Some(world.workspace);
    record.record.version = Some(found.version.row.id);
    let size = world.log_size().await;
    let read = Write::new(world.by(world.owner).await, record.clone(), vec![world.read_of(&found, false)]);
    store.secret_read(read).await.unwrap();
    assert_eq!(world.log_size().await, size + 1);
    let filter = AuditFilter { from: size, limit: 10, ..AuditFilter::default() };
    assert_eq!(records(store, filter).await, [(size, record)]);
}

pub(crate) async fn what_changed_since_it_was_found_is_not_delivered(store: &Store) {
    let world = World::new(store).await;
    let old = world.set("db-password", "one").await;
    let new = world.set("db-password", "two").await;
    let size = world.log_size().await;
    let refused = |e: Result<(), Error>| e.unwrap_err().entry().1.clone();

    let stale = store.secret_read(write(vec![world.read_of(&old, false)])).await;
    assert_eq!(refused(stale), Error::Revision { current: 2 }, "the pointer moved");
    let mut version = new.version.clone();
    (version.row.attributes.enabled, version.row.revision) = (false, 2);
    assert_eq!(world.log_size().await, size);
    store.version_change(write(version)).await.unwrap();
    let stale = store.secret_read(write(vec![world.read_of(&new, false)])).await;
    assert_eq!(refused(stale), Error::Revision { current: 2 }, "the attributes moved");
    let disabled = world.found("db-password").await;
    let off = store.secret_read(write(vec![world.read_of(&disabled, false)])).await;
    assert_eq!(refused(off), Error::Disabled);
    let mut elsewhere = world.read_of(&disabled, false);
    elsewhere.version = world.set("other", "x").await.version.row.id;
    assert_eq!(refused(store.secret_read(write(vec![elsewhere])).await), Error::NotFound, "another secret's version");
}

pub(crate) async fn a_batch_delivers_all_or_none(store: &Store) {
    let world = World::new(store).await;
    let (a, b) = (world.set("a", "x").await, world.set("b", "x").await);
    let run = world.start("churn_1").await;
    let stale = {
        world.set("b", "y").await;
        world.read_of(&b, false)
    };
    let size = world.log_size().await;
    let reader = world.reader(&run).await;
    let both = store.secret_read(write_as(reader.clone(), vec![world.read_of(&a, false), stale])).await;
    assert_eq!(both, Err(Error::Entry { index: 1, error: Box::new(Error::Revision { current: 2 }) }));
    assert_eq!(world.log_size().await, size);
    assert_eq!(store.run_secrets(world.workspace, &run.run).await.unwrap(), []);

    let fresh = world.read_of(&world.found("b").await, false);
    store.secret_read(write_as(reader, vec![world.read_of(&a, false), fresh])).await.unwrap();
    assert_eq!(store.run_secrets(world.workspace, &run.run).await.unwrap().len(), 2);
}

pub(crate) async fn a_run_reads_one_version_until_it_asks_for_another(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "one").await;
    let run = world.start("churn_1").await;
    let reader = world.reader(&run).await;
    assert_eq!(world.read_as(reader.clone(), "db-password", false).await.unwrap(), b"one");
    let first = store.run_secrets(world.workspace, &run.run).await.unwrap();
    assert_eq!((first.len(), first[0].now, first[0].attempt), (1, PinState::Same, 1));

    let two = world.set("db-password", "two").await;
    assert_eq!(store.run_secrets(world.workspace, &run.run).await.unwrap()[0].now, PinState::Rotated);
    assert_eq!(world.read_as(reader.clone(), "db-password", false).await.unwrap(), b"one");
    // A caller that found the current version is told what the attempt is pinned to.
    let current = write_as(reader.clone(), vec![world.read_of(&two, false)]);
    let refused = store.secret_read(current).await.unwrap_err();
    assert_eq!(refused.entry().1, &Error::Pinned { version: first[0].version });

    assert_eq!(world.read_as(reader.clone(), "db-password", true).await.unwrap(), b"two");
    assert_eq!(world.read_as(reader.clone(), "db-password", false).await.unwrap(), b"two");
    let pins = store.run_secrets(world.workspace, &run.run).await.unwrap();
    assert_eq!((pins.len(), pins[0].version, pins[0].first), (1, two.version.row.id, NOW));

    let mut version = two.version.clone();
    (version.row.attributes.enabled, version.row.revision) = (false, 2);
    store.version_change(write(version)).await.unwrap();
    assert_eq!(store.run_secrets(world.workspace, &run.run).await.unwrap()[0].now, PinState::Revoked);
    let off = world.read_as(reader, "db-password", false).await.unwrap_err();
    assert_eq!(off.entry().1, &Error::Disabled);
}

pub(crate) async fn a_run_that_does_not_run_reads_nothing(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "x").await;

    let silent = world.start("churn_1").await;
    let reader = world.reader(&silent).await;
    let fell_silent = RunSilent { workspace: world.workspace, run: run_id("churn_1"), last_contact: NOW };
    store.run_silent(write(fell_silent)).await.unwrap();
    assert_eq!(world.read_as(reader, "db-password", false).await, Err(Error::Unresponsive));

    let ended = world.start("churn_2").await;
    let found = world.find_as(world.reader(&ended).await, "db-password", false).await.unwrap();
    let end = world.end(RunStatus::Running, RunEvent::Succeeded);
    store.session_end(write_as(Authority::Session(ended.clone()), end)).await.unwrap();
    let over = Err(Error::RunEnded { status: RunStatus::Completed });
    let reader = world.reader(&ended).await;
    assert_eq!(world.read_as(reader.clone(), "db-password", false).await, over);
    let late = store.secret_read(write_as(reader, vec![world.read_of(&found, false)])).await;
    assert_eq!(late, Err(Error::RunEnded { status: RunStatus::Completed }), "found while it still ran");

    let canceled = world.start("churn_3").await;
    let cancel =
        RunCancel { workspace: world.workspace, run: run_id("churn_3"), reason: "by request".into(), now: later(1) };
    store.run_cancel(write(cancel)).await.unwrap();
    let reader = world.reader(&canceled).await;
    let over = Err(Error::RunEnded { status: RunStatus::Canceled });
    assert_eq!(world.read_as(reader, "db-password", false).await, over);
}

pub(crate) async fn a_committed_revocation_precedes_every_later_read(store: &Store) {
    let world = World::new(store).await;
    world.set("db-password", "x").await;
    let run = world.start("churn_1").await;
    let reader = world.reader(&run).await;
    let found = world.find_as(reader.clone(), "db-password", false).await.unwrap();
    let scope = Scope::Workspace(world.workspace);
    let remove = GrantRemove { principal: world.owner, scope, effect: kluis_core::access::Effect::Allow, revision: 1 };
    world.user("eve", Some(Role::Owner)).await;
    let notices = world.run("churn_1").await.notices;
    let current = store.grant_remove(write(remove)).await.unwrap();
    assert!(world.run("churn_1").await.notices > notices, "its launcher is told");
    let read = store.secret_read(write_as(reader, vec![world.read_of(&found, false)])).await;
    assert_eq!(read, Err(Error::Stale { current }));

    // Somebody else's epoch does not do.
    let ada = world.user("ada", Some(Role::Contributor)).await;
    let borrowed = Authority::Run { submitter: ada, epoch: world.epoch(ada).await, run };
    let read = store.secret_read(write_as(borrowed, vec![world.read_of(&found, false)])).await;
    assert_eq!(read, Err(Error::NotFound));
}

pub(crate) async fn live_runs_that_hold_a_secret_are_found_and_told(store: &Store) {
    let world = World::new(store).await;
    let one = world.set("db-password", "one").await;
    let (secret, workspace) = (one.secret.row.id, world.workspace);
    let run = world.start("churn_1").await;
    world.start("churn_2").await;
    world.read_as(world.reader(&run).await, "db-password", false).await.unwrap();
    let using = store.live_runs_using(workspace, secret, None).await.unwrap();
    assert_eq!(using.iter().map(|u| u.run.as_str()).collect::<Vec<_>>(), ["churn_1"]);

    let (told, untold) = (world.run("churn_1").await.notices, world.run("churn_2").await.notices);
    let two = world.set("db-password", "two").await;
    assert!(world.run("churn_1").await.notices > told);
    assert_eq!(world.run("churn_2").await.notices, untold);
    let of_version = |id| store.live_runs_using(workspace, secret, Some(id));
    assert_eq!(of_version(one.version.row.id).await.unwrap().len(), 1);
    assert_eq!(of_version(two.version.row.id).await.unwrap().len(), 0);
    let (other, _) = world.another_workspace("research").await;
    assert_eq!(store.live_runs_using(other, secret, None).await.unwrap(), []);

    let mut gone = two.secret.clone();
    gone.row.state = gone.row.state.delete(NOW, std::time::Duration::from_secs(1)).unwrap();
    gone.row.revision += 1;
    let told = world.run("churn_1").await.notices;
    store.secret_delete(write(authenticated(gone.row))).await.unwrap();
    assert!(world.run("churn_1").await.notices > told);
    assert_eq!(store.run_secrets(workspace, &run.run).await.unwrap()[0].now, PinState::Revoked);

    let end = world.end(RunStatus::Running, RunEvent::Failed);
    store.session_end(write_as(Authority::Session(run.clone()), end)).await.unwrap();
    assert_eq!(store.live_runs_using(workspace, secret, None).await.unwrap(), []);
    assert_eq!(store.run_secrets(workspace, &run.run).await.unwrap().len(), 1, "what it was given stays known");
}
