//! `/agent`: who may lease, confirm and report, and what happens when nobody says anything.

mod leases;
mod reports;
mod silence;
