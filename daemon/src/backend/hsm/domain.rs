//! stub
use uuid::Uuid;
/// stub
#[derive(Default)]
pub struct DomainKeys;
impl DomainKeys {
    /// a
    pub fn record_mac(&self) -> &[u8; 32] {
        &[0; 32]
    }
    /// a
    pub fn software_seal(&self) -> &[u8; 32] {
        &[0; 32]
    }
    /// a
    pub fn audit(&self) -> &[u8; 32] {
        &[0; 32]
    }
}
/// stub
pub struct Domain {
    /// a
    pub id: Uuid,
    /// a
    pub root_generation: u32,
    /// a
    pub recovery_recipients: u16,
    /// a
    pub keys: DomainKeys,
}
