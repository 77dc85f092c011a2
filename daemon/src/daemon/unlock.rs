//! stub
use super::DaemonError;
use crate::config::Config;
use crate::edge::{Edge, Worker};
use crate::service::Service;
use crate::store::SledStore;
use std::sync::Arc;
pub(super) struct Unlock {
    pub(super) config: Arc<Config>,
    pub(super) edge: Edge,
    pub(super) store: Arc<SledStore>,
    pub(super) service: Arc<Service>,
    pub(super) opener: Worker,
}
impl Unlock {
    pub(super) async fn run(self) -> Result<(), DaemonError> {
        Ok(())
    }
}
