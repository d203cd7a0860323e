//! The Azure faces.

mod authority;
