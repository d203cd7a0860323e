//! Workspaces, members, compute targets, keys.

use kluis_core::api::workspaces::{
    ComputeView, CreateCompute, CreateWorkspace, MemberView, SetMember, WorkspaceSettings, WorkspaceView,
};
use kluis_core::api::{Page, PageQuery};
use kluis_core::name::{ComputeName, WorkspaceName};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// The workspaces that the caller can see.
    pub async fn workspaces(&self, page: PageQuery) -> Result<Page<WorkspaceView>, Error> {
        self.get("list workspaces", &["workspaces"]).query(&page).json().await
    }

    /// A new workspace; the caller becomes its owner.
    pub async fn workspace_create(&self, create: &CreateWorkspace) -> Result<WorkspaceView, Error> {
        self.post("create the workspace", &["workspaces"]).body(create).json().await
    }

    /// One workspace.
    pub async fn workspace(&self, workspace: &WorkspaceName) -> Result<WorkspaceView, Error> {
        self.get("show the workspace", &["workspaces", workspace.as_str()]).json().await
    }

    /// Other settings for a workspace.
    pub async fn workspace_change(
        &self,
        workspace: &WorkspaceName,
        settings: &WorkspaceSettings,
    ) -> Result<WorkspaceView, Error> {
        let path = ["workspaces", workspace.as_str()];
        self.patch("change the workspace", &path).body(settings).repeatable().json().await
    }

    /// Deletes a workspace with everything in it.
    pub async fn workspace_delete(&self, workspace: &WorkspaceName) -> Result<(), Error> {
        self.delete("delete the workspace", &["workspaces", workspace.as_str()]).done().await
    }

    /// A workspace's members.
    pub async fn members(&self, workspace: &WorkspaceName, page: PageQuery) -> Result<Page<MemberView>, Error> {
        self.get("list members", &["workspaces", workspace.as_str(), "members"]).query(&page).json().await
    }

    /// Gives a principal, by name or id, a role.
    pub async fn member_set(
        &self,
        workspace: &WorkspaceName,
        principal: &str,
        member: &SetMember,
    ) -> Result<MemberView, Error> {
        let path = ["workspaces", workspace.as_str(), "members", principal];
        self.put("set a member", &path).body(member).json().await
    }

    /// Takes a principal's role.
    pub async fn member_remove(&self, workspace: &WorkspaceName, principal: &str) -> Result<(), Error> {
        let path = ["workspaces", workspace.as_str(), "members", principal];
        self.delete("remove a member", &path).done().await
    }

    /// Starts rotating a workspace's key: new values use the new one at once, old data keys are rewrapped behind it.
    pub async fn key_rotate(&self, workspace: &WorkspaceName) -> Result<(), Error> {
        self.post("rotate the workspace's key", &["workspaces", workspace.as_str(), "keys:rotate"]).done().await
    }

    /// The compute targets that the caller can see.
    pub async fn computes(&self, page: PageQuery) -> Result<Page<ComputeView>, Error> {
        self.get("list compute targets", &["computes"]).query(&page).json().await
    }

    /// A new compute target.
    pub async fn compute_create(&self, create: &CreateCompute) -> Result<ComputeView, Error> {
        self.post("create the compute target", &["computes"]).body(create).json().await
    }

    /// One compute target.
    pub async fn compute(&self, compute: &ComputeName) -> Result<ComputeView, Error> {
        self.get("show the compute target", &["computes", compute.as_str()]).json().await
    }

    /// Deletes a compute target.
    pub async fn compute_delete(&self, compute: &ComputeName) -> Result<(), Error> {
        self.delete("delete the compute target", &["computes", compute.as_str()]).done().await
    }

    /// Lets a principal, by name or id, use a compute target that is not open.
    pub async fn compute_user_add(&self, compute: &ComputeName, principal: &str) -> Result<(), Error> {
        self.put("let a principal use the compute target", &["computes", compute.as_str(), "users", principal])
            .done()
            .await
    }

    /// Takes that back.
    pub async fn compute_user_remove(&self, compute: &ComputeName, principal: &str) -> Result<(), Error> {
        self.delete("remove a user of the compute target", &["computes", compute.as_str(), "users", principal])
            .done()
            .await
    }
}
