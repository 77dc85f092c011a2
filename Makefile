# make run    sets the machine up, builds, and shows the daemon at work
# make test   sets the machine up, and runs every test, on both tokens
# make lint   formatting, clippy, licences and sources, documentation
# make man    manual pages into man/ of the target directory
# make audit  security advisories (needs the network)
# make bench  a release build's speed, start time and memory, beside baselines of the
#             same run; make bench SECONDS=5 measures longer, CHECK=1 fails on a missed target

CARGO ?= cargo
# rustup's place, for shells without it, once scripts/setup.sh has put it there.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.PHONY: run test lint audit bench man setup setup-lint build

# The development profile throughout: dependencies are optimised enough to be quick,
# the second command takes the first's work over, and no figure is quoted from it.
build: setup
	$(CARGO) build --locked --workspace --bins

run: build
	@scripts/demo.sh

test: build
	$(CARGO) nextest run --locked --workspace

man: build
	@target=$$($(CARGO) metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'); \
	mkdir -p "$$target/man" && "$$target/debug/claviger" man "$$target/man" && \
	"$$target/debug/clavigerd" man "$$target/man" && echo "read them with: man -l $$target/man/claviger.1"

lint: setup-lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) deny --locked --log-level error check bans licenses sources
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --workspace

audit: setup-lint
	$(CARGO) deny --locked check

SECONDS ?= 1.5

bench: setup
	$(CARGO) build --locked --release --workspace --bins
	@python3 -B scripts/bench.py --seconds $(SECONDS) $(if $(CHECK),--check)

setup:
	@scripts/setup.sh

setup-lint:
	@scripts/setup.sh --lint
