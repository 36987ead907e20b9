# `make run` shows Weir at work, `make test` runs all tests; both install what is missing.
# Build results and downloads are kept outside of the checkout, in WEIR_CACHE.

WEIR_CACHE ?= $(HOME)/.cache/weir
export WEIR_CACHE
export CARGO_TARGET_DIR ?= $(WEIR_CACHE)/target
# RocksDB and librdkafka take a quarter of an hour to compile: ccache makes that once.
export PATH := /usr/lib/ccache:$(PATH)
export CCACHE_DIR ?= $(WEIR_CACHE)/ccache
export CCACHE_MAXSIZE ?= 3G

.PHONY: run test build lint bench-nexmark bench-recovery bench-rescale bench-barrier bench-scaling chart-install-test setup

# Built with the features of the whole workspace: `make test` compiles no dependency a second time.
run: setup
	cargo build -q --workspace --bin weir
	$(CARGO_TARGET_DIR)/debug/weir sql --parallelism 2 --result $$([ -t 1 ] && echo table || echo changelog) examples/nexmark/hot_items.sql

# One test at a time: many start clusters and services of their own.
test:
	tools/setup.sh test
	cargo build --workspace --all-targets
	RUST_TEST_THREADS=1 cargo test --workspace --no-fail-fast

build: setup
	cargo build --release --workspace --bin weir
	mkdir -p bin
	cp $(CARGO_TARGET_DIR)/release/weir bin/weir

lint: setup
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check bans licenses sources

# What is measured, and how: docs/benchmarks.md. CHECK=20000 compares the events that both engines generate instead.
bench-nexmark: QUERIES ?= gen,q0,q1,q2,q5,q8,q15,q16,q17
bench-nexmark: ENGINES ?= weir,flink
bench-nexmark: EVENTS ?= 10000000
bench-nexmark: MODE ?= generator
bench-nexmark: OUTPUT ?= bench-nexmark.json
bench-nexmark: build
	tools/setup.sh bench
	cargo build --release --workspace --bin bench-nexmark
	$(CARGO_TARGET_DIR)/release/bench-nexmark --queries $(QUERIES) --engines $(ENGINES) --events $(EVENTS) --mode $(MODE) \
		--output $(OUTPUT) $(if $(CHECK),--check $(CHECK))

# kill -9 of a task manager beside Flink: docs/benchmarks.md. STATE_MB is that of each of three task managers.
bench-recovery: ENGINES ?= weir,flink,flink-tuned
bench-recovery: STATE_MB ?= 200
bench-recovery: KILLS ?= 2
bench-recovery: OUTPUT ?= bench-recovery.json
bench-recovery: build
	tools/setup.sh bench
	cargo build --release --workspace --bin bench-recovery
	$(CARGO_TARGET_DIR)/release/bench-recovery --engines $(ENGINES) --state-mb $(STATE_MB) --kills $(KILLS) --output $(OUTPUT)

# A running job from 2 to 4 subtasks and back, beside Flink: docs/benchmarks.md. STATE_MB is a quarter of the state.
bench-rescale: ENGINES ?= weir,flink-tuned
bench-rescale: STATE_MB ?= 50
bench-rescale: RESCALE ?= 4,2
bench-rescale: OUTPUT ?= bench-rescale.json
bench-rescale: build
	tools/setup.sh bench
	cargo build --release --workspace --bin bench-recovery
	$(CARGO_TARGET_DIR)/release/bench-recovery --engines $(ENGINES) --state-mb $(STATE_MB) --rescale $(RESCALE) --output $(OUTPUT)

# How long a barrier holds an aggregation up, and what a checkpoint uploads when CHANGED of KEYS keys have changed.
bench-barrier: KEYS ?= 10000000
bench-barrier: CHANGED ?= 100000
bench-barrier: BARRIERS ?= 100
bench-barrier: setup
	cargo build --release --workspace --example barrier_pause
	$(CARGO_TARGET_DIR)/release/examples/barrier_pause $(KEYS) $(CHANGED) $(BARRIERS)

# Three job managers and many task managers that run nothing, in one process: docs/scaling.md.
bench-scaling: TASK_MANAGERS ?= 10,100,300,1000
bench-scaling: setup
	cargo build --release --workspace --bin bench-scaling
	ulimit -n 20000 && $(CARGO_TARGET_DIR)/release/bench-scaling --task-managers $(TASK_MANAGERS)

chart-install-test:
	tests/chart-install.sh

setup:
	@tools/setup.sh build
