#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of `make fuzz`: cargo runs it as `instrument.sh RUSTC ARGUMENTS`
# for the crates of this workspace alone. It adds what libFuzzer steers by (LLVM's
# SanitizerCoverage: counters on edges, operands of comparisons), which stable Rust can do;
# the dependencies, OpenSSL among them, stay as every other build has them.
set -eu

# Build scripts run while cargo builds, without libFuzzer to link to.
case " $* " in
    *" --crate-name build_script_"*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
