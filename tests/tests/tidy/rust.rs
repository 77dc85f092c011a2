//! A Rust file as a flat list of tokens with lines, made by a real lexer: comments
//! are gone and strings are one token each, so neither can be taken for code.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One token: an identifier, a literal, a bracket, or a piece of punctuation, where
/// `::`, `->` and `=>` are one.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    /// An identifier or keyword.
    pub(crate) word: bool,
}

/// A path such as `std::thread::spawn`; each leaf of a `use` is one, written out.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

impl Path {
    /// Whether these segments are in it, one after the other.
    pub(crate) fn contains(&self, wanted: &[&str]) -> bool {
        self.segments.windows(wanted.len()).any(|window| window == wanted)
    }
}

/// The tokens of a file.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let stream: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    Ok(tokens)
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    let mut joint = false;
    for tree in stream {
        let line = tree.span().start().line;
        let was_joint = std::mem::take(&mut joint);
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push(Token { text: open.to_owned(), line, word: false });
                flatten(group.stream(), out);
                let line = group.span_close().end().line;
                out.push(Token { text: close.to_owned(), line, word: false });
            }
            TokenTree::Punct(punct) => {
                joint = punct.spacing() == Spacing::Joint;
                match out.last_mut() {
                    Some(last) if was_joint && is_pair(&last.text, punct.as_char()) => {
                        last.text.push(punct.as_char());
                        joint = false;
                    }
                    _ => out.push(Token { text: punct.as_char().to_string(), line, word: false }),
                }
            }
            TokenTree::Ident(ident) => out.push(Token { text: ident.to_string(), line, word: true }),
            TokenTree::Literal(literal) => out.push(Token { text: literal.to_string(), line, word: false }),
        }
    }
}

fn is_pair(first: &str, second: char) -> bool {
    matches!((first, second), (":", ':') | ("-" | "=", '>'))
}

/// The index after the bracket that closes the one at `open`.
pub(crate) fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// The index of the next `{` or `;` that isn't inside brackets: where an item's
/// body starts, or the item ends without one.
pub(crate) fn body(tokens: &[Token], from: usize) -> usize {
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" | ";" => return at,
            "(" | "[" => at = after_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Whether the tokens from `at` are exactly these.
pub(crate) fn starts(tokens: &[Token], at: usize, wanted: &[&str]) -> bool {
    let here = tokens.get(at..at + wanted.len());
    here.is_some_and(|here| here.iter().zip(wanted).all(|(token, text)| token.text == *text))
}

/// The tokens without items under `#[cfg(test)]`.
pub(crate) fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const GATE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = vec![true; tokens.len()];
    let mut at = 0;
    while at < tokens.len() {
        if starts(&tokens, at, &GATE) {
            let body = body(&tokens, at + GATE.len());
            let end = after_group(&tokens, body);
            kept[at..end].fill(false);
            at = end;
        } else {
            at += 1;
        }
    }
    tokens.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(token, _)| token).collect()
}

/// Every path of two and more segments, and every leaf of a `use`.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        // `use<'a>` is a bound, not an import.
        if token.word && token.text == "use" && !starts(tokens, at + 1, &["<"]) {
            at = leaves(tokens, at + 1, &mut Vec::new(), &mut paths);
        } else if token.word {
            let mut segments = vec![token.text.clone()];
            at += 1;
            while starts(tokens, at, &["::"]) && tokens.get(at + 1).is_some_and(|token| token.word) {
                segments.push(tokens[at + 1].text.clone());
                at += 2;
            }
            if segments.len() > 1 {
                paths.push(Path { segments, line: token.line });
            }
        } else {
            at += 1;
        }
    }
    paths
}

/// Writes out the tree of a `use` from `at`, each leaf with the segments above it.
/// Gives the index after it.
fn leaves(tokens: &[Token], mut at: usize, above: &mut Vec<String>, out: &mut Vec<Path>) -> usize {
    let depth = above.len();
    while let Some(token) = tokens.get(at) {
        let more = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        match token.text.as_str() {
            "as" => at += 2,
            "{" => {
                let end = after_group(tokens, at);
                at += 1;
                while at + 1 < end {
                    at = leaves(&tokens[..end - 1], at, above, out).max(at + 1);
                }
                at = end;
            }
            "," => {
                at += 1;
                break;
            }
            ";" | "}" | ")" => break,
            _ if token.word || token.text == "*" => {
                above.push(token.text.clone());
                if !more {
                    out.push(Path { segments: above.clone(), line: token.line });
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    above.truncate(depth);
    at
}
