//! stub
use super::command::Template;
use super::lane::Lane;
use claviger_protocol::KeySpec;
use std::sync::Arc;
/// stub
#[derive(Default)]
pub struct Report;
impl Report {
    /// stub
    pub fn unavailable(&self, _s: KeySpec) -> Option<&str> {
        None
    }
}
/// stub
pub struct Member {
    /// a
    pub name: String,
    /// a
    pub hardware: bool,
    /// a
    pub serve: Arc<Lane>,
    /// a
    pub make: Arc<Lane>,
    /// a
    pub report: Report,
    /// a
    pub epoch: u64,
}
impl Member {
    /// stub
    pub fn aes_template(&self) -> Template {
        Template::AesDeriveOnly
    }
}
