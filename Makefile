# Each target is one plain command; what takes logic is in tools/ or in the program.
.PHONY: demo test check bench bench-el web screens dist

demo: ## build and start Ballpoint on its embedded default
	@tools/setup demo
	cargo run --release --quiet -- up

test: ## everything that CI checks
	@tools/setup test
	tools/test

check: ## format and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features failpoints -- -D warnings

bench-el: ## extract and load beside psql, dlt, ingestr and sling, printed
	@tools/setup demo
	@tools/bench-peers
	cargo bench --bench el

bench: ## the figures of the README, printed
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
