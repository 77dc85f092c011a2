//! The Claviger key-management daemon as a library: `clavigerd` is a thin shell
//! around it, and simulation runs it in-process. One folder a room; the map and
//! the way of a request are in `ARCHITECTURE.md`.

pub mod backend;
pub mod config;
pub mod edge;
pub mod store;
