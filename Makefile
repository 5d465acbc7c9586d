# The logic is Rust; this file only names the commands.
CARGO ?= cargo
PROFILE_DIR = target/debug
LAB = $(PROFILE_DIR)/hawser-lab

.PHONY: build setup demo test bench check chaos soak hostile kill-matrix lab-up lab-down

build:
	$(CARGO) build --workspace --bins

setup: build
	$(LAB) setup

# It gets its packages itself, so that its first line is its own also where that fails.
demo: build
	@$(PROFILE_DIR)/hawser-demo

test: setup
	$(CARGO) test --workspace --no-fail-fast -- --show-output

bench: setup
	$(CARGO) build --release --workspace --bins
	target/release/hawser-bench

# Simulated clusters under faults. SEEDS=n; more options: target/debug/hawser-chaos --help
SEEDS ?= 200
chaos: build
	$(PROFILE_DIR)/hawser-chaos --seeds $(SEEDS)

# One simulated cluster for so many hours, with a fault a minute: does what is kept stay bounded?
HOURS ?= 24
soak:
	$(CARGO) build --release --workspace --bins
	target/release/hawser-chaos --soak $(HOURS)

# Feeds everything that reads hostile input, in place of the second that `make test` takes for each.
SECONDS_EACH ?= 60
hostile:
	HAWSER_HOSTILE_SECONDS=$(SECONDS_EACH) $(CARGO) test --workspace --no-fail-fast hostile

# Kills every process and every node in every phase of every operation; about LABS-th of an hour and a half.
# More options: target/debug/hawser-kill-matrix --help
LABS ?= 1
kill-matrix: setup
	$(PROFILE_DIR)/hawser-kill-matrix --labs $(LABS)

check:
	$(CARGO) fmt --all --check
	rustfmt --edition 2024 --check tests/lab/preload/xstate.rs
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny check bans licenses sources

lab-up: setup
	$(LAB) up

lab-down:
	$(LAB) down
