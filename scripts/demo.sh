#!/usr/bin/env bash
# Shows Claviger at work, with the binaries already built (make run does both):
# starts the daemon on its embedded token, makes a key, encrypts and decrypts a file,
# kills the daemon with SIGKILL, starts it again and decrypts once more.
#
#   scripts/demo.sh [FILE]    FILE of at most 6144 bytes, the limit of one Encrypt
#
# Everything lives in a temporary directory, which is gone afterwards; so is the daemon.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LIMIT=6144
# Seconds from start to service. Making the token takes one or two; a machine busy
# with a build can need longer.
PATIENCE=120

target=$(cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
daemon=$target/debug/clavigerd
client=$target/debug/claviger
[ -x "$daemon" ] && [ -x "$client" ] || { echo "demo: no binaries in $target/debug: run make run" >&2; exit 1; }

file=${1:-Cargo.toml}
if [ "$(wc -c <"$file")" -gt "$LIMIT" ]; then
    echo "demo: $file has more than the $LIMIT bytes that one Encrypt takes" >&2
    exit 2
fi

# A short path: a socket's path has at most 107 bytes.
dir=$(mktemp -d "${TMPDIR:-/tmp}/claviger.XXXXXX")
state=$dir/state
pid=
finish() {
    local status=$?
    trap - EXIT
    if [ -n "$pid" ]; then
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ] && [ -s "$dir/log" ]; then
        echo "demo: failed; the end of the daemon's log:" >&2
        tail -n 30 "$dir/log" >&2
    fi
    rm -rf "$dir"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Starts the daemon and returns when it has said, on its standard output, that it
# serves on the admin socket. Nothing is polled: a pipe gives the line, or its end.
start() {
    rm -f "$dir/said"
    mkfifo "$dir/said"
    "$daemon" --dev --state-dir "$state" >"$dir/said" 2>>"$dir/log" </dev/null &
    pid=$!
    # Kept open, or the daemon's next line would find nobody reading.
    exec 3<"$dir/said"
    local line
    while IFS= read -r -t "$PATIENCE" line <&3; do
        case "$line" in *"$state/admin.sock"*) echo "daemon $pid: $line"; return ;; esac
    done
    echo "demo: the daemon ended, or said nothing for $PATIENCE seconds" >&2
    return 1
}

# on ENDPOINT ARGUMENTS: shows the command as a user would type it, and runs it.
on() {
    local socket=$state/$1.sock
    shift
    printf '\n$ claviger --socket %s' "${socket#"$state"/}"
    printf ' %q' "${@/#"$dir"\//}"
    printf '\n'
    "$client" --socket "$socket" "$@"
}

start
on admin status
on admin key create --spec AES_256 --alias alias/demo --description 'Key of the demonstration'
on app encrypt alias/demo --context purpose=demo --in "$file" --out "$dir/file.enc"
on app describe-blob --in "$dir/file.enc"
on app decrypt --context purpose=demo --in "$dir/file.enc" --out "$dir/file.dec"

printf '\n$ cmp %s file.dec\n' "$file"
cmp "$file" "$dir/file.dec"
if cmp -s "$file" "$dir/file.enc"; then echo 'demo: the ciphertext is the plaintext' >&2; exit 1; fi
echo "equal: $(wc -c <"$file") bytes of $file; as ciphertext $(wc -c <"$dir/file.enc") bytes"

printf '\n$ kill -9 %s, and start again\n' "$pid"
kill -KILL "$pid"
wait "$pid" 2>/dev/null || true
pid=
start
on app decrypt --context purpose=demo --in "$dir/file.enc" --out "$dir/file.again"
cmp "$file" "$dir/file.again"
echo 'equal again: the key outlived the daemon'

kill -TERM "$pid"
wait "$pid" || { echo "demo: asked to stop, the daemon ended with status $?" >&2; exit 1; }
pid=
printf '\nThe daemon stopped cleanly. To keep one running:\n  %s --dev --state-dir DIR\n' "$daemon"
