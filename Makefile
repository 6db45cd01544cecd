# Each target is one plain command; what takes logic is in tools/ or in the program.
.PHONY: demo test check bench setup setup-demo fmt

demo: ## build and start Ballpoint on its embedded default
	@tools/setup demo
	cargo run --release --quiet -- up

test: ## everything that CI checks
	@tools/setup test
	tools/test

check: ## format and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features failpoints -- -D warnings

bench: ## the figures of the README, printed
	cargo bench --bench spine
