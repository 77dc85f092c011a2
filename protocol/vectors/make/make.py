#!/usr/bin/env python3
"""Writes the golden vectors beside it, from the independent encoder in tests/decoder.

    make.py            writes ../*.json
    make.py --check    fails if what is there differs from what it would write

Published vectors never change; new ones are added. Keys, salts and nonces are fixed, and made
from labels, so that nobody takes them for real ones.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "tests" / "decoder")]

import frames  # noqa: E402
import life  # noqa: E402
import pairs  # noqa: E402
import refusals  # noqa: E402
import sealed  # noqa: E402


def families():
    """File name → contents."""
    return {
        "control.json": frames.control(),
        "keys.json": frames.keys(),
        "data.json": frames.data(),
        "life.json": life.life(),
        "life_refused.json": life.life_refused(),
        "pairs.json": pairs.pairs(),
        "algorithms.json": pairs.algorithms(),
        "backups.json": frames.backups(),
        "errors.json": frames.errors(),
        "bodies_refused.json": refusals.bodies(),
        "connections.json": refusals.connections(),
        "batches.json": refusals.batches(),
        "contexts.json": sealed.contexts(),
        "blobs.json": sealed.blob_family(),
        "handshakes.json": sealed.handshakes(),
    }


def main():
    stale = []
    for name, family in families().items():
        text = json.dumps(family, indent=1, ensure_ascii=False) + "\n"
        path = HERE.parent / name
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        print(f"make.py: {name} isn't what make.py writes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
