//! Configurations that are refused, and the exact words.

use super::*;

/// Text, and every problem that must be told, in order. `$M` is [`MEMBER`].
const BAD: &[(&str, &str)] = &[
    // Not TOML.
    ("a = \"x", "c.toml:1: found invalid basic string, expected `\"`"),
    ("\n[[hsm]\n", "c.toml:2: found unclosed array table, expected `]`"),
    ("state_dir\n", "c.toml:1: found key with no value, expected `=`"),
    ("$M[admin]\nmode = 0600\n", "c.toml:6: found unexpected leading zero, expected TOML without it"),
    ("$Mname = \"b\"\n", "c.toml:5: name: found the key a second time, expected each key once"),
    // Unknown keys, wrong kinds.
    (
        "state = 1\n$M",
        "c.toml:1: state: found an unknown key, expected one of state_dir, allow_software_tokens, lock_memory, admin, endpoint, \
         hsm, limits, metrics, log, audit, quotas",
    ),
    (
        "$M[admin]\nsoket = \"/a\"\n",
        "c.toml:6: admin.soket: found an unknown key, expected one of socket, mode, owner, group",
    ),
    (
        "allow_software_tokens = \"yes\"\n$M",
        "c.toml:1: allow_software_tokens: found \"yes\", expected true or false",
    ),
    ("admin = \"/a\"\n$M", "c.toml:1: admin: found \"/a\", expected a table [admin]"),
    ("limits = 5\n$M", "c.toml:1: limits: found 5, expected a table [limits]"),
    ("$M[endpoint]\nname = \"a\"\n", "c.toml:5: endpoint: found a table, expected tables [[endpoint]]"),
    // Paths.
    (
        "state_dir = \"state\"\n$M",
        "c.toml:1: state_dir: found \"state\", expected an absolute path without '..'",
    ),
    (
        "state_dir = \"/a/../b\"\n$M",
        "c.toml:1: state_dir: found \"/a/../b\", expected an absolute path without '..'",
    ),
    ("state_dir = \"\"\n$M", "c.toml:1: state_dir: found \"\", expected an absolute path without '..'"),
    (
        "state_dir = \"/a\\u0000\"\n$M",
        "c.toml:1: state_dir: found \"/a\\0\", expected an absolute path without '..'",
    ),
    (
        "$M[admin]\nsocket = \"admin.sock\"\n",
        "c.toml:6: admin.socket: found \"admin.sock\", expected an absolute path without '..'",
    ),
    // Endpoints.
    (
        "$M[[endpoint]]\n",
        "c.toml:5: endpoint[0].name: found nothing, expected the name of an access point\n\
         c.toml:5: endpoint[0].socket: found nothing, expected the path of a socket",
    ),
    (
        "$M[[endpoint]]\nname = \"a b\"\nsocket = \"/a\"\n",
        "c.toml:6: endpoint[0].name: found \"a b\", expected a name of 1 to 64 of A-Z a-z 0-9 _ -",
    ),
    (
        "$M[[endpoint]]\nname = \"admin\"\nsocket = \"/a\"\n",
        "c.toml:6: endpoint[0].name: found \"admin\", expected another name: the admin endpoint is [admin]",
    ),
    (
        "$M[[endpoint]]\nname = \"a\"\nsocket = \"/a\"\n[[endpoint]]\nname = \"a\"\nsocket = \"/b\"\n",
        "c.toml:9: endpoint[1].name: found \"a\", expected a name that no other endpoint has",
    ),
    (
        "$M[[endpoint]]\nname = \"a\"\nsocket = \"/a\"\n[[endpoint]]\nname = \"b\"\nsocket = \"//a\"\n",
        "c.toml:10: endpoint[1].socket: found \"//a\", expected a socket that no other endpoint has, [admin] included",
    ),
    (
        "$M[[endpoint]]\nname = \"a\"\nsocket = \"/run/claviger/admin.sock\"\n",
        "c.toml:7: endpoint[0].socket: found \"/run/claviger/admin.sock\", expected a socket that no other endpoint \
         has, [admin] included",
    ),
    (
        "$M[admin]\nmode = \"0666\"\n",
        "c.toml:6: admin.mode: found \"0666\", expected an octal string such as \"0600\", not writable for others",
    ),
    (
        "$M[admin]\nmode = \"4600\"\n",
        "c.toml:6: admin.mode: found \"4600\", expected an octal string such as \"0600\", not writable for others",
    ),
    (
        "$M[admin]\nmode = 600\n",
        "c.toml:6: admin.mode: found 600, expected an octal string such as \"0600\", not writable for others",
    ),
    (
        "$M[admin]\ngroup = 990\n",
        "c.toml:6: admin.group: found 990, expected a name or number as a string, such as \"claviger\" or \"990\"",
    ),
    // Members.
    ("", "c.toml: hsm: found nothing, expected exactly one [[hsm]]"),
    ("hsm = []\n", "c.toml:1: hsm: found an array, expected exactly one [[hsm]]"),
    ("[hsm]\n", "c.toml:1: hsm: found a table, expected exactly one [[hsm]]"),
    (
        "$M$M",
        "c.toml:5: hsm[1]: found 2 members, expected exactly one [[hsm]]: several members (a pool) are not available \
         in this version",
    ),
    (
        "[[hsm]]\n",
        "c.toml:1: hsm[0].name: found nothing, expected the member's name\n\
         c.toml:1: hsm[0].profile: found nothing, expected a built-in profile's name or an absolute path\n\
         c.toml:1: hsm[0].pin: found nothing, expected a table with one of file, credential, env, command",
    ),
    (
        "$Mmodule = \"/m.so\"\nslot = 3\n",
        "c.toml:5: hsm[0].module: found \"/m.so\", expected no such key with profile \"embedded\"\n\
         c.toml:6: hsm[0].slot: found 3, expected no such key with profile \"embedded\"",
    ),
    (
        "$Misolation = \"process\"\n",
        "c.toml:5: hsm[0].isolation: found \"process\", expected \"thread\": the embedded token is a part of the \
         daemon",
    ),
    (
        "$Misolation = \"fork\"\ncall_timeout = \"1ms\"\n",
        "c.toml:5: hsm[0].isolation: found \"fork\", expected \"process\", \"thread\" or \"unit\"\n\
         c.toml:6: hsm[0].call_timeout: found \"1ms\", expected a duration such as \"5s\" or \"200ms\", from 100ms \
         to 10m",
    ),
    (
        "$Mhelper = \"/h\"\nsocket = \"/s\"\n",
        "c.toml:5: hsm[0].helper: found \"/h\", expected no such key but with isolation = \"process\"\n\
         c.toml:6: hsm[0].socket: found \"/s\", expected no such key but with isolation = \"unit\"",
    ),
    (
        "$Sisolation='process'\nsocket='/s'\n",
        "c.toml:8: hsm[0].socket: found \"/s\", expected no such key but with isolation = \"unit\"",
    ),
    (
        "$Sisolation='unit'\n",
        "c.toml:1: hsm[0].socket: found nothing, expected the path of the helper's socket",
    ),
    (
        "$Sisolation='unit'\nsocket='a.sock'\n",
        "c.toml:8: hsm[0].socket: found \"a.sock\", expected an absolute path without '..'",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='softhsm2'\npin={env='A'}\n",
        "c.toml:1: hsm[0].module: found nothing, expected the absolute path of a PKCS#11 module\n\
         c.toml:1: hsm[0]: found none of token_label, serial, slot, expected exactly one of token_label, serial, slot",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='softhsm2'\nmodule='m.so'\nslot=0\nserial='1'\npin={env='A'}\n",
        "c.toml:1: hsm[0]: found several of token_label, serial, slot, expected exactly one of token_label, serial, \
         slot\n\
         c.toml:4: hsm[0].module: found \"m.so\", expected an absolute path without '..'",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='softhsm2'\nmodule='/m'\ntoken_label='123456789012345678901234567890123'\npin={env='A'}\n",
        "c.toml:5: hsm[0].token_label: found \"123456789012345678901234567890123\", expected 1 to 32 bytes without \
         control characters, not ending in a blank",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='softhsm2'\nmodule='/m'\nslot=-1\npin={env='A'}\n",
        "c.toml:5: hsm[0].slot: found -1, expected a whole number from 0 to 4294967295",
    ),
    // PINs: never shown.
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin='1234'\n",
        "c.toml:4: hsm[0].pin: found a string (not shown), expected a table with one of file, credential, env, command",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={file='1234'}\n",
        "c.toml:4: hsm[0].pin.file: found a string (not shown), expected an absolute path without '..'",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={value='1234'}\n",
        "c.toml:4: hsm[0].pin: found none of file, credential, env, command, expected exactly one of them\n\
         c.toml:4: hsm[0].pin.value: found an unknown key, expected one of file, credential, env, command",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={file='/a',env='A'}\n",
        "c.toml:4: hsm[0].pin: found several of file, credential, env, command, expected exactly one of them",
    ),
    (
        "state_dir='/s'\n[[hsm]]\nname='a'\nprofile='embedded'\npin={file='/s/./token//pin'}\n",
        "c.toml:5: hsm[0].pin.file: found a string (not shown), expected a file outside the token's directory (only \
         --dev keeps the PIN there)",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={credential='../a'}\n",
        "c.toml:4: hsm[0].pin.credential: found a string (not shown), expected a credential's name",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={env='1234'}\n",
        "c.toml:4: hsm[0].pin.env: found a string (not shown), expected a variable's name",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={command=['pass','a']}\n",
        "c.toml:4: hsm[0].pin.command: found an array, expected a program by its absolute path",
    ),
    (
        "[[hsm]]\nname='a'\nprofile='embedded'\npin={command=[]}\n",
        "c.toml:4: hsm[0].pin.command: found an array, expected a program and its arguments",
    ),
    // Limits.
    (
        "$M[limits]\nmax_batch = 1025\n",
        "c.toml:6: limits.max_batch: found 1025, expected a whole number from 1 to 1024",
    ),
    (
        "$M[limits]\ndeletion_days_min = 6\n",
        "c.toml:6: limits.deletion_days_min: found 6, expected a whole number from 7 to 1096",
    ),
    (
        "$M[limits]\ndeletion_days_max = 1097\n",
        "c.toml:6: limits.deletion_days_max: found 1097, expected a whole number from 7 to 1096",
    ),
    (
        "$M[limits]\nassociation_days = -1\n",
        "c.toml:6: limits.association_days: found -1, expected a whole number from 0 to 3650",
    ),
    (
        "$M[limits]\nmax_batch = \"10\"\n",
        "c.toml:6: limits.max_batch: found \"10\", expected a whole number from 1 to 1024",
    ),
    (
        "$M[limits]\nmax_body = \"1MB\"\n",
        "c.toml:6: limits.max_body: found \"1MB\", expected a size such as 65536 or \"64KiB\", from 64KiB to 16MiB",
    ),
    (
        "$M[limits]\nmax_body = \"18446744073709551615GiB\"\n",
        "c.toml:6: limits.max_body: found \"18446744073709551615GiB\", expected a size such as 65536 or \"64KiB\", \
         from 64KiB to 16MiB",
    ),
    (
        "$M[limits]\nhandshake_timeout = 5\n",
        "c.toml:6: limits.handshake_timeout: found 5, expected a duration such as \"5s\" or \"200ms\", from 100ms to 1m",
    ),
    (
        "$M[limits]\nidle_timeout = \"2days\"\n",
        "c.toml:6: limits.idle_timeout: found \"2days\", expected a duration such as \"5s\" or \"200ms\", from 1s to \
         1day",
    ),
    (
        "$M[limits]\nmax_body = \"64KiB\"\nmax_plaintext = \"60KiB\"\n",
        "c.toml:5: limits: found max_plaintext 60KiB with max_body 64KiB, expected max_plaintext + 16KiB ≤ max_body",
    ),
    (
        "$M[limits]\nmax_body = \"16MiB\"\nbuffer_bytes = \"31MiB\"\n",
        "c.toml:5: limits: found buffer_bytes 31MiB with max_body 16MiB, expected buffer_bytes ≥ 2 × max_body",
    ),
    // Metrics and log.
    (
        "$M[metrics]\nlisten = \"0.0.0.0:9464\"\n",
        "c.toml:6: metrics.listen: found \"0.0.0.0:9464\", expected \"unix:\" and a socket's absolute path without \
         '..' (at most 107 bytes), or a loopback address and port such as \"127.0.0.1:9464\" or \"[::1]:9464\"",
    ),
    (
        "$M[metrics]\nlisten = \"127.0.0.1:9464\"\nmode = \"0600\"\n",
        "c.toml:7: metrics.mode: found \"0600\", expected no such key: it is for a socket (listen = \"unix:…\")",
    ),
    (
        "$M[metrics]\nlisten = \"unix:/run/claviger/admin.sock\"\n",
        "c.toml:6: metrics.listen: found \"unix:/run/claviger/admin.sock\", expected a socket that no endpoint has",
    ),
    (
        "$M[log]\nformat = \"xml\"\nlevel = \"loud\"\n",
        "c.toml:6: log.format: found \"xml\", expected \"auto\", \"text\", \"json\" or \"journald\"\n\
         c.toml:7: log.level: found \"loud\", expected a level (off, error, warn, info, debug, trace), or some with \
         targets such as \"info,clavigerd::store=debug\"",
    ),
    // Sections of later versions.
    (
        "$M[audit]\nsync = true\n",
        "c.toml:6: audit.sync: found an unknown key, expected no keys here in this version",
    ),
    (
        "$M[quotas]\nkeys = 5\n",
        "c.toml:6: quotas.keys: found an unknown key, expected no keys here in this version",
    ),
];

#[test]
fn each_is_refused_in_exactly_these_words() {
    let mut failures = Vec::new();
    for (text, expected) in BAD {
        let text = text.replace("$M", MEMBER).replace("$S", MODULE);
        let said = problems(&text);
        if said != *expected {
            failures.push(format!("{text}\n  said: {said}\n  want: {expected}\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(BAD.len() >= 30);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "state_dir = 5\n[limits]\nlane_queue = 0\nwhat = 1\n[[hsm]]\nname = \"a/b\"\nprofile = \"embedded\"\n\
                [[endpoint]]\nmode = \"1\"\n[admin]\nowner = \"\"\n";
    let Err(ConfigError::Invalid(problems)) = parse(text) else { panic!("accepted") };
    let keys: Vec<_> = problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    let expected = [
        (Some(1), "state_dir"),
        (Some(3), "limits.lane_queue"),
        (Some(4), "limits.what"),
        (Some(5), "hsm[0].pin"),
        (Some(6), "hsm[0].name"),
        (Some(8), "endpoint[0].name"),
        (Some(8), "endpoint[0].socket"),
        (Some(9), "endpoint[0].mode"),
        (Some(11), "admin.owner"),
    ];
    assert_eq!(keys, expected);
}

#[test]
fn an_unknown_profile_is_refused_with_its_name_and_line() {
    let said = problems("[[hsm]]\nname='a'\nprofile='lunna'\nmodule='/m'\nslot=1\npin={env='A'}\n");
    let expected =
        "c.toml:3: hsm[0].profile: found \"lunna\", expected a built-in profile's name or an absolute path (";
    assert!(said.starts_with(expected) && !said.contains('\n'), "{said}");
}

#[test]
fn a_profile_by_path_is_absolute_and_never_the_embedded_one() {
    let of = |profile: &str| problems(&format!("[[hsm]]\nname='a'\nprofile='{profile}'\npin={{env='A'}}\n"));
    for relative in ["p.toml", "dir/p", "./embedded", ""] {
        let expected = format!(
            "c.toml:3: hsm[0].profile: found \"{relative}\", expected a built-in profile's name or an absolute path"
        );
        assert_eq!(of(relative), expected);
    }
    assert!(of("/nonexistent/p.toml").starts_with("c.toml:3: hsm[0].profile: found \"/nonexistent/p.toml\""));
    let embedded = concat!(env!("CARGO_MANIFEST_DIR"), "/../hsm-profiles/profiles/embedded.toml");
    assert!(of(embedded).starts_with("c.toml:3: hsm[0].profile: found "), "{}", of(embedded));
}

#[test]
fn too_many_endpoints_are_refused() {
    let of = |count: usize| {
        let endpoint = |i| format!("[[endpoint]]\nname = \"e{i}\"\nsocket = \"/{i}\"\n");
        let endpoints: String = (0..count).map(endpoint).collect();
        problems(&format!("{endpoints}{MEMBER}"))
    };
    assert_eq!(of(64), "");
    assert_eq!(of(65), "c.toml:1: endpoint: found an array, expected at most 64 endpoints");
}

#[test]
fn a_pin_in_the_wrong_place_is_in_no_message_and_no_debug_output() {
    let secret = "s3cr3t-0451";
    for pin in [
        format!("'{secret}'"),
        format!("{{file='{secret}'}}"),
        format!("{{env='{secret}'}}"),
        format!("{{credential='{secret}/'}}"),
        format!("{{command='{secret}'}}"),
        format!("{{command=['{secret}']}}"),
        format!("['{secret}']"),
        format!("'{secret}"),
        secret.to_owned(),
    ] {
        let text = format!("[[hsm]]\nname='a'\nprofile='embedded'\npin={pin}\n");
        let error = parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{pin}: {error}");
    }
}
