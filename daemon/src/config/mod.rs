//! Configuration: TOML, turned once into checked types.
