//! What holds for every route.

mod routes;
