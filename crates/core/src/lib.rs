//! The words Kluis uses: ids, names, states, policy, audit records and wire types.
//!
//! Everything here is pure: no I/O, no runtime, no SQL, no HTTP. Other crates meet in these types,
//! so a rule that two of them need stands here and nowhere else.
//!
//! | concept | module |
//! |---|---|
//! | typed ids | [`id`] |
//! | names, parsed at the door | [`name`] |
//! | secrets, versions, soft delete | [`secret`] |
//! | a run's life | [`run`] |
//! | who may do what | [`access`] |
//! | audit records, leaf encoding, Merkle log | [`audit`] |
//! | sealed bytes and row MACs | [`sealed`] |
//! | values in the clear (feature `plaintext`) | `plaintext` |
//! | wire types of the native API, the launcher's session and the broker | [`api`] |
//! | time and chance | [`clock`], [`rng`] |
//! | which file systems are a network's | [`file_system`] |

pub mod access;
pub mod api;
pub mod audit;
pub mod clock;
pub mod file_system;
pub mod id;
pub mod name;
#[cfg(feature = "plaintext")]
pub mod plaintext;
pub mod rng;
pub mod run;
pub mod sealed;
pub mod secret;
