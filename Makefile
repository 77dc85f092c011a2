# make run    sets the machine up, builds, and shows the daemon at work
# make test   sets the machine up, and runs every test, on both tokens
# make lint   formatting, clippy, licences and sources, documentation
# make man    manual pages into man/ of the target directory
# make audit  security advisories (needs the network)
# make bench  a release build's speed, start time and memory, beside baselines of the
#             same run; make bench SECONDS=5 measures longer, CHECK=1 fails on a missed target
# make fuzz   libFuzzer over every target, SECONDS each: make fuzz SECONDS=60,
#             or only some of them: make fuzz TARGETS="bodies blob"

# make torture  the daemon killed at every write, rename and sync, with every call to the
#             disk failing once, damaged, on a full disk, and without power (needs root)

CARGO ?= cargo
# rustup's place, for shells without it, once scripts/setup.sh has put it there.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# What prints cargo's target directory.
TARGET_DIRECTORY = $(CARGO) metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'

.PHONY: run test lint audit bench fuzz torture man setup setup-lint build

# The development profile throughout: dependencies are optimised enough to be quick,
# the second command takes the first's work over, and no figure is quoted from it.
build: setup
	$(CARGO) build --locked --workspace --bins

run: build
	@scripts/demo.sh

test: build
	$(CARGO) nextest run --locked --workspace

man: build
	@target=$$($(TARGET_DIRECTORY)); \
	mkdir -p "$$target/man" && "$$target/debug/claviger" man "$$target/man" && \
	"$$target/debug/clavigerd" man "$$target/man" && echo "read them with: man -l $$target/man/claviger.1"

lint: setup-lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features claviger-fuzz/libfuzzer -- -D warnings
	$(CARGO) deny --locked --log-level error check bans licenses sources
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --workspace

audit: setup-lint
	$(CARGO) deny --locked check

bench: setup
	$(CARGO) build --locked --release --workspace --bins
	@python3 -B scripts/bench.py --seconds $(or $(SECONDS),1.5) $(if $(CHECK),--check)

# Instrumented are our own crates alone; all others are what `build` made.
fuzz: build
	CARGO_PROFILE_DEV_OPT_LEVEL=1 RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/scripts/instrument.sh" \
		$(CARGO) build --locked --workspace --features claviger-fuzz/libfuzzer --bin claviger-libfuzzer
	@target=$$($(TARGET_DIRECTORY)); "$$target/debug/claviger-fuzz" $(or $(SECONDS),30) $(TARGETS)

torture: build
	CLAVIGER_TORTURE=all $(CARGO) nextest run --locked --workspace --profile torture --run-ignored all --no-capture \
		-E 'binary(torture) | binary(crash) | binary(full_disk) | binary(failing_sync) | binary(store_suite)'

setup:
	@scripts/setup.sh

setup-lint:
	@scripts/setup.sh --lint
