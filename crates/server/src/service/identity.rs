//! Who there is and how they sign in. Everything that gives a login is used once or shown once; the store keeps keyed
//! hashes.
//!
//! | | |
//! |---|---|
//! | `logins` | an invitation or a client secret becomes a token |
//! | `tokens` | a caller's own tokens, and taking those of others |
//! | `principals` | making, listing, disabling; client secrets |
//! | `invites` | inviting users and agents, and taking it back |
//! | `audience` | the resources that a token for the Azure faces can be good for |
//! | `device` | logins that wait for somebody to approve them |
//! | `faces` | tokens for the Azure faces |

use kluis_core::access::{Effect, Principal, Role, Scope};
use kluis_core::api::identity::{Membership, PrincipalView, TokenView, Whoami};
use kluis_core::api::{Page, PageQuery};
use kluis_core::clock::Timestamp;
use kluis_core::id::InvalidId;
use kluis_core::name::PrincipalName;
use kluis_store::After;
use kluis_store::identity::TokenRow;
use kluis_vault::token;
use zeroize::Zeroizing;

use crate::api::limit;
use crate::app::App;
use crate::caller::{Caller, Known};
use crate::error::{Error, Result};
use crate::version;

mod audience;
mod device;
mod faces;
mod invites;
mod logins;
mod principals;
mod tokens;

pub use audience::Audience;
pub use device::Polled;
pub(crate) use faces::guid;
pub use faces::{FaceIssued, Issuer};

/// The longest label of a token, in bytes.
const MAX_LABEL: usize = 127;
/// The longest life of a token or client secret that has an end.
const MAX_LIFE_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// Principals, tokens, invitations.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    app: &'a App,
}

impl App {
    /// Principals, tokens, invitations.
    pub fn identity(&self) -> Identity<'_> {
        Identity { app: self }
    }
}

impl Identity<'_> {
    /// Who the caller is and where it is a member.
    pub async fn whoami(&self, caller: &Caller) -> Result<Whoami> {
        let mut workspaces = Vec::new();
        let mut after = None;
        loop {
            let page = self.app.store.workspace_list(Some(caller.id()), After { after, limit: 200 }).await?;
            for listed in page.items {
                let Some(workspace) = self.app.workspace_listed(listed.workspace) else { continue };
                // The role as the verified grants say it, not as the list does.
                if let Some(role) = role_in(&caller.known, Scope::Workspace(workspace.id)) {
                    workspaces.push(Membership { workspace: workspace.name, role });
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Whoami {
            principal: principal_view(&caller.known),
            token: token_view(&caller.token),
            workspaces,
            server_version: version::OWN.to_owned(),
        })
    }

    /// A principal by its id or, if the text is not one, by its name. Each row verified.
    async fn find(&self, who: &str) -> Result<Known> {
        self.app.principal_by_text(who).await
    }
}

impl App {
    /// A principal by its id (32 hex digits) or by its name.
    pub async fn principal_by_text(&self, who: &str) -> Result<Known> {
        if let Ok(id) = who.parse() {
            return self.known(id).await;
        }
        let name = PrincipalName::parse(who)?;
        let found = self.store.principal_by_name(&name).await?.ok_or(Error::NotFound("principal"))?;
        let known = self.known(found.row.id).await?;
        // The name is under the MAC; the index that was looked through is not.
        if known.principal.name == name { Ok(known) } else { Err(Error::NotFound("principal")) }
    }
}

/// The role that an allowing grant gives in exactly this scope.
pub(crate) fn role_in(known: &Known, scope: Scope) -> Option<Role> {
    known.grants.iter().find(|g| g.scope == scope && g.effect == Effect::Allow).map(|g| g.role)
}

fn principal_view(known: &Known) -> PrincipalView {
    let Principal { id, ref name, kind, enabled, revision, .. } = known.principal;
    let installation_owner = role_in(known, Scope::Installation) == Some(Role::Owner);
    PrincipalView { id, name: name.clone(), kind, enabled, installation_owner, revision }
}

fn token_view(token: &TokenRow) -> TokenView {
    TokenView { id: token.id, label: token.label.clone(), created: token.created, expires: token.expires }
}

/// A page of a list that is read as a whole, because it is short. A row that is damaged is left out, and in the log.
fn page_of<T, I: PartialEq + Copy + std::fmt::Display + std::str::FromStr<Err = InvalidId>, V>(
    mut rows: Vec<T>,
    page: &PageQuery,
    id: impl Fn(&T) -> I,
    view: impl Fn(T) -> Result<V>,
) -> Result<Page<V>> {
    let limit = limit(page.limit)? as usize;
    let start = match page.after.as_deref().map(str::parse::<I>).transpose()? {
        None => 0,
        Some(after) => rows.iter().position(|row| id(row) == after).map_or(rows.len(), |n| n + 1),
    };
    let more = rows.len().saturating_sub(start) > limit;
    let (mut items, mut last) = (Vec::new(), None);
    for row in rows.drain(start..).take(limit) {
        let id = id(&row);
        match view(row) {
            Ok(view) => items.push(view),
            Err(e) => tracing::error!(row = %id, error = %e, "left out of a list"),
        }
        last = Some(id.to_string());
    }
    Ok(Page { items, next: last.filter(|_| more) })
}

/// What a token is made for: something to show in a list, on a terminal too.
fn check_label(label: &str) -> Result<()> {
    if label.len() > MAX_LABEL {
        return Err(Error::bad_request(format!("`label` has {} bytes; at most {MAX_LABEL} are allowed", label.len())));
    }
    if label.chars().any(char::is_control) {
        return Err(Error::bad_request("`label` has a control character"));
    }
    Ok(())
}

/// The end of a life in seconds, if it is finite.
fn ends(now: Timestamp, seconds: Option<u64>) -> Result<Option<Timestamp>> {
    match seconds {
        None => Ok(None),
        Some(n) if (1..=MAX_LIFE_SECONDS).contains(&n) => Ok(Some(now.plus(std::time::Duration::from_secs(n)))),
        Some(_) => Err(Error::bad_request(format!("`life_seconds` must be 1 to {MAX_LIFE_SECONDS} (ten years)"))),
    }
}

/// A new token of a kind, with what is stored of it.
struct Minted {
    text: Zeroizing<String>,
    hash: kluis_core::sealed::LookupHash,
}

impl App {
    fn mint(&self, kind: token::Kind) -> Minted {
        let text = token::generate(kind, &*self.rng);
        let hash = self.vault.lookup_hash(kind.as_str(), &text);
        Minted { text, hash }
    }
}
