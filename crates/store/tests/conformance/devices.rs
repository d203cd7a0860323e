//! Logins that wait for a person.

use kluis_core::id::{DeviceId, PrincipalId, TokenId};
use kluis_core::rng::Rng;
use kluis_core::sealed::LookupHash;
use kluis_store::devices::{DeviceDecide, DeviceInsert, DeviceRedeem, DeviceRow, DeviceState};
use kluis_store::identity::TokenRevoke;
use kluis_store::{Authenticated, Authority, Error, Store};

use crate::world::{NOW, World, authenticated, later, write, write_as};

fn waiting(world: &World, network: &str) -> DeviceInsert {
    let mut hashes = [[0; 32]; 2];
    for hash in &mut hashes {
        world.rng.fill(hash);
    }
    let device = authenticated(DeviceRow {
        id: DeviceId::generate(&world.rng),
        hash: LookupHash(hashes[0]),
        user_hash: LookupHash(hashes[1]),
        audience: None,
        label: "a node".into(),
        source: network.into(),
        created: NOW,
        expires: later(600),
        state: DeviceState::Waiting,
    });
    DeviceInsert { device, network: network.into(), now: NOW, most: 3, most_of_network: 2 }
}

fn decided(insert: &DeviceInsert, state: DeviceState, seconds: u64) -> DeviceDecide {
    let row = DeviceRow { state, ..insert.device.row.clone() };
    DeviceDecide { device: Authenticated { row, mac: kluis_core::sealed::Mac([8; 32]) }, now: later(seconds) }
}

fn redeem(world: &World, insert: &DeviceInsert, principal: PrincipalId, seconds: u64) -> DeviceRedeem {
    DeviceRedeem { device: insert.device.row.id, now: later(seconds), token: world.token_of(principal) }
}

pub(crate) async fn a_login_that_waits_is_approved_once_and_taken_once(store: &Store) {
    let world = World::new(store).await;
    let insert = waiting(&world, "192.0.2.1");
    store.device_insert(write(insert.clone())).await.unwrap();
    let row = &insert.device.row;
    assert_eq!(store.device_by_hash(row.hash).await.unwrap().as_ref(), Some(&insert.device));
    assert_eq!(store.device_by_user_hash(row.user_hash).await.unwrap().as_ref(), Some(&insert.device));
    assert_eq!(store.device_by_hash(row.user_hash).await.unwrap(), None, "one code does not stand for the other");

    let early = redeem(&world, &insert, world.owner, 1);
    assert_eq!(store.device_redeem(write(early)).await, Err(Error::NotFound), "nobody has approved");
    let approved = decided(&insert, DeviceState::Approved { by: world.owner, with: world.token }, 1);
    store.device_decide(write(approved.clone())).await.unwrap();
    assert_eq!(store.device_by_hash(row.hash).await.unwrap(), Some(approved.device.clone()));
    let denied = decided(&insert, DeviceState::Denied, 2);
    assert_eq!(store.device_decide(write(denied)).await, Err(Error::NotFound), "it is decided");

    let ada = world.user("ada", None).await;
    let others = redeem(&world, &insert, ada, 2);
    assert_eq!(store.device_redeem(write(others)).await, Err(Error::NotFound), "it is not another one's");
    let taken = redeem(&world, &insert, world.owner, 2);
    store.device_redeem(write(taken.clone())).await.unwrap();
    assert!(store.token_by_hash(taken.token.row.hash).await.unwrap().is_some());
    let again = redeem(&world, &insert, world.owner, 2);
    assert_eq!(store.device_redeem(write(again)).await, Err(Error::NotFound));
    assert_eq!(store.device_by_hash(row.hash).await.unwrap(), None);
}

pub(crate) async fn a_login_that_waits_dies_in_time(store: &Store) {
    let world = World::new(store).await;
    let [late, forgotten] = [waiting(&world, "192.0.2.1"), waiting(&world, "192.0.2.1")];
    for insert in [&late, &forgotten] {
        store.device_insert(write(insert.clone())).await.unwrap();
    }
    let approved = DeviceState::Approved { by: world.owner, with: world.token };
    assert_eq!(store.device_decide(write(decided(&late, approved, 600))).await, Err(Error::NotFound));
    store.device_decide(write(decided(&late, approved, 599))).await.unwrap();
    let taken = redeem(&world, &late, world.owner, 600);
    assert_eq!(store.device_redeem(write(taken)).await, Err(Error::NotFound));
    assert_eq!(store.expired_remove(write(later(600))).await, Ok(0));
    assert_eq!(store.expired_remove(write(later(601))).await, Ok(2));
    assert_eq!(store.device_by_hash(forgotten.device.row.hash).await.unwrap(), None);
}

pub(crate) async fn only_so_many_logins_wait(store: &Store) {
    let world = World::new(store).await;
    for network in ["192.0.2.1", "192.0.2.1"] {
        store.device_insert(write(waiting(&world, network))).await.unwrap();
    }
    let third = waiting(&world, "192.0.2.1");
    assert!(matches!(store.device_insert(write(third.clone())).await, Err(Error::Crowded(_))));
    store.device_insert(write(waiting(&world, "192.0.2.2"))).await.expect("another network has its share");
    assert!(matches!(store.device_insert(write(waiting(&world, "192.0.2.3"))).await, Err(Error::Crowded(_))));
    let after = DeviceInsert { now: later(600), ..third };
    store.device_insert(write(after)).await.expect("what has expired leaves room");
}

pub(crate) async fn an_approval_dies_with_the_token_it_was_given_with(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    let token = world.token_of(ada);
    store.token_insert(write(token.clone())).await.unwrap();
    let insert = waiting(&world, "192.0.2.1");
    store.device_insert(write(insert.clone())).await.unwrap();
    let approved = decided(&insert, DeviceState::Approved { by: ada, with: token.row.id }, 1);
    store.device_decide(write(approved)).await.unwrap();
    store.token_revoke(write(TokenRevoke { principal: ada, token: token.row.id })).await.unwrap();
    let by = Authority::principal(ada, token.row.id, world.epoch(ada).await);
    let taken = redeem(&world, &insert, ada, 2);
    assert!(matches!(store.device_redeem(write_as(by, taken)).await, Err(Error::Stale { .. })));
    let unknown = Authority::principal(ada, TokenId::from_bytes([9; 16]), world.epoch(ada).await);
    let taken = redeem(&world, &insert, ada, 2);
    assert!(matches!(store.device_redeem(write_as(unknown, taken)).await, Err(Error::Stale { .. })));
}
