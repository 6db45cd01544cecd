# Each target is one plain command; what takes logic is in tools/ or in the program.
.PHONY: demo test soak check bench bench-agents bench-dbt dbt-functional bench-el bench-metrics fuzz-metrics web screens dist

demo: ## build and start Ballpoint on its embedded default
	@tools/setup demo
	cargo run --release --quiet -- up

test: ## everything that CI checks
	@tools/setup test
	tools/test

check: ## format and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features failpoints -- -D warnings

soak: ## 200 seeded runs of kill -9 under change data capture
	BALLPOINT_SOAK_RUNS=200 cargo test -p ballpoint-loader --test soak

bench-el: ## extract and load beside psql, dlt, ingestr and sling, printed
	@tools/setup demo
	@tools/bench-peers
	cargo bench --bench el
	cargo bench -p ballpoint-loader --bench changes

bench-dbt: ## transformation beside dbt-core and psql, printed
	@tools/setup test
	BALLPOINT_DBT_VENV="$${BALLPOINT_DBT_VENV:-$${XDG_CACHE_HOME:-$$HOME/.cache}/ballpoint/dbt-venv}" cargo bench --bench dbt

dbt-functional: ## dbt-postgres' own functional tests through our binary; ADAPTERS=a checkout of dbt-labs/dbt-adapters
	cargo build -p ballpoint-transformer --example dbt
	DBT_BIN="$${CARGO_TARGET_DIR:-$(CURDIR)/target}/debug/examples/dbt" tools/dbt-functional "$(ADAPTERS)"

bench-metrics: ## the metrics' figures beside an axum echo, printed
	@tools/setup bench-metrics
	cargo bench --bench metrics

fuzz-metrics: ## 10,000 random queries against an evaluation of their own, and 10,000 malformed ones
	BALLPOINT_FUZZ=10000 BALLPOINT_FUZZ_CASES=10000 cargo test --release -p ballpoint-metrics --test main -- --nocapture fuzz:: malformed::

bench-agents: ## docs/agents-benchmark.md: the questions with and without agents, and how fast they are answered
	@tools/setup demo
	cargo bench --bench agents | tee docs/agents-benchmark.md

bench: ## the first table of docs/figures.md, printed
	cargo bench --bench spine

web: ## build the page into web/dist, which is committed
	@tools/setup web
	npm --prefix web/app ci
	npm --prefix web/app run build

screens: ## the pictures of the README
	@tools/setup test
	cargo build --features failpoints
	npm --prefix tests/browser ci
	npm --prefix tests/browser run screens

dist: ## one release binary with the example inside, tried in an empty folder
	@tools/setup demo
	tools/dist
