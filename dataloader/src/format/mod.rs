//! What a data set is on disk: manifest, columns, rows.

pub mod account;
pub(crate) mod columns;
pub mod manifest;
pub mod row;
pub mod schema;
