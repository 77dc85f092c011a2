#!/usr/bin/env python3
"""Measures a release build of Claviger on this machine: what `make bench` runs.

Starts a daemon on the embedded token in a directory of its own, has `claviger bench` measure it
beside the bare echo and the token in-process, then fills it with keys and looks at start time and
memory. Prints a table for people, writes the figures as JSON, and removes everything else.

    scripts/bench.py [--seconds N] [--json FILE] [--check] [--keys N] [--only NAME] [--bin DIR]

With --seconds 1.5 it takes about four minutes. Errors make it fail; a missed target does with --check.

Figures are of this machine in these minutes: what counts are the ratios, which were measured in
the same run. Rows marked "one core" have daemon, client and echo on one core, where depth 1 is
the same path each time; otherwise it is luck on which cores the kernel wakes the two ends.
"""

import argparse
import datetime
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

IDLE_CONNECTIONS = 1_000
# Descriptors beside the connections'.
SPARE_DESCRIPTORS = 100
# Seconds that a start may take before it counts as failed.
PATIENCE = 120

# name, arguments of `claviger bench`, whether on one core.
ROWS = [
    ("ping", ["ping"], True),
    ("encrypt software", ["encrypt", "--level", "software"], True),
    ("encrypt hsm", ["encrypt", "--level", "hsm"], True),
    ("decrypt hsm", ["decrypt", "--level", "hsm"], True),
    ("data-key hsm", ["data-key", "--level", "hsm"], True),
    ("encrypt software", ["encrypt", "--level", "software"], False),
    ("encrypt hsm", ["encrypt", "--level", "hsm"], False),
    ("encrypt software", ["encrypt", "--level", "software", "--depth", "64"], False),
    ("encrypt hsm", ["encrypt", "--level", "hsm", "--depth", "64"], False),
    ("ping", ["ping", "--depth", "64", "--clients", "4"], False),
    ("encrypt software", ["encrypt", "--level", "software", "--depth", "64", "--clients", "4"], False),
    ("encrypt hsm", ["encrypt", "--level", "hsm", "--depth", "64", "--clients", "4"], False),
    ("decrypt hsm", ["decrypt", "--level", "hsm", "--depth", "64", "--clients", "4"], False),
    ("data-key hsm", ["data-key", "--level", "hsm", "--depth", "64", "--clients", "4"], False),
    ("sign RSA_2048 software", ["sign", "--level", "software", "--spec", "RSA_2048", "--depth", "16"], False),
    ("sign RSA_2048 hsm", ["sign", "--level", "hsm", "--spec", "RSA_2048", "--depth", "16"], False),
    ("sign EC_P256 software", ["sign", "--level", "software", "--spec", "EC_P256", "--depth", "64"], False),
    ("sign EC_P256 hsm", ["sign", "--level", "hsm", "--spec", "EC_P256", "--depth", "64"], False),
    ("sign SM2 software", ["sign", "--level", "software", "--spec", "SM2", "--depth", "16"], False),
    ("sign EC_P384 software", ["sign", "--level", "software", "--spec", "EC_P384", "--depth", "16"], False),
    ("sign EC_P384 hsm", ["sign", "--level", "hsm", "--spec", "EC_P384", "--depth", "16"], False),
    ("mac HMAC_256 software", ["mac", "--level", "software", "--spec", "HMAC_256", "--depth", "64"], False),
    ("mac HMAC_256 hsm", ["mac", "--level", "hsm", "--spec", "HMAC_256", "--depth", "64"], False),
    ("mac HMAC_SM3 software", ["mac", "--level", "software", "--spec", "HMAC_SM3", "--depth", "64"], False),
    ("encrypt SM4 software", ["encrypt", "--level", "software", "--spec", "SM4", "--depth", "64"], False),
    ("encrypt software", ["encrypt", "--level", "software", "--depth", "4", "--batch", "64"], False),
    ("encrypt hsm", ["encrypt", "--level", "hsm", "--depth", "4", "--batch", "64"], False),
]


def beside(report, least):
    """Whether the daemon reaches a share of one thread's rate of the same cryptography in-process."""
    return (report["ratios"]["in_process_ops"] or 0) >= least


# (name, depth, clients) → what a row must reach, and how it says so.
TARGETS = {
    ("encrypt software", 1, 1): ("p50 <= 1.5 echo", lambda r: r["ratios"]["echo_p50"] <= 1.5),
    ("encrypt hsm", 1, 1): ("p50 <= 2 echo", lambda r: r["ratios"]["echo_p50"] <= 2),
    ("encrypt software", 64, 4): (">= 300k/s", lambda r: r["ops_per_second"] >= 300_000),
    ("encrypt hsm", 64, 4): (
        ">= 120k/s or 60% in-process",
        lambda r: r["ops_per_second"] >= 120_000 or (r["ratios"]["in_process_ops"] or 0) >= 0.6,
    ),
    ("sign RSA_2048 software", 16, 1): (">= 70% in-process", lambda r: beside(r, 0.7)),
    ("sign EC_P256 software", 64, 1): (">= 70% in-process", lambda r: beside(r, 0.7)),
    ("sign SM2 software", 16, 1): (">= 70% in-process", lambda r: beside(r, 0.7)),
    ("sign RSA_2048 hsm", 16, 1): (">= 80% in-process", lambda r: beside(r, 0.8)),
    ("sign EC_P256 hsm", 64, 1): (">= 80% in-process", lambda r: beside(r, 0.8)),
}


class Daemon:
    """A clavigerd on a state directory."""

    def __init__(self, programs, state):
        self.programs, self.state = programs, state
        self.admin, self.app = state / "admin.sock", state / "app.sock"
        self.process, self.started = None, None
        self.log = open(state.parent / "log", "ab")

    def start(self):
        """Starts it; gives the seconds from exec to the first answered call that needs the HSM."""
        began = time.monotonic()
        command = [self.programs / "clavigerd", "--dev", "--state-dir", self.state]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL)
        said, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        if not said or b"serving" not in self.process.stdout.readline():
            raise SystemExit(f"bench: clavigerd didn't serve; the end of its log:\n{self.said()}")
        with hello(self.admin) as connection:
            random_bytes(connection)
        return time.monotonic() - began

    def said(self):
        lines = (self.state.parent / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def pin(self, cores):
        """Puts all of its threads on these cores."""
        command = ["taskset", "-a", "-c", "-p", cores, str(self.process.pid)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def memory(self):
        """Resident and locked bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        kib = {name: int(fields[name].split()[0]) for name in ("VmRSS", "VmLck")}
        return {"resident": kib["VmRSS"] * 1024, "locked": kib["VmLck"] * 1024}

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None


# The few bytes of the protocol that start time and idle connections need: protocol/SPEC.md,
# sections 3 and 5.

def exchange(connection, opcode, body):
    """Sends a frame and gives the reply's status."""
    connection.sendall(struct.pack("<IBBHQIHH", len(body), 1, 0, opcode, 1, 0, 0, 0) + body)
    header = receive(connection, 24)
    length, _, _, _, _, _, status, _ = struct.unpack("<IBBHQIHH", header)
    receive(connection, length)
    return status


def receive(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise SystemExit("bench: the daemon closed a connection")
        data += part
    return data


def hello(path):
    """A connection that has said hello."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(path))
    text = struct.Struct("<Q")
    body = bytes([1, 1]) + text.pack(5) + b"bench" + bytes([0]) + text.pack(0) + bytes(32) + text.pack(0) + bytes([0])
    if exchange(connection, 0x0001, body):
        raise SystemExit("bench: the daemon refused hello")
    return connection


def random_bytes(connection):
    if exchange(connection, 0x0207, struct.pack("<H", 16)):
        raise SystemExit("bench: the daemon gave no random bytes")


def core():
    """The last core that this process may use."""
    return str(max(os.sched_getaffinity(0)))


def cores():
    return ",".join(str(number) for number in sorted(os.sched_getaffinity(0)))


def measure(daemon, arguments, one_core):
    """One run of `claviger bench`, as its JSON object."""
    daemon.pin(core() if one_core else cores())
    command = [daemon.programs / "claviger", "--socket", daemon.admin, "--json", "bench", *arguments]
    if one_core:
        command = ["taskset", "-c", core(), *command]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    try:
        report = json.loads(ran.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"bench: {arguments} printed {ran.stdout!r}") from None
    if "error" in report:
        raise SystemExit(f"bench: {arguments}: {report['error']}")
    return report


def number(value):
    return f"{value:,.0f}"


def micros(value):
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def ratio(value, form):
    return "-" if value is None else form(value)


def verdict(target, met):
    return f"{target}: {'met' if met else 'MISSED'}"


def cells(name, report, one_core):
    """A line of the table, and whether its target is met."""
    ratios, batch = report["ratios"], report["batch"]
    shape = f"{report['depth']} x {report['clients']}" + (f" batch {batch}" if batch > 1 else "")
    percent = "{:.0%}".format
    target = TARGETS.get((name, report["depth"], report["clients"])) if batch == 1 else None
    # On several cores depth 1 measures the kernel's choice: its target is on one.
    if target and report["depth"] == 1 and not one_core:
        target = None
    met = target[1](report) if target else None
    return [
        name,
        shape + (", one core" if one_core else ""),
        number(report["ops_per_second"]),
        micros(report["p50_us"]),
        micros(report["p99_us"]),
        micros(report["p99_9_us"]),
        str(report["errors"]),
        ratio(ratios["echo_p50"], "{:.2f}".format),
        ratio(ratios["echo_ops"], percent),
        ratio(ratios["in_process_ops"], percent),
        verdict(target[0], met) if target else "",
    ], met


def table(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        aligned = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line[:-1], widths))]
        print("  ".join([*aligned, line[-1]]).rstrip(), flush=True)


def speeds(daemon, rows, seconds):
    """The rows, printed as a table at the end."""
    heading = ["", "depth x clients", "ops/s", "p50 us", "p99", "p99.9", "errors",
               "p50/echo", "ops/echo", "ops/in-process", ""]
    lines, reports, verdicts = [heading], [], []
    for name, arguments, one_core in rows:
        print(f"bench: {name} {' '.join(arguments[1:])}{' on one core' if one_core else ''}", file=sys.stderr)
        report = measure(daemon, [*arguments, "--seconds", str(seconds)], one_core)
        line, met = cells(name, report, one_core)
        lines.append(line)
        reports.append({**report, "one_core": one_core, "target_met": met})
        verdicts.append(met)
    daemon.pin(cores())
    table(lines)
    return reports, verdicts


def mebibytes(value):
    return f"{value / (1 << 20):.1f} MiB"


def idle_connections(daemon):
    """Resident bytes that each of many idle connections adds."""
    before = daemon.memory()["resident"]
    connections = [hello(daemon.app) for _ in range(IDLE_CONNECTIONS)]
    after = daemon.memory()["resident"]
    for connection in connections:
        connection.close()
    return (after - before) / IDLE_CONNECTIONS


def start_and_memory(daemon, fresh, keys):
    """Start time with many keys, and memory at rest."""
    loaded = daemon.memory()
    print(f"bench: {keys} keys", file=sys.stderr)
    amount = ["--requests", str(keys), "--rounds", "1", "--depth", "64", "--clients", "4", "--no-baselines"]
    created = measure(daemon, ["create-key", "--level", "hsm", *amount], False)
    daemon.stop()
    start = daemon.start()
    idle = daemon.memory()
    each = idle_connections(daemon)
    print(f"\nmaking HSM keys     {number(created['ops_per_second'])}/s, durable, 64 x 4")
    verdicts = [start <= 1, fresh["resident"] - fresh["locked"] <= 30 << 20]
    print(f"start, {keys:,} keys  {start:.2f} s to the first answered call    {verdict('<= 1 s', verdicts[0])}")
    print(f"resident, idle      {mebibytes(fresh['resident'])}, locked {mebibytes(fresh['locked'])}    "
          f"{verdict('<= 30 MiB without the locked', verdicts[1])}")
    print(f"  with {keys:,} keys  {mebibytes(idle['resident'])}, locked {mebibytes(idle['locked'])}")
    print(f"  after the load    {mebibytes(loaded['resident'])}, locked {mebibytes(loaded['locked'])}")
    print(f"each idle connection {each / 1024:.1f} KiB, of {IDLE_CONNECTIONS:,}")
    return {
        "create_key": created,
        "keys": keys,
        "start_seconds": start,
        "memory_idle": fresh,
        "memory_idle_with_keys": idle,
        "memory_after_load": loaded,
        "bytes_per_idle_connection": each,
        "idle_connections": IDLE_CONNECTIONS,
    }, verdicts


def release_directory():
    """Where cargo puts release builds of this workspace."""
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    here = pathlib.Path(__file__).resolve().parent
    metadata = subprocess.run(command, cwd=here, check=True, stdout=subprocess.PIPE).stdout
    return pathlib.Path(json.loads(metadata)["target_directory"]) / "release"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.5, help="how long to measure each row (default 1.5)")
    parser.add_argument("--json", type=pathlib.Path, help="where the figures go (bench.json beside the binaries)")
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--keys", type=int, default=10_000, help="how many there are at the start (default 10000)")
    parser.add_argument("--only", metavar="NAME", help="only the rows of this name, such as 'encrypt hsm'")
    parser.add_argument("--bin", type=pathlib.Path, help="where the binaries are (cargo's release directory)")
    args = parser.parse_args()
    args.bin = args.bin or release_directory()
    args.json = args.json or args.bin / "bench.json"
    if not 0 < args.seconds <= 600:
        parser.error("--seconds: expected a number over 0, at most 600")
    if not 1 <= args.keys <= 1_000_000:
        parser.error("--keys: expected a number from 1 to 1000000")
    args.rows = [row for row in ROWS if args.only in (None, row[0])]
    if not args.rows:
        parser.error(f"--only: expected one of {', '.join(sorted({row[0] for row in ROWS}))}")
    for name in ("clavigerd", "claviger"):
        if not (args.bin / name).is_file():
            parser.error(f"--bin: there is no {name} in {args.bin}; build with cargo build --release")
    return args


def allow_descriptors(needed):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"bench: {needed} descriptors are needed, the limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def main():
    args = arguments()
    # So that what follows is undone then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    allow_descriptors(IDLE_CONNECTIONS + SPARE_DESCRIPTORS)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="claviger-bench-"))
    daemon = Daemon(args.bin.resolve(), directory / "state")
    try:
        daemon.start()
        fresh = daemon.memory()
        reports, verdicts = speeds(daemon, args.rows, args.seconds)
        rest, more = start_and_memory(daemon, fresh, args.keys)
    finally:
        daemon.stop()
        daemon.log.close()
        shutil.rmtree(directory)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    figures = {"at": now, "cores": os.cpu_count(), "load_average": os.getloadavg(), "rows": reports, **rest}
    args.json.write_text(json.dumps(figures, indent=1) + "\n")
    errors = sum(report["errors"] for report in reports)
    missed = [met for met in verdicts + more if met is False]
    print(f"\n{len(missed)} target(s) missed; the figures are in {args.json}")
    if errors:
        print(f"{errors} CALLS FAILED: these figures are no measure of a daemon that works")
    return 1 if errors or (args.check and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
