//! `systemd/claviger.toml.example` is the documentation of every key: it parses,
//! it leaves none out, and the defaults that it shows are the defaults.

use std::collections::BTreeMap;

use super::*;

const EXAMPLE: &str = include_str!("../../../../systemd/claviger.toml.example");

/// The example with every default that it shows (`#key = …`, no blank) switched on.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    EXAMPLE.lines().map(line).collect()
}

/// The keys of each section as the reader itself lists them: by giving every
/// section a key that it doesn't know.
fn schema() -> BTreeMap<String, Vec<String>> {
    let text = format!(
        "zz = 1\n[admin]\nzz = 1\n[[endpoint]]\nzz = 1\n[limits]\nzz = 1\n[metrics]\nzz = 1\n[log]\nzz = 1\n{MEMBER}zz = 1\n"
    );
    let text = text.replace("a.pin\"", "a.pin\", zz = 1");
    let Err(ConfigError::Invalid(problems)) = parse(&text) else { panic!("accepted") };
    let unknown = problems.iter().filter(|problem| problem.found == "an unknown key");
    let keys = |list: &str| list.trim_start_matches("one of ").split(", ").map(str::to_owned).collect();
    unknown.map(|problem| (problem.key.clone(), keys(&problem.expected))).collect()
}

#[test]
fn the_example_is_a_configuration() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!((config.hsm.len(), config.endpoints.len()), (1, 1));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn the_defaults_that_it_shows_are_the_defaults() {
    let (plain, shown) = (parse(EXAMPLE).unwrap(), parse(&uncommented()).unwrap());
    assert_eq!(format!("{plain:#?}"), format!("{shown:#?}"));
    let table: toml::Table = uncommented().parse().unwrap();
    let limits = table["limits"].as_table().unwrap();
    assert_eq!(limits.len(), schema()["limits.zz"].len(), "a limit without its default");
    for (section, key) in [("admin", "socket"), ("admin", "mode")] {
        assert!(table[section].get(key).is_some(), "{section}.{key} without its default");
    }
    for key in ["state_dir", "allow_software_tokens"] {
        assert!(table.contains_key(key), "{key} without its default");
    }
}

#[test]
fn it_names_every_key_of_the_schema() {
    let schema = schema();
    let sections: Vec<&str> = schema.keys().map(String::as_str).collect();
    assert_eq!(
        sections,
        [
            "admin.zz",
            "endpoint[0].zz",
            "hsm[0].pin.zz",
            "hsm[0].zz",
            "limits.zz",
            "log.zz",
            "metrics.zz",
            "zz"
        ]
    );
    for (section, keys) in &schema {
        let header = section.trim_end_matches("zz").trim_end_matches('.').trim_end_matches("[0]");
        let text = match header {
            // The tables themselves are keys of the root.
            "" | "hsm[0].pin" => EXAMPLE,
            header => {
                let starts = [format!("\n[{header}]"), format!("\n[[{header}]]")];
                let start = starts.iter().find_map(|start| EXAMPLE.find(start.as_str())).unwrap();
                let section = &EXAMPLE[start + 1..];
                &section[..section.find("\n[").unwrap_or(section.len())]
            }
        };
        for key in keys {
            let shown = [format!("{key} = "), format!("[{key}]")];
            let here = shown.iter().any(|shown| text.contains(shown.as_str()));
            assert!(here, "{section}: {key} is not in the example");
        }
    }
}

#[test]
fn cut_or_spoilt_anywhere_it_is_taken_or_refused_with_a_line_that_exists() {
    let whole = uncommented();
    let places = whole.char_indices().map(|(at, _)| at).step_by(7);
    for at in places {
        let (start, end) = whole.split_at(at);
        let after = end.chars().skip(1).collect::<String>();
        let mut texts = vec![start.to_owned()];
        texts.extend(
            ["", "\0", "\"", "[", "=", "\n", "9", "é"].map(|spoilt| format!("{start}{spoilt}{after}")),
        );
        for text in texts {
            let Err(ConfigError::Invalid(problems)) = parse(&text) else { continue };
            assert!(!problems.is_empty(), "refused without a reason:\n{text}");
            for problem in problems {
                let lines = text.split('\n').count();
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
            }
        }
    }
}
