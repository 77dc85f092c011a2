//! The manual: a page for each command, made from the command line's definition, and one
//! for the configuration file, made from the commented example.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;

use super::Failed;
use super::args::Cli;

/// The one place where the configuration is documented for users.
const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/claviger.toml.example"));
const PAGE: &str = "claviger.toml.5";

/// Writes every page into a directory that is there.
pub(crate) fn pages(dir: &Path) -> Result<(), Failed> {
    let written = clap_mangen::generate_to(Cli::command(), dir)
        .and_then(|()| std::fs::write(dir.join(PAGE), configuration(EXAMPLE)));
    written.map_err(|error| {
        let dir = dir.display();
        Failed::usage(format!("the pages can't be written to {dir}: {error}; give a directory of your own"))
    })
}

/// claviger.toml(5) in man(7): the example as it is, with a heading at each table.
fn configuration(example: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH claviger.toml 5 \"\" \"claviger {version}\" \"File formats\"\n.SH NAME\n\
         claviger.toml \\- configuration of clavigerd(1)\n.SH DESCRIPTION\n.nf\n"
    );
    for line in example.lines() {
        if let Some(table) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let table = table.trim_start_matches('[');
            let _ = writeln!(page, ".fi\n.SH [{table}]\n.nf");
        }
        let _ = writeln!(page, "{}", literal(line));
    }
    page + ".fi\n.SH SEE ALSO\n.BR clavigerd (1),\n.BR clavigerd-check-config (1),\n.BR claviger (1)\n"
}

/// A line that groff prints as it stands: no escape, no request at its start, and no
/// typographic form of what is to be typed.
fn literal(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    let escaped = escaped.replace('^', "\\(ha").replace('~', "\\(ti");
    if escaped.starts_with('.') || escaped.starts_with("\\(aq") { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_line_of_the_example() {
        let page = configuration(EXAMPLE);
        for line in EXAMPLE.lines() {
            assert!(page.lines().any(|shown| shown == literal(line)), "{line}");
        }
        assert_eq!(literal(".a-'b\\"), "\\&.a\\-\\(aqb\\e");
        assert!(page.contains(".SH [limits]\n") && page.contains(".SH [hsm]\n"));
    }
}
