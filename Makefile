# The two commands: `make demo` plays, `make test` checks. Everything else is a part of one of them.
#
# All cargo steps share target/ and the dev profile. Clippy and rustdoc need only metadata, which
# cargo keeps apart from code: a dependency is checked once for both, and compiled once for the rest.

.DEFAULT_GOAL := help
# The steps are ordered, and cargo and pip use the cores by themselves.
.NOTPARALLEL:

CARGO ?= cargo
# More flags for the command that the target runs, as in `make demo DEMO_ARGS="--port 9000"`.
DEMO_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ_ARGS ?=
AUTOBAHN_ARGS ?=
TEST_ARGS ?=
PYTEST_ARGS ?=

STARTED := $(shell date +%s)
STEP := .ci/step
NATS_SERVER := $(CURDIR)/.tools/bin/nats-server
WEED := $(CURDIR)/.venv/bin/weed
TABLECAST := $(CURDIR)/target/debug/tablecast

# Where the Rust tests find the servers that they start: NATS, and two S3 stores by other authors.
export TABLECAST_TEST_NATS_SERVER := $(NATS_SERVER)
export TABLECAST_TEST_WEED := $(WEED)
export TABLECAST_TEST_MOTO := $(CURDIR)/.venv/bin/moto_server

.PHONY: help demo test tools compiler linters nats-server venv chromium cargo-deny
.PHONY: build fmt lint unit doc deny advisories e2e fuzz autobahn bench bench-load bench-recovery
.PHONY: bench-fanout bench-room bench-stall bench-idle bench-storm bench-echo chaos clean

help: ## list the targets
	@echo 'Tablecast. make TARGET, where TARGET is one of:'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile

demo: compiler nats-server ## build, then play games with bots until Ctrl-C (DEMO_ARGS)
	@$(STEP) 'cargo build' $(CARGO) build --locked
	@exec $(TABLECAST) dev --nats-server $(NATS_SERVER) $(DEMO_ARGS)

test: tools lint unit doc deny e2e ## every check, as CI runs them
	@echo "make test: everything passed in $$(($$(date +%s) - $(STARTED))) s"

tools: linters nats-server venv chromium cargo-deny ## get what the tests need, once

compiler:
	@.ci/compiler

linters:
	@.ci/compiler fmt clippy

nats-server:
	@$(STEP) nats-server .ci/nats-server

venv:
	@$(STEP) 'Python packages' .ci/venv

chromium: venv
	@$(STEP) Chromium .ci/chromium

cargo-deny: compiler
	@$(STEP) cargo-deny .ci/cargo-deny

build: compiler ## compile the binary: target/debug/tablecast
	@$(STEP) 'cargo build' $(CARGO) build --locked

fmt: linters ## format the Rust code
	$(CARGO) fmt

lint: linters ## check the format, run clippy
	@$(STEP) 'cargo fmt' $(CARGO) fmt --check
	@$(STEP) 'cargo clippy' $(CARGO) clippy --all-targets --locked -- -D warnings

unit: compiler nats-server venv ## run the Rust tests (TEST_ARGS)
	@$(STEP) 'cargo test' $(CARGO) test --locked $(TEST_ARGS)

doc: compiler ## build the documentation: target/doc/tablecast/index.html
	@RUSTDOCFLAGS='-D warnings' $(STEP) 'cargo doc' $(CARGO) doc --no-deps --locked

deny: cargo-deny ## check licences, bans and sources of the dependencies
	@$(STEP) 'cargo deny' .tools/bin/cargo-deny --locked check licenses bans sources

advisories: cargo-deny ## check the dependencies against the RustSec database (fetches it)
	@$(STEP) 'cargo deny advisories' .tools/bin/cargo-deny --locked check advisories

e2e: compiler nats-server venv chromium ## run the end-to-end tests (PYTEST_ARGS)
	@$(STEP) 'cargo build' $(CARGO) build --locked
	@NATS_SERVER=$(NATS_SERVER) WEED=$(WEED) TABLECAST=$(TABLECAST) CHROMIUM=$$(cat .tools/chromium-path) \
	  PYTHONPYCACHEPREFIX=$(CURDIR)/.venv/pycache $(STEP) 'end-to-end tests' .venv/bin/python -m pytest \
	  -o cache_dir=$(CURDIR)/.venv/pytest-cache --timeout 600 tests/e2e $(PYTEST_ARGS)

fuzz: compiler ## fuzz what strangers send: each target FUZZ_SECONDS long (60), or those in FUZZ_ARGS
	@$(STEP) fuzz .ci/fuzz $(FUZZ_SECONDS) $(FUZZ_ARGS)

autobahn: compiler ## run the Autobahn test suite against our WebSocket layer; needs Python 2 (AUTOBAHN_ARGS)
	@$(STEP) 'Autobahn test suite' .ci/autobahn $(AUTOBAHN_ARGS)

bench: compiler nats-server ## measure a command's way beside its bare hops (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@target/release/tablecast bench commands --nats-server $(NATS_SERVER) $(BENCH_ARGS)

chaos: compiler nats-server ## kill everything at random and check every history (CHAOS_ARGS)
	@$(CARGO) test --locked --test chaos -- --duration 5m --tables 40 $(CHAOS_ARGS)

bench-load: compiler nats-server ## measure how a long table comes into memory (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@target/release/tablecast bench load --nats-server $(NATS_SERVER) $(BENCH_ARGS)

bench-recovery: compiler nats-server ## measure the kill of a worker with many tables (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@target/release/tablecast --log warn bench recovery --nats-server $(NATS_SERVER) $(BENCH_ARGS)

# Each beside nats-server's WebSocket listener, three times: docs/benchmarks.md.
RELEASE := $(CURDIR)/target/release/tablecast
PEERS := --nats-server $(NATS_SERVER) --peer nats-ws

bench-fanout: compiler nats-server ## measure 500 tables of 4 spectators at rising rates (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@$(RELEASE) bench fanout $(PEERS) --tables 500 --viewers 4 $(BENCH_ARGS)

bench-room: compiler nats-server ## measure one table of 1,000 spectators at rising rates (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@$(RELEASE) bench fanout $(PEERS) --tables 1 --viewers 1000 $(BENCH_ARGS)

bench-stall: compiler nats-server ## measure what one of 1,000 spectators costs that reads nothing (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@$(RELEASE) bench fanout $(PEERS) --tables 1 --viewers 1000 --stall 1 --rates 200 --seconds 10 $(BENCH_ARGS)

bench-idle: compiler nats-server ## measure the memory of 10,000 idle connections (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@$(RELEASE) bench idle $(PEERS) $(BENCH_ARGS)

bench-storm: compiler nats-server ## measure the return of 5,000 clients that were cut off (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@$(RELEASE) bench storm $(PEERS) $(BENCH_ARGS)

bench-echo: compiler nats-server ## measure questions and answers of 200 connections (BENCH_ARGS)
	@$(STEP) 'cargo build --release' $(CARGO) build --release --locked
	@$(RELEASE) bench echo $(PEERS) $(BENCH_ARGS)

clean: ## remove what was built or fetched (target, .tools, .venv); data stays
	rm -rf target .tools .venv
