//! The question before what can't be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::Sure;
use crate::failure::Failure;

/// Asks whether it is meant, where somebody is there to be asked: a program that runs
/// this has no terminal, and means what it says.
///
/// # Errors
/// Where the answer isn't yes.
pub(crate) async fn ask(sure: Sure, question: String) -> Result<(), Failure> {
    if sure.yes || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(());
    }
    // On a thread, which a signal needn't wait for.
    let asking = tokio::task::spawn_blocking(move || {
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = asking.await.map_err(|error| Failure::local("Internal", error.to_string()))?;
    let answer = answer.map_err(|error| Failure::usage(format!("the answer can't be read: {error}")))?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::local("Cancelled", "nothing was changed")) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("YES\r\n") && is_yes(" yes "));
        assert!(!is_yes("") && !is_yes("\n") && !is_yes("n\n") && !is_yes("yep\n"));
    }
}
