//! What Claviger knows of each kind of HSM: pure data and its schema.

/// One kind of HSM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name, such as `embedded` or `softhsm2`.
    pub name: String,
    /// Whether it is hardware.
    pub hardware: bool,
}
