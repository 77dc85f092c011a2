//! Where results go: files, standard output, or the object of `--json`.

use std::path::{Path, PathBuf};

use claviger_client::Client;
use claviger_protocol::{Code, SecretBytes};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::args::Output;
use crate::failure::Failure;
use crate::files::Sink;
use crate::output::{Screen, Text};
use crate::view::Bytes;

/// Bytes of a frame that aren't the message: names, numbers, a signature.
const ROOM: usize = 4096;

/// A result without its bytes.
pub(super) fn empty((key_id, key_version_id): (Uuid, Uuid)) -> Bytes {
    Bytes { key_id: Some(key_id), key_version_id: Some(key_version_id), ..Bytes::default() }
}

/// Writes the bytes where the user wants them; under `--json` the object has them
/// unless they went to a file.
pub(super) async fn deliver(
    screen: Screen,
    sink: Sink,
    bytes: &[u8],
    view: impl FnOnce(Option<Text>) -> Bytes,
) -> Result<(), Failure> {
    deliver_coded(screen, sink, Zeroizing::new(bytes.to_vec()), Text::base64(bytes), view).await
}

/// The same where what is written isn't what is shown.
pub(super) async fn deliver_coded(
    screen: Screen,
    mut sink: Sink,
    written: Zeroizing<Vec<u8>>,
    shown: Text,
    view: impl FnOnce(Option<Text>) -> Bytes,
) -> Result<(), Failure> {
    if screen.is_json() && sink.is_stdout() {
        return screen.show(&view(Some(shown)), |_| String::new()).await;
    }
    sink.write(&written).await?;
    sink.finish()?;
    if screen.is_json() { screen.show(&view(None), |_| String::new()).await } else { Ok(()) }
}

/// One of several results of a call: where it goes, and how it looks there.
pub(super) struct Part {
    pub(super) sink: Sink,
    pub(super) written: Zeroizing<Vec<u8>>,
    pub(super) shown: Text,
    /// Its field of the object.
    pub(super) field: fn(&mut Bytes) -> &mut Option<Text>,
}

/// Writes all parts before the first file appears, and lets files appear in the order of
/// the parts: what is worth nothing alone comes last.
pub(super) async fn deliver_all(screen: Screen, mut view: Bytes, parts: Vec<Part>) -> Result<(), Failure> {
    let mut sinks = Vec::with_capacity(parts.len());
    for mut part in parts {
        if screen.is_json() && part.sink.is_stdout() {
            *(part.field)(&mut view) = Some(part.shown);
        } else {
            part.sink.write(&part.written).await?;
        }
        sinks.push(part.sink);
    }
    for sink in sinks {
        sink.finish()?;
    }
    if screen.is_json() { screen.show(&view, |_| String::new()).await } else { Ok(()) }
}

/// Opens a place for each result, each with its flag and whether it is text.
///
/// # Errors
/// Bad usage, where two of them are one file, or more than one would go to standard output.
pub(super) fn places<const N: usize>(
    screen: Screen,
    wanted: [(&str, &Option<PathBuf>, bool); N],
) -> Result<[Sink; N], Failure> {
    let files: Vec<_> = wanted.iter().map(|(_, path, _)| path.as_deref().map(real)).collect();
    for (at, (flag, ..)) in wanted.iter().enumerate() {
        let same = |other: &usize| files[*other].is_some() && files[*other] == files[at];
        let twin = (0..at).find(same).map(|other| &wanted[other]);
        if let Some((other, ..)) = twin {
            return Err(Failure::usage(format!("{other} and {flag} are one file; give two")));
        }
    }
    let mut sinks = Vec::with_capacity(N);
    for (_, path, is_text) in wanted {
        let sink = Sink::open(path.as_deref())?;
        if !is_text {
            refuse_terminal(screen, &sink)?;
        }
        sinks.push(sink);
    }
    if !screen.is_json() && sinks.iter().filter(|sink| sink.is_stdout()).count() > 1 {
        let flags: Vec<_> = wanted.iter().map(|(flag, ..)| format!("{flag} FILE")).collect();
        return Err(Failure::usage(format!(
            "there are {N} results and stdout is one place; give {}, all of them but one, or --json",
            flags.join(", ")
        )));
    }
    sinks.try_into().map_err(|_| Failure::local("Internal", "a result without a place"))
}

/// The file that a path means: what is there, links followed; of a new file the name in the
/// directory that is there.
fn real(path: &Path) -> PathBuf {
    let linked = std::fs::read_link(path).ok().filter(|_| !path.exists());
    let path = linked.map_or_else(
        || path.to_owned(),
        // A link to what isn't there yet.
        |to| path.parent().map_or_else(|| to.clone(), |parent| parent.join(&to)),
    );
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (parent.canonicalize(), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path,
    }
}

/// A place for bytes.
pub(super) fn binary_sink(screen: Screen, output: &Output) -> Result<Sink, Failure> {
    coded_sink(screen, output, false)
}

/// A place for what may be text.
pub(super) fn coded_sink(screen: Screen, output: &Output, is_text: bool) -> Result<Sink, Failure> {
    let sink = Sink::open(output.output.as_deref())?;
    if !is_text {
        refuse_terminal(screen, &sink)?;
    }
    Ok(sink)
}

pub(super) fn refuse_terminal(screen: Screen, sink: &Sink) -> Result<(), Failure> {
    if !screen.is_json() && sink.is_terminal() { Err(no_binary()) } else { Ok(()) }
}

/// A place for a plaintext, which a terminal may show if it can do no harm there.
pub(super) fn check_plaintext_sink(screen: Screen, sink: &Sink, plaintext: &[u8]) -> Result<(), Failure> {
    if !screen.is_json() && sink.is_terminal() && !is_text(plaintext) { Err(no_binary()) } else { Ok(()) }
}

fn no_binary() -> Failure {
    Failure::usage("the result is binary and stdout is a terminal; add --out FILE or --json, or pipe it on")
}

/// Whether bytes can go to a terminal without moving its cursor about.
fn is_text(bytes: &[u8]) -> bool {
    let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(harmless))
}

/// Says it here, with the way out, rather than to send what will be refused.
pub(super) async fn check_message(
    client: &Client,
    message: &SecretBytes,
    way_out: &str,
) -> Result<(), Failure> {
    let most = (client.session().await?.max_body as usize).saturating_sub(ROOM);
    if message.len() <= most {
        return Ok(());
    }
    let text = format!("the message is over the {most} bytes that the daemon takes at once; {way_out}");
    Err(Failure::refused(Code::FrameTooLarge, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_text_goes_to_a_terminal() {
        assert!(is_text("grüße\n\t司钥".as_bytes()));
        assert!(!is_text(b"\x1b[2J"));
        assert!(!is_text(b"\xff"));
        assert!(!is_text(b"\0"));
    }

    #[test]
    fn each_result_has_a_place_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Some(dir.path().join("a")), Some(dir.path().join("b")));
        let (text, object) = (Screen::new(false), Screen::new(true));
        assert!(places(text, [("--a", &a, true), ("--b", &b, true)]).is_ok());
        assert!(places(text, [("--a", &a, true), ("--b", &None, true)]).is_ok());
        assert!(places(text, [("--a", &a, true), ("--b", &a, true)]).is_err());
        let named_otherwise = Some(dir.path().join("./a"));
        assert!(places(text, [("--a", &a, true), ("--b", &named_otherwise, true)]).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("a", &link).unwrap();
        for there in [false, true] {
            if there {
                std::fs::write(dir.path().join("a"), b"x").unwrap();
            }
            assert!(places(text, [("--a", &a, true), ("--b", &Some(link.clone()), true)]).is_err());
        }
        assert!(places(text, [("--a", &None, true), ("--b", &None, true)]).is_err());
        assert!(places(object, [("--a", &None, true), ("--b", &None, true)]).is_ok());
    }
}
