//! `completions` and `man`: what is made from the definition of the command line.
//! They need no daemon.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use zeroize::Zeroizing;

use crate::args::Cli;
use crate::failure::Failure;
use crate::files;

pub(super) async fn completions(shell: Shell) -> Result<(), Failure> {
    // Into memory first: the generator panics where a stream breaks.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "claviger", &mut script);
    files::to_stdout(Zeroizing::new(script)).await
}

pub(super) fn pages(dir: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| {
        let dir = dir.display();
        Failure::usage(format!("the pages can't be written to {dir}: {error}; give a directory of your own"))
    })
}
