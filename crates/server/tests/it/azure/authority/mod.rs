//! The token authority: what Azure's clients sign in at.

mod faces;
