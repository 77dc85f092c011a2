//! Configurations and what must be said of them.

mod bad;
mod example;
mod good;

use super::*;

/// A complete configuration; tests add to it or change a piece of it.
const MEMBER: &str =
    "[[hsm]]\nname = \"a\"\nprofile = \"embedded\"\npin = { file = \"/etc/claviger/a.pin\" }\n";

/// The same on a module.
const MODULE: &str = "[[hsm]]\nname='a'\nprofile='softhsm2'\nmodule='/m.so'\nslot=0\npin={env='A'}\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "c.toml")
}

/// Every problem's text, one a line; empty where there is none.
fn problems(text: &str) -> String {
    parse(text).err().map(|error| error.to_string()).unwrap_or_default()
}
