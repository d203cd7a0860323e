//! Compute targets: named queues that agents serve. Open ones are for everybody who may submit runs; the others for those
//! who were granted them.

use kluis_core::access::{Action, Effect, Grant, Resource, Role, Scope};
use kluis_core::api::workspaces::{ComputeView, CreateCompute};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::ComputeId;
use kluis_core::name::ComputeName;
use kluis_store::identity::GrantRemove;
use kluis_store::workspaces::ComputeRow;
use kluis_store::{After, Write};

use crate::api::limit;
use crate::app::App;
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};

/// Compute targets.
#[derive(Clone, Copy, Debug)]
pub struct Computes<'a> {
    app: &'a App,
}

impl App {
    /// Compute targets.
    pub fn computes(&self) -> Computes<'_> {
        Computes { app: self }
    }

    /// A compute target that the caller may submit runs to. [`Error::NotFound`] when it may not know of it.
    pub async fn compute_to_use(&self, caller: &Caller, name: &ComputeName) -> Result<ComputeRow> {
        let row = self.compute_named(name).await?.ok_or(Error::NotFound("compute target"))?;
        if row.open || caller.may(Action::ComputeUse, Resource::Compute(row.id)) {
            return Ok(row);
        }
        self.refused(caller, None, Action::ComputeUse).await;
        Err(Error::NotFound("compute target"))
    }
}

impl Computes<'_> {
    /// A new compute target.
    pub async fn create(&self, caller: &Caller, create: &CreateCompute) -> Result<ComputeView> {
        self.app.authorize(caller, Action::ComputeManage, Resource::Installation).await?;
        if create.name.is_local() {
            return Err(Error::conflict("`local` is everybody's own machine; choose another name"));
        }
        let row = ComputeRow {
            id: ComputeId::generate(&*self.app.rng),
            name: create.name.clone(),
            open: create.open,
            created: self.app.now(),
            revision: 1,
            last_seen: None,
            queued: 0,
        };
        let record = AuditRecord {
            compute: Some(row.id),
            revision: Some(row.revision),
            name: Some(row.name.to_string()),
            ..caller.record(row.created, AuditAction::ComputeCreated)
        };
        let change = self.app.authenticated(row.clone(), ComputeRow::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        self.app.store.compute_insert(write).await?;
        Ok(view(row))
    }

    /// The compute targets that the caller may use or serve, by name. A page may hold fewer than asked for.
    pub async fn list(&self, caller: &Caller, page: &PageQuery) -> Result<Page<ComputeView>> {
        let after = After { after: page.after.clone(), limit: limit(page.limit)? };
        let listed = self.app.store.compute_list(after).await?;
        let verified =
            |row| self.app.compute_verified(row).inspect_err(|error| tracing::error!(%error, "left out of a list"));
        let rows = listed.items.into_iter().filter_map(|row| verified(row).ok());
        let items = rows.filter(|c| sees(&caller.known, c)).map(view).collect();
        Ok(Page { items, next: listed.next })
    }

    /// One compute target.
    pub async fn show(&self, caller: &Caller, name: &ComputeName) -> Result<ComputeView> {
        let found = self.app.compute_named(name).await?.filter(|c| sees(&caller.known, c));
        found.map(view).ok_or(Error::NotFound("compute target"))
    }

    /// Deletes a compute target. Refused while a run waits for it or runs on it.
    pub async fn delete(&self, caller: &Caller, name: &ComputeName) -> Result<()> {
        let row = self.managed(caller, name).await?;
        let record = AuditRecord {
            compute: Some(row.id),
            revision: Some(row.revision),
            name: Some(row.name.to_string()),
            ..caller.record(self.app.now(), AuditAction::ComputeDeleted)
        };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row.id);
        self.app.store.compute_delete(write).await.map_err(|e| Error::from(e).missing("compute target"))?;
        Ok(())
    }

    /// Lets a principal submit runs to a compute target that is not open.
    pub async fn user_add(&self, caller: &Caller, name: &ComputeName, who: &str) -> Result<()> {
        let row = self.managed(caller, name).await?;
        let _held = self.app.membership.lock().await;
        let known = self.app.principal_by_text(who).await?;
        let scope = Scope::Compute(row.id);
        match known.grants.iter().find(|g| g.scope == scope && g.effect == Effect::Allow) {
            Some(had) if had.role == Role::Agent => {
                return Err(Error::conflict("this principal serves the compute target as its agent"));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let grant =
            Grant { principal: known.principal.id, scope, role: Role::Contributor, effect: Effect::Allow, revision: 1 };
        let record = AuditRecord {
            subject: Some(grant.principal),
            revision: Some(grant.revision),
            compute: Some(row.id),
            name: Some(row.name.to_string()),
            ..caller.record(self.app.now(), AuditAction::GrantSet)
        };
        let change = self.app.authenticated(grant, Grant::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), change);
        self.app.store.grant_set(write).await.map_err(|e| Error::from(e).missing("principal"))?;
        Ok(())
    }

    /// Takes that, or an agent's right to serve.
    pub async fn user_remove(&self, caller: &Caller, name: &ComputeName, who: &str) -> Result<()> {
        let row = self.managed(caller, name).await?;
        let _held = self.app.membership.lock().await;
        let known = self.app.principal_by_text(who).await?;
        let scope = Scope::Compute(row.id);
        let had = known.grants.iter().find(|g| g.scope == scope && g.effect == Effect::Allow);
        let had = had.ok_or(Error::NotFound("user of the compute target"))?;
        let record = AuditRecord {
            subject: Some(known.principal.id),
            revision: Some(had.revision),
            compute: Some(row.id),
            name: Some(row.name.to_string()),
            ..caller.record(self.app.now(), AuditAction::GrantRemoved)
        };
        let remove =
            GrantRemove { principal: known.principal.id, scope, effect: Effect::Allow, revision: had.revision };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), remove);
        self.app.store.grant_remove(write).await.map_err(|e| Error::from(e).missing("user of the compute target"))?;
        Ok(())
    }

    async fn managed(&self, caller: &Caller, name: &ComputeName) -> Result<ComputeRow> {
        self.app.authorize(caller, Action::ComputeManage, Resource::Installation).await?;
        self.app.compute_named(name).await?.ok_or(Error::NotFound("compute target"))
    }
}

/// Open ones are everybody's to see.
fn sees(known: &Known, compute: &ComputeRow) -> bool {
    compute.open || known.sees(Resource::Compute(compute.id))
}

fn view(row: ComputeRow) -> ComputeView {
    let ComputeRow { id, name, open, last_seen, queued, .. } = row;
    ComputeView { id, name, open, last_seen, queued }
}
