//! stub
use crate::{config::Config, edge::Edge};
use std::path::{Path, PathBuf};
/// stub
pub struct Report;
impl Report {
    /// a
    pub fn text(&self) -> String {
        String::new()
    }
    /// a
    pub fn json(&self) -> String {
        String::new()
    }
}
/// stub
pub fn probe(_: &Config, _: &Edge) -> Result<Report, String> {
    Err("stub".into())
}
/// stub
pub fn init(_: &Config, _: &[PathBuf], _: &Edge) -> Result<Report, String> {
    Err("stub".into())
}
/// stub
pub fn restore(_: &Config, _: &Path, _: &Path, _: &Edge) -> Result<Report, String> {
    Err("stub".into())
}
