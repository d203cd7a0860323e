//! Principals, grants, tokens, client secrets, invitations.

use kluis_core::access::{Effect, PrincipalKind, Role, Scope};
use kluis_core::id::{InviteId, PrincipalId, TokenId};
use kluis_core::sealed::LookupHash;
use kluis_store::identity::{
    ClientSecretRow, FaceTokenInsert, GrantRemove, InviteRedeem, InviteRow, Invited, OwnerReset, TokenKind,
    TokenParent, TokenRevoke,
};
use kluis_store::{After, Error, Store};

use crate::world::{NOW, World, authenticated, later, principal_name, write};

pub(crate) async fn two_spellings_of_a_name_are_one_principal(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("Ada", None).await;
    let again = authenticated(world.principal(PrincipalId::from_bytes([1; 16]), "ADA"));
    let refused = store.principal_insert(write(again)).await;
    assert_eq!(refused, Err(Error::Conflict("a principal with this name exists")));
    let found = store.principal_by_name(&principal_name("aDa")).await.unwrap().unwrap();
    assert_eq!((found.row.id, found.row.name.as_str()), (ada, "Ada"));
}

pub(crate) async fn a_token_is_found_with_everything_it_stands_for(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", Some(Role::Reader)).await;
    let mut token = world.token_of(ada);
    token.row.expires = Some(later(60));
    store.token_insert(write(token.clone())).await.unwrap();

    let login = store.token_by_hash(token.row.hash).await.unwrap().unwrap();
    assert_eq!(login.token, token);
    assert_eq!(login.standing, store.principal_standing(ada).await.unwrap().unwrap());
    assert_eq!(login.standing.principal.row.id, ada);
    assert_eq!(login.standing.grants, [world.grant(ada, Scope::Workspace(world.workspace), Role::Reader)]);
    assert_eq!(store.token_list(ada).await.unwrap(), [token]);
    assert_eq!(store.token_by_hash(LookupHash([0xff; 32])).await.unwrap(), None);
}

pub(crate) async fn what_takes_rights_away_moves_the_epoch(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    let token = world.token_of(ada);
    let mut epoch = world.epoch(ada).await;
    store.token_insert(write(token.clone())).await.unwrap();
    assert_eq!(world.epoch(ada).await, epoch, "a new login takes nothing away");

    let scope = Scope::Workspace(world.workspace);
    let mut row = world.principal(ada, "ada");
    row.revision = 2;
    let steps = [
        store.grant_set(write(world.grant(ada, scope, Role::Reader))).await,
        store.grant_remove(write(GrantRemove { principal: ada, scope, effect: Effect::Allow, revision: 1 })).await,
        store.token_revoke(write(TokenRevoke { principal: ada, token: token.row.id })).await,
        store.principal_change(write(authenticated(row))).await,
    ];
    for step in steps {
        let now = step.unwrap();
        assert!(now > epoch);
        epoch = now;
    }
    assert_eq!(world.epoch(ada).await, epoch);
    assert_eq!(store.token_by_hash(token.row.hash).await.unwrap(), None);
}

pub(crate) async fn a_change_needs_the_next_revision(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", Some(Role::Reader)).await;
    let scope = Scope::Workspace(world.workspace);
    let mut row = world.principal(ada, "ada");
    for revision in [1, 3] {
        row.revision = revision;
        let refused = store.principal_change(write(authenticated(row.clone()))).await;
        assert_eq!(refused, Err(Error::Revision { current: 1 }));
        let mut grant = world.grant(ada, scope, Role::Owner);
        grant.row.revision = revision;
        assert_eq!(store.grant_set(write(grant)).await, Err(Error::Revision { current: 1 }));
    }
    let remove = GrantRemove { principal: ada, scope, effect: Effect::Allow, revision: 2 };
    assert_eq!(store.grant_remove(write(remove)).await, Err(Error::Revision { current: 1 }));
    let denied = GrantRemove { effect: Effect::Deny, ..remove };
    assert_eq!(store.grant_remove(write(denied)).await, Err(Error::NotFound));
    let role = store.grants_of(ada).await.unwrap()[0].row.role;
    assert_eq!(role, Role::Reader);
}

pub(crate) async fn the_last_owner_stays(store: &Store) {
    let world = World::new(store).await;
    let refused = Err(Error::Conflict("the installation would be left without an owner"));
    let remove = GrantRemove { principal: world.owner, scope: Scope::Installation, effect: Effect::Allow, revision: 1 };
    let mut disabled = authenticated(world.principal(world.owner, "owner"));
    (disabled.row.enabled, disabled.row.revision) = (false, 2);
    let mut lesser = world.grant(world.owner, Scope::Installation, Role::Reader);
    lesser.row.revision = 2;
    assert_eq!(store.grant_remove(write(remove)).await, refused);
    assert_eq!(store.principal_change(write(disabled.clone())).await, refused);
    assert_eq!(store.grant_set(write(lesser)).await, refused);

    let ada = world.user("ada", None).await;
    store.grant_set(write(world.grant(ada, Scope::Installation, Role::Owner))).await.unwrap();
    store.principal_change(write(disabled)).await.unwrap();
}

pub(crate) async fn a_workspace_keeps_an_owner_who_is_enabled(store: &Store) {
    let world = World::new(store).await;
    let refused = Err(Error::Conflict("this is the workspace's last owner; make somebody else one first"));
    let scope = Scope::Workspace(world.workspace);
    let remove = GrantRemove { principal: world.owner, scope, effect: Effect::Allow, revision: 1 };
    let mut lesser = world.grant(world.owner, scope, Role::Reader);
    lesser.row.revision = 2;
    assert_eq!(store.grant_remove(write(remove)).await, refused);
    assert_eq!(store.grant_set(write(lesser)).await, refused);

    let ada = world.user("ada", Some(Role::Owner)).await;
    let mut disabled = store.principal_get(ada).await.unwrap().unwrap();
    (disabled.row.enabled, disabled.row.revision) = (false, disabled.row.revision + 1);
    store.principal_change(write(disabled)).await.unwrap();
    assert_eq!(store.grant_remove(write(remove)).await, refused, "who is disabled does not count");
    world.user("eve", Some(Role::Owner)).await;
    store.grant_remove(write(remove)).await.unwrap();
}

pub(crate) async fn a_grant_is_one_per_scope_and_effect(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    let scope = Scope::Workspace(world.workspace);
    let allow = world.grant(ada, scope, Role::Reader);
    let mut deny = world.grant(ada, scope, Role::Contributor);
    deny.row.effect = Effect::Deny;
    let elsewhere = world.grant(ada, Scope::Compute(world.compute), Role::Agent);
    for grant in [&allow, &deny, &elsewhere] {
        store.grant_set(write(grant.clone())).await.unwrap();
    }
    let mut changed = allow;
    (changed.row.role, changed.row.revision) = (Role::Owner, 2);
    store.grant_set(write(changed.clone())).await.unwrap();
    let mut grants = store.grants_of(ada).await.unwrap();
    grants.sort_by_key(|g| (g.row.scope, g.row.effect));
    assert_eq!(grants, [changed, deny, elsewhere]);

    let nobody = world.grant(PrincipalId::from_bytes([1; 16]), scope, Role::Reader);
    assert_eq!(store.grant_set(write(nobody)).await, Err(Error::NotFound));
}

fn invite(world: &World, name: &str) -> InviteRow {
    InviteRow {
        id: InviteId::generate(&world.rng),
        hash: LookupHash([0x11; 32]),
        name: principal_name(name),
        kind: PrincipalKind::User,
        membership: Some((world.workspace, Role::Contributor)),
        compute: None,
        created_by: world.owner,
        created: NOW,
        expires: later(100),
    }
}

fn redeem(world: &World, invited: PrincipalId, name: &str) -> InviteRedeem {
    InviteRedeem {
        hash: LookupHash([0x11; 32]),
        now: later(99),
        invited: Invited::New(authenticated(world.principal(invited, name))),
        grants: vec![world.grant(invited, Scope::Workspace(world.workspace), Role::Contributor)],
        token: world.token_of(invited),
    }
}

pub(crate) async fn an_invitation_works_once_and_in_time(store: &Store) {
    let world = World::new(store).await;
    let row = authenticated(invite(&world, "ada"));
    store.invite_insert(write(row.clone())).await.unwrap();
    assert_eq!(store.invite_by_hash(row.row.hash).await.unwrap(), Some(row.clone()));

    let ada = PrincipalId::generate(&world.rng);
    let mut late = redeem(&world, ada, "ada");
    late.now = later(100);
    assert_eq!(store.invite_redeem(write(late)).await, Err(Error::NotFound));

    let in_time = redeem(&world, ada, "ada");
    store.invite_redeem(write(in_time.clone())).await.unwrap();
    let login = store.token_by_hash(in_time.token.row.hash).await.unwrap().unwrap();
    assert_eq!(login.standing.grants, in_time.grants);

    let again = redeem(&world, PrincipalId::generate(&world.rng), "eve");
    assert_eq!(store.invite_redeem(write(again)).await, Err(Error::NotFound));
    assert_eq!(store.invite_by_hash(row.row.hash).await.unwrap(), None);
}

pub(crate) async fn an_invitation_is_used_up_only_with_everything_it_makes(store: &Store) {
    let world = World::new(store).await;
    store.invite_insert(write(authenticated(invite(&world, "ada")))).await.unwrap();
    let ada = world.user("ada", None).await;
    let taken = redeem(&world, PrincipalId::generate(&world.rng), "ADA");
    assert!(matches!(store.invite_redeem(write(taken)).await, Err(Error::Conflict(_))));

    let mut existing = redeem(&world, ada, "ada");
    existing.invited = Invited::Existing(ada);
    store.invite_redeem(write(existing)).await.unwrap();
    assert_eq!(store.grants_of(ada).await.unwrap().len(), 1);
}

pub(crate) async fn the_owner_reset_revokes_every_other_login(store: &Store) {
    let world = World::new(store).await;
    let standing = store.principal_standing(world.owner).await.unwrap().unwrap();
    let grant = standing.grants.iter().find(|g| g.row.scope == Scope::Installation).unwrap();
    let token = world.token_of(world.owner);
    let reset = OwnerReset { principal: standing.principal.clone(), grant: grant.clone(), token: token.clone() };
    let before = world.epoch(world.owner).await;
    let epoch = store.owner_reset(write(reset)).await.unwrap();
    assert!(epoch > before);
    assert_eq!(store.token_list(world.owner).await.unwrap(), [token]);

    // Disabled and demoted while another owner was there, then reset.
    let ada = world.user("ada", None).await;
    store.grant_set(write(world.grant(ada, Scope::Installation, Role::Owner))).await.unwrap();
    let mut row = authenticated(world.principal(world.owner, "owner"));
    (row.row.enabled, row.row.revision) = (false, 2);
    store.principal_change(write(row.clone())).await.unwrap();
    let remove = GrantRemove { principal: world.owner, scope: Scope::Installation, effect: Effect::Allow, revision: 1 };
    store.grant_remove(write(remove)).await.unwrap();
    (row.row.enabled, row.row.revision) = (true, 3);
    let token = world.token_of(world.owner);
    let reset = OwnerReset { principal: row, grant: grant.clone(), token: token.clone() };
    store.owner_reset(write(reset)).await.unwrap();
    let login = store.token_by_hash(token.row.hash).await.unwrap().unwrap();
    assert!(login.standing.principal.row.enabled);
    assert!(login.standing.grants.contains(grant));
}

pub(crate) async fn client_secrets_are_found_and_revoked(store: &Store) {
    let world = World::new(store).await;
    let ci = world.user("ci", Some(Role::Contributor)).await;
    let secret = authenticated(ClientSecretRow {
        id: TokenId::generate(&world.rng),
        principal: ci,
        hash: LookupHash([0x22; 32]),
        created: NOW,
        expires: None,
        revision: 1,
    });
    store.client_secret_insert(write(secret.clone())).await.unwrap();
    let (found, standing) = store.client_secret_by_hash(secret.row.hash).await.unwrap().unwrap();
    assert_eq!((&found, standing.principal.row.id, standing.grants.len()), (&secret, ci, 1));
    assert_eq!(store.client_secret_list(ci).await.unwrap(), [found]);

    let before = world.epoch(ci).await;
    let revoke = TokenRevoke { principal: ci, token: secret.row.id };
    assert!(store.client_secret_revoke(write(revoke)).await.unwrap() > before);
    assert_eq!(store.client_secret_revoke(write(revoke)).await, Err(Error::NotFound));
    assert_eq!(store.client_secret_by_hash(secret.row.hash).await.unwrap(), None);
}

fn face_token(world: &World, principal: PrincipalId, parent: TokenParent, seconds: u64) -> FaceTokenInsert {
    let mut token = world.token_of(principal);
    token.row.kind = TokenKind::Face { audience: "https://vault.localhost:8443".into(), parent };
    token.row.expires = Some(later(seconds));
    FaceTokenInsert { token, now: NOW, most: 2 }
}

pub(crate) async fn a_faces_token_dies_with_what_it_was_made_from(store: &Store) {
    let world = World::new(store).await;
    let (ada, eve) = (world.user("ada", None).await, world.user("eve", None).await);
    let (login, other) = (world.token_of(ada), world.token_of(ada));
    store.token_insert(write(login.clone())).await.unwrap();
    store.token_insert(write(other.clone())).await.unwrap();
    let secret = authenticated(ClientSecretRow {
        id: TokenId::generate(&world.rng),
        principal: eve,
        hash: LookupHash([0x33; 32]),
        created: NOW,
        expires: None,
        revision: 1,
    });
    store.client_secret_insert(write(secret.clone())).await.unwrap();

    // A chain: a token's token dies with the first one.
    let first = face_token(&world, ada, TokenParent::Token(login.row.id), 60);
    let second = face_token(&world, ada, TokenParent::Token(first.token.row.id), 60);
    let third = face_token(&world, eve, TokenParent::ClientSecret(secret.row.id), 60);
    for insert in [&first, &second, &third] {
        store.face_token_insert(write(insert.clone())).await.unwrap();
        let found = store.token_by_hash(insert.token.row.hash).await.unwrap().unwrap();
        assert_eq!(found.token, insert.token);
    }
    assert_eq!(store.token_list(ada).await.unwrap().len(), 2, "a list of logins does not show them");
    assert_ne!(first.token.row.canonical(), second.token.row.canonical());

    store.token_revoke(write(TokenRevoke { principal: ada, token: other.row.id })).await.unwrap();
    assert!(store.token_by_hash(second.token.row.hash).await.unwrap().is_some());
    store.token_revoke(write(TokenRevoke { principal: ada, token: login.row.id })).await.unwrap();
    for gone in [&first, &second] {
        assert_eq!(store.token_by_hash(gone.token.row.hash).await.unwrap(), None);
    }
    store.client_secret_revoke(write(TokenRevoke { principal: eve, token: secret.row.id })).await.unwrap();
    assert_eq!(store.token_by_hash(third.token.row.hash).await.unwrap(), None);

    // Of a parent that is gone, or somebody else's, none is made.
    let eves = world.token_of(eve);
    store.token_insert(write(eves.clone())).await.unwrap();
    for parent in [
        TokenParent::Token(login.row.id),
        TokenParent::Token(eves.row.id),
        TokenParent::ClientSecret(secret.row.id),
        TokenParent::ClientSecret(eves.row.id),
    ] {
        let insert = face_token(&world, ada, parent, 60);
        assert_eq!(store.face_token_insert(write(insert)).await, Err(Error::NotFound), "{parent:?}");
    }
}

pub(crate) async fn a_principal_has_so_many_faces_tokens_and_no_more(store: &Store) {
    let world = World::new(store).await;
    let ada = world.user("ada", None).await;
    let login = world.token_of(ada);
    store.token_insert(write(login.clone())).await.unwrap();
    let parent = TokenParent::Token(login.row.id);
    store.face_token_insert(write(face_token(&world, ada, parent, 10))).await.unwrap();
    store.face_token_insert(write(face_token(&world, ada, parent, 20))).await.unwrap();
    let before = world.log_size().await;
    let third = face_token(&world, ada, parent, 30);
    assert!(matches!(store.face_token_insert(write(third.clone())).await, Err(Error::Crowded(_))));
    assert_eq!(world.log_size().await, before);
    let owners = face_token(&world, world.owner, TokenParent::Token(world.token), 30);
    store.face_token_insert(write(owners)).await.expect("everybody has a share of one's own");
    // What has expired leaves room, swept or not.
    let later = FaceTokenInsert { now: later(10), ..third };
    store.face_token_insert(write(later)).await.unwrap();
}

pub(crate) async fn only_what_has_expired_is_forgotten(store: &Store) {
    let world = World::new(store).await;
    let mut kept = vec![world.token];
    for expires in [Some(later(10)), Some(later(11)), None] {
        let mut token = world.token_of(world.owner);
        token.row.expires = expires;
        if expires != Some(later(10)) {
            kept.push(token.row.id);
        }
        store.token_insert(write(token)).await.unwrap();
    }
    store.invite_insert(write(authenticated(invite(&world, "ada")))).await.unwrap();
    let epoch = world.epoch(world.owner).await;
    assert_eq!(store.expired_remove(write(later(11))).await.unwrap(), 1);
    let mut left: Vec<_> = store.token_list(world.owner).await.unwrap().into_iter().map(|t| t.row.id).collect();
    left.sort_unstable();
    kept.sort_unstable();
    assert_eq!(left, kept);
    assert_eq!(world.epoch(world.owner).await, epoch);
    assert_eq!(store.expired_remove(write(later(101))).await.unwrap(), 2, "a token and the invitation");
}

pub(crate) async fn principals_come_in_pages(store: &Store) {
    let world = World::new(store).await;
    for name in ["d", "b", "C", "a"] {
        world.user(name, None).await;
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store.principal_list(After { after, limit: 2 }).await.unwrap();
        assert!(page.items.len() <= 2);
        names.extend(page.items.into_iter().map(|p| p.row.name.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "C", "d", "owner"]);
    let exact = store.principal_list(After::first(5)).await.unwrap();
    assert_eq!((exact.items.len(), exact.next), (5, None));
}
