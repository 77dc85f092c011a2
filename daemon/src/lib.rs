//! The Claviger key-management daemon as a library: `clavigerd` is a thin shell
//! around it, and simulation runs it in-process. One folder a room; the map and
//! the way of a request are in `ARCHITECTURE.md`.

pub mod admission;
pub mod audit;
pub mod backend;
pub mod backup;
pub mod config;
pub mod daemon;
pub mod edge;
pub mod failure;
pub mod identity;
pub mod keyring;
pub mod logs;
pub mod metrics;
pub mod ops;
pub mod policy;
pub mod resolve;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod space;
pub mod store;
