//! Rows that grant: their MACs are made here, before a command, and checked here, after a read. A row whose MAC does not
//! fit is not used, whatever it says.

use kluis_core::audit::{AuditEntry, AuditRecord};
use kluis_store::Authenticated;

use crate::app::App;
use crate::error::{Error, Result};

impl App {
    /// A row with its MAC, for the store.
    pub fn authenticated<T>(&self, row: T, canonical: impl Fn(&T) -> Vec<u8>) -> Authenticated<T> {
        let mac = self.vault.mac(&canonical(&row));
        Authenticated { row, mac }
    }

    /// A row from the store, if it is as the vault last saw it. `name` is what the error says of it.
    pub fn verified<T>(
        &self,
        authenticated: Authenticated<T>,
        canonical: impl Fn(&T) -> Vec<u8>,
        table: &'static str,
        name: impl Fn(&T) -> String,
    ) -> Result<T> {
        let Authenticated { row, mac } = authenticated;
        if self.vault.mac_ok(&canonical(&row), &mac) {
            Ok(row)
        } else {
            Err(Error::Inconsistent { table, row: name(&row) })
        }
    }

    /// Records with their MACs, for a command.
    pub fn entries(&self, records: impl IntoIterator<Item = AuditRecord>) -> Vec<AuditEntry> {
        records.into_iter().map(|record| self.vault.audit_entry(record)).collect()
    }
}
