//! An installation to test in: one owner, one workspace, one compute target, and short words for what tests do all the
//! time. MACs and sealed bytes mean nothing here: the store can not tell.

use std::collections::BTreeMap;
use std::time::Duration;

use kluis_core::access::{Effect, Epoch, Grant, Principal, PrincipalKind, Role, Scope};
use kluis_core::api::runs::{Program, Resources, SubmitRun};
use kluis_core::api::workspaces::WorkspaceSettings;
use kluis_core::audit::{AuditAction, AuditEntry, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::{
    ComputeId, InstallationId, KeyId, PrincipalId, SecretId, SessionId, TicketId, TokenId, VersionId, WorkspaceId,
};
use kluis_core::name::{ComputeName, ExperimentName, PrincipalName, RunId, SecretName, WorkspaceName};
use kluis_core::rng::{CountingRng, Rng};
use kluis_core::run::{RunEvent, RunStatus};
use kluis_core::sealed::{LookupHash, Mac, Sealed};
use kluis_core::secret::{Attributes, Secret, SecretState, Version};
use kluis_store::attempts::{
    AttemptConfirm, AttemptReport, LeaseFilter, LeaseTake, Leased, Redeemed, SessionEnd, TicketRedeem, TicketRow,
};
use kluis_store::audit::AuditFilter;
use kluis_store::identity::{TokenKind, TokenRow};
use kluis_store::installation::{InstallationCreate, InstallationKeys};
use kluis_store::runs::{OpenLimits, RunInsert, RunRow};
use kluis_store::secrets::{Found, SecretFind, SecretRead, SecretVersionInsert};
use kluis_store::workspaces::{ComputeRow, Workspace, WorkspaceInsert, WorkspaceKeyRow};
use kluis_store::{Authenticated, Authority, Error, RunAuthority, Store, Write};

/// The moment at which everything happens unless a test says otherwise.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_795_530_000);
/// How long a confirmed ticket works.
pub(crate) const WINDOW: Duration = Duration::from_secs(120);

pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

pub(crate) fn mac() -> Mac {
    Mac([7; 32])
}

pub(crate) fn authenticated<T>(row: T) -> Authenticated<T> {
    Authenticated { row, mac: mac() }
}

pub(crate) fn secret_name(text: &str) -> SecretName {
    SecretName::parse(text).expect("a name")
}

pub(crate) fn run_id(text: &str) -> RunId {
    RunId::parse(text).expect("a run's id")
}

pub(crate) fn compute_name(text: &str) -> ComputeName {
    ComputeName::parse(text).expect("a name")
}

pub(crate) fn workspace_name(text: &str) -> WorkspaceName {
    WorkspaceName::parse(text).expect("a name")
}

pub(crate) fn principal_name(text: &str) -> PrincipalName {
    PrincipalName::parse(text).expect("a name")
}

pub(crate) fn experiment_name(text: &str) -> ExperimentName {
    ExperimentName::parse(text).expect("a name")
}

/// A command of the server's own, with one record.
pub(crate) fn write<T>(change: T) -> Write<T> {
    Write::new(Authority::server(), entry(AuditAction::ServerStarted), change)
}

/// The same in somebody's name.
pub(crate) fn write_as<T>(authority: Authority, change: T) -> Write<T> {
    Write::new(authority, entry(AuditAction::Refused), change)
}

pub(crate) fn entry(action: AuditAction) -> AuditEntry {
    AuditEntry { record: AuditRecord::new(NOW, action), mac: mac() }
}

/// What a search of the log finds; every record is readable.
pub(crate) async fn records(store: &Store, filter: AuditFilter) -> Vec<(u64, AuditEntry)> {
    let listed = store.audit_query(filter).await.expect("the log is searched");
    listed.items.into_iter().map(|(seq, entry)| (seq, entry.expect("a readable record"))).collect()
}

/// A leased run: its tickets' hashes are made from its id and attempt.
pub(crate) fn ticket_hash(run: &str, attempt: u32) -> LookupHash {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(format!("{attempt} {run}").bytes()) {
        *to = from;
    }
    LookupHash(hash)
}

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) rng: CountingRng,
    pub(crate) owner: PrincipalId,
    pub(crate) token: TokenId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) key: KeyId,
    pub(crate) compute: ComputeId,
}

impl World {
    /// First start.
    pub(crate) async fn new(store: &Store) -> Self {
        let (create, world) = Self::first_start(store);
        store.installation_create(write(create)).await.expect("an empty store takes a first start");
        world
    }

    /// What first start would write.
    pub(crate) fn first_start(store: &Store) -> (InstallationCreate, Self) {
        let rng = CountingRng::new(1);
        let world = Self {
            store: store.clone(),
            owner: PrincipalId::generate(&rng),
            token: TokenId::generate(&rng),
            workspace: WorkspaceId::generate(&rng),
            key: KeyId::generate(&rng),
            compute: ComputeId::generate(&rng),
            rng,
        };
        let mut token = world.token_of(world.owner);
        token.row.id = world.token;
        let create = InstallationCreate {
            id: InstallationId::generate(&world.rng),
            created: NOW,
            keys: InstallationKeys {
                installation_key: vec![1; 60],
                signing_key: vec![2; 60],
                canary: vec![3; 60],
                root_source: "file".into(),
            },
            sealed: BTreeMap::from([("ca".to_owned(), vec![4; 10])]),
            owner: authenticated(world.principal(world.owner, "owner")),
            owner_grant: world.grant(world.owner, Scope::Installation, Role::Owner),
            owner_token: token,
            workspace: world.workspace_row(world.workspace, "default", world.key, world.owner),
            compute: authenticated(world.compute_row(world.compute, "cluster")),
        };
        (create, world)
    }

    pub(crate) fn principal(&self, id: PrincipalId, name: &str) -> Principal {
        Principal {
            id,
            name: principal_name(name),
            kind: PrincipalKind::User,
            enabled: true,
            epoch: Epoch(1),
            revision: 1,
        }
    }

    pub(crate) fn grant(&self, principal: PrincipalId, scope: Scope, role: Role) -> Authenticated<Grant> {
        authenticated(Grant { principal, scope, role, effect: Effect::Allow, revision: 1 })
    }

    pub(crate) fn token_of(&self, principal: PrincipalId) -> Authenticated<TokenRow> {
        let mut hash = [0; 32];
        self.rng.fill(&mut hash);
        authenticated(TokenRow {
            id: TokenId::generate(&self.rng),
            principal,
            kind: TokenKind::Native,
            label: "laptop".into(),
            hash: LookupHash(hash),
            created: NOW,
            expires: None,
            revision: 1,
        })
    }

    pub(crate) fn workspace_row(&self, id: WorkspaceId, name: &str, key: KeyId, owner: PrincipalId) -> WorkspaceInsert {
        WorkspaceInsert {
            workspace: authenticated(Workspace {
                id,
                name: workspace_name(name),
                created: NOW,
                settings: WorkspaceSettings::default(),
                deleted: None,
                revision: 1,
            }),
            key: WorkspaceKeyRow { workspace: id, id: key, wrapped: vec![5; 60], current: true, created: NOW },
            owner: self.grant(owner, Scope::Workspace(id), Role::Owner),
        }
    }

    pub(crate) fn compute_row(&self, id: ComputeId, name: &str) -> ComputeRow {
        ComputeRow { id, name: compute_name(name), open: true, created: NOW, revision: 1, last_seen: None, queued: 0 }
    }

    /// Another workspace of the owner's.
    pub(crate) async fn another_workspace(&self, name: &str) -> (WorkspaceId, KeyId) {
        let (id, key) = (WorkspaceId::generate(&self.rng), KeyId::generate(&self.rng));
        let insert = self.workspace_row(id, name, key, self.owner);
        self.store.workspace_insert(write(insert)).await.expect("the name is free");
        (id, key)
    }

    /// A new user, a member of the workspace when a role is given.
    pub(crate) async fn user(&self, name: &str, role: Option<Role>) -> PrincipalId {
        let id = PrincipalId::generate(&self.rng);
        self.store.principal_insert(write(authenticated(self.principal(id, name)))).await.expect("the name is free");
        if let Some(role) = role {
            let grant = self.grant(id, Scope::Workspace(self.workspace), role);
            self.store.grant_set(write(grant)).await.expect("the principal exists");
        }
        id
    }

    pub(crate) async fn epoch(&self, principal: PrincipalId) -> Epoch {
        let found = self.store.principal_get(principal).await.expect("readable").expect("it exists");
        found.row.epoch
    }

    /// A principal's authority as it is now.
    pub(crate) async fn by(&self, principal: PrincipalId) -> Authority {
        Authority::Principal { principal, token: None, epoch: self.epoch(principal).await }
    }

    pub(crate) async fn log_size(&self) -> u64 {
        self.store.audit_head().await.expect("readable").size
    }

    // Secrets -------------------------------------------------------------------------------------------------------

    pub(crate) fn new_secret(&self, name: &str, value: &str) -> SecretVersionInsert {
        let (id, version) = (SecretId::generate(&self.rng), VersionId::generate(&self.rng));
        let secret = Secret {
            workspace: self.workspace,
            id,
            name: secret_name(name),
            current: version,
            state: SecretState::Active,
            revision: 1,
            created: NOW,
            updated: NOW,
        };
        self.version_for(secret, value)
    }

    /// The next version of a secret.
    pub(crate) fn next_version(&self, secret: &Secret, value: &str) -> SecretVersionInsert {
        let mut secret = secret.clone();
        secret.current = VersionId::generate(&self.rng);
        secret.revision += 1;
        self.version_for(secret, value)
    }

    fn version_for(&self, secret: Secret, value: &str) -> SecretVersionInsert {
        let version = Version {
            workspace: secret.workspace,
            secret: secret.id,
            id: secret.current,
            attributes: Attributes {
                tags: BTreeMap::from([("team".into(), "ml".into())]),
                content_type: Some("text/plain".into()),
                expires: Some(later(1000)),
                ..Attributes::default()
            },
            revision: 1,
            created: NOW,
            updated: NOW,
            created_by: self.owner,
        };
        let sealed = Sealed { key_id: self.key, wrapped_key: vec![8; 60], value: value.as_bytes().to_vec() };
        SecretVersionInsert { secret: authenticated(secret), version: authenticated(version), sealed }
    }

    /// Sets a secret, new or not, and finds it.
    pub(crate) async fn set(&self, name: &str, value: &str) -> Found {
        let insert = match self.store.secret_get(self.workspace, &secret_name(name)).await.expect("readable") {
            Some(found) => self.next_version(&found.secret.row, value),
            None => self.new_secret(name, value),
        };
        self.store.secret_version_insert(write(vec![insert])).await.expect("nothing stands in the way");
        self.found(name).await
    }

    pub(crate) async fn found(&self, name: &str) -> Found {
        self.find_as(Authority::server(), name, false).await.expect("found")
    }

    pub(crate) async fn find_as(&self, authority: Authority, name: &str, refresh: bool) -> Result<Found, Error> {
        let find = SecretFind { workspace: self.workspace, names: vec![secret_name(name)], refresh };
        let mut found = self.store.secrets_find(authority, find).await?;
        found.remove(0).ok_or(Error::NotFound)
    }

    pub(crate) fn read_of(&self, found: &Found, refresh: bool) -> SecretRead {
        SecretRead {
            workspace: found.secret.row.workspace,
            secret: found.secret.row.id,
            version: found.version.row.id,
            secret_revision: found.secret.row.revision,
            version_revision: found.version.row.revision,
            name: found.secret.row.name.clone(),
            refresh,
            now: NOW,
        }
    }

    /// Finds and delivers, as a caller does; the value.
    pub(crate) async fn read_as(&self, authority: Authority, name: &str, refresh: bool) -> Result<Vec<u8>, Error> {
        let found = self.find_as(authority.clone(), name, refresh).await?;
        self.store.secret_read(write_as(authority, vec![self.read_of(&found, refresh)])).await?;
        Ok(found.sealed.value)
    }

    // Runs ----------------------------------------------------------------------------------------------------------

    /// A workspace as it is now.
    pub(crate) async fn workspace_now(&self, id: WorkspaceId) -> Workspace {
        self.store.workspace_get(id).await.expect("readable").expect("it exists").row
    }

    pub(crate) fn submission(&self, run: &str) -> Authenticated<RunInsert> {
        authenticated(RunInsert {
            workspace: self.workspace,
            id: run_id(run),
            spec: SubmitRun {
                experiment: experiment_name("churn"),
                snapshot: None,
                program: Program::Command { argv: vec!["true".into()] },
                compute: compute_name("cluster"),
                secrets: Some(vec![secret_name("db-password")]),
                secret_env: BTreeMap::new(),
                secret_files: BTreeMap::new(),
                environment: BTreeMap::new(),
                python: None,
                resources: Resources::default(),
                engine_options: BTreeMap::new(),
                tags: BTreeMap::from([("a".into(), "1".into())]),
                max_attempts: None,
                run: None,
            },
            request_hash: [1; 32],
            submitted_by: self.owner,
            max_attempts: 2,
            workspace_revision: 1,
            limits: OpenLimits { of_submitter: 100, of_workspace: 100 },
            now: NOW,
        })
    }

    pub(crate) async fn submit(&self, run: &str) -> RunRow {
        self.store.run_insert(write(self.submission(run))).await.expect("submitted").run
    }

    pub(crate) async fn next(&self) -> Option<Leased> {
        let filter = LeaseFilter { compute: compute_name("cluster"), only: None, submitter: None, after: 0 };
        self.store.lease_next(filter).await.expect("readable")
    }

    pub(crate) fn lease(&self, run: &str, attempt: u32) -> LeaseTake {
        LeaseTake {
            workspace: self.workspace,
            run: run_id(run),
            attempt,
            agent: self.owner,
            tickets: vec![TicketRow { id: TicketId::generate(&self.rng), hash: ticket_hash(run, attempt) }],
            now: NOW,
            expires: later(60),
        }
    }

    pub(crate) fn confirm(&self, run: &str, attempt: u32) -> AttemptConfirm {
        AttemptConfirm {
            workspace: self.workspace,
            run: run_id(run),
            attempt,
            compute: compute_name("cluster"),
            handle: "pid 4242".into(),
            engine_job: "process 4242".into(),
            now: NOW,
        }
    }

    pub(crate) fn redeem(&self, run: &str, attempt: u32, key: u8, now: Timestamp) -> TicketRedeem {
        TicketRedeem {
            hash: ticket_hash(run, attempt),
            workspace: self.workspace,
            run: run_id(run),
            attempt,
            public_key: [key; 32],
            host: "gpu-1".into(),
            session: SessionId::generate(&self.rng),
            now,
            window: WINDOW,
            theft: vec![entry(AuditAction::TicketTheft)],
        }
    }

    pub(crate) fn report(&self, run: &str, attempt: u32, seen: RunStatus, event: Option<RunEvent>) -> AttemptReport {
        AttemptReport {
            workspace: self.workspace,
            run: run_id(run),
            attempt,
            compute: compute_name("cluster"),
            seen,
            event,
            blame: None,
            reason: "the node is gone".into(),
            now: NOW,
        }
    }

    /// Submits a run, leases, confirms and redeems it: its session.
    pub(crate) async fn start(&self, run: &str) -> RunAuthority {
        self.submit(run).await;
        self.start_attempt(run, 1).await
    }

    pub(crate) async fn start_attempt(&self, run: &str, attempt: u32) -> RunAuthority {
        self.store.lease_take(write(self.lease(run, attempt))).await.expect("leased");
        self.store.attempt_confirm(write(self.confirm(run, attempt))).await.expect("confirmed");
        match self.store.ticket_redeem(write(self.redeem(run, attempt, 9, NOW))).await.expect("presented") {
            Redeemed::Opened(open) => {
                RunAuthority { workspace: self.workspace, run: run_id(run), attempt, session: open.session }
            }
            other => panic!("not opened: {other:?}"),
        }
    }

    /// A run's authority to read, as it is now.
    pub(crate) async fn reader(&self, run: &RunAuthority) -> Authority {
        Authority::Run { submitter: self.owner, epoch: self.epoch(self.owner).await, run: run.clone() }
    }

    pub(crate) fn end(&self, seen: RunStatus, event: RunEvent) -> SessionEnd {
        SessionEnd {
            seen,
            reads: (0, 0),
            event,
            exit: Some(kluis_core::run::ExitStatus::Code(i32::from(event != RunEvent::Succeeded))),
            blame: None,
            reason: None,
            leaks: Vec::new(),
            now: later(10),
        }
    }

    pub(crate) async fn run(&self, run: &str) -> RunRow {
        self.store.run_get(self.workspace, &run_id(run)).await.expect("readable").expect("it exists")
    }
}
