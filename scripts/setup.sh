#!/usr/bin/env bash
# Makes a machine fit to build, run and test Claviger: installs what is missing and
# leaves alone what is there. Safe to run again; does nothing when nothing is missing.
#
#   scripts/setup.sh          what `make run` and `make test` need
#   scripts/setup.sh --lint   also what `make lint`, `make audit` and CI need
#
# Debian (12, 13) packages are installed with apt-get, through sudo where needed. On
# other systems it says what to install. Nothing is downloaded but from Debian's
# archive, crates.io and (where rustup has to fetch a toolchain) Rust's own server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The oldest Rust that builds us: rust-version in Cargo.toml.
RUST_NEEDED=$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' Cargo.toml)
# The versions installed where the tool is missing; what is there is taken as it is.
NEXTEST_VERSION=0.9.143
DENY_VERSION=0.20.2

# build-essential perl make: C of AWS-LC, OpenSSL (in the embedded token) and SQLite.
# clang libclang-dev: bindgen reads OpenSSL's headers for the embedded token.
# softhsm2 opensc openssl python3 python3-cryptography strace: the tests' second
# token, PKCS#11 spy, independent oracles, and proofs about system calls.
# groff: the tests read the manual pages with it.
PACKAGES=(build-essential perl make clang libclang-dev pkg-config git ca-certificates
    softhsm2 opensc openssl python3 python3-cryptography strace groff systemd mount)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; return; fi
    have sudo || fail "not root, and no sudo: run this as root: $*"
    sudo "$@"
}

apt_install() {
    say "installing Debian packages: $*"
    as_root apt-get update -qq || say "apt-get update failed: going on with the lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null
}

debian_packages() {
    if ! have apt-get || ! have dpkg-query; then
        say "not Debian: see to it yourself that the counterparts of these are there: ${PACKAGES[*]}"
        return
    fi
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        case "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" in
            installed) ;;
            *) missing+=("$package") ;;
        esac
    done
    if [ "${#missing[@]}" -gt 0 ]; then apt_install "${missing[@]}"; fi
}

# Whether version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

rust_is_there() {
    have cargo && have rustc || return 1
    local version
    version=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && at_least "$version" "$RUST_NEEDED"
}

rust() {
    # rustup's own place, which a shell without a login may not have in its PATH.
    export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    rust_is_there && return
    local found
    found=$(rustc --version 2>/dev/null || echo 'no Rust')
    if ! have rustup && have apt-cache && apt-cache show rustup >/dev/null 2>&1; then
        apt_install rustup
    fi
    if have rustup; then
        say "found $found; installing Rust's stable toolchain with rustup, and making it the default"
        rustup toolchain install stable --profile minimal --component clippy,rustfmt >&2 || true
        rustup default stable >&2 || true
        hash -r
        rust_is_there && return
    fi
    fail "found $found, but Claviger needs Rust $RUST_NEEDED or newer with clippy and rustfmt." \
        "Install it with rustup (Debian 13: apt-get install rustup; else https://rustup.rs)," \
        "then run: rustup toolchain install stable && rustup default stable"
}

# cargo_tool SUBCOMMAND CRATE VERSION
cargo_tool() {
    cargo "$1" --version >/dev/null 2>&1 && return
    say "installing $2 $3 with cargo (once; a few minutes)"
    # A folder of its own in the target directory, so that an interrupted build goes on.
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/tools" cargo install --quiet --locked "$2@$3"
    cargo "$1" --version >/dev/null 2>&1 || fail "cargo $1 doesn't run after its installation"
}

lint_components() {
    if cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1; then return; fi
    have rustup || fail "cargo clippy and cargo fmt are missing: install them from where cargo came from"
    say "adding clippy and rustfmt to the toolchain"
    rustup component add clippy rustfmt >&2
}

lint=false
case "${1:-}" in
    '') ;;
    --lint) lint=true ;;
    *) fail "unknown argument '$1': none, or --lint" ;;
esac

debian_packages
rust
cargo_tool nextest cargo-nextest "$NEXTEST_VERSION"
if $lint; then
    lint_components
    cargo_tool deny cargo-deny "$DENY_VERSION"
fi
