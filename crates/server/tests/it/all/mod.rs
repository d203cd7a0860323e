//! What holds for every route. `routes` reads them from the OpenAPI document, `scene` knows what to ask each of them and
//! as whom: a new route is in every test here, or fails it and says what to add.

mod access;
pub(crate) mod canary;
mod clock;
mod input;
mod routes;
pub(crate) mod scene;
