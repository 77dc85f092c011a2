//! stub
use super::command::{Answer, Command, HsmError, ObjectId};
use std::sync::Arc;
/// stub
pub struct Lane;
impl Lane {
    /// stub
    pub fn try_run(&self, _command: &Command) -> Option<Result<Answer, HsmError>> {
        None
    }
    /// stub
    pub fn run(
        self: &Arc<Self>,
        _command: Command,
    ) -> impl Future<Output = Result<Answer, HsmError>> + Send + 'static + use<> {
        async { Err(HsmError::Busy) }
    }
    /// stub
    pub fn release(self: &Arc<Self>, _object: ObjectId) {}
}
