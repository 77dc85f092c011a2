//! What Claviger knows of each kind of HSM: pure data and its schema.

/// One kind of HSM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name, such as `embedded` or `softhsm2`.
    pub name: String,
    /// Whether it is hardware.
    pub hardware: bool,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[error("no built-in profile is called '{0}'")]
pub struct ProfileError(String);

impl Profile {
    /// A built-in profile.
    pub fn load(name: &str) -> Result<Self, ProfileError> {
        if !matches!(name, "embedded" | "softhsm2") {
            return Err(ProfileError(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), hardware: false })
    }
}
