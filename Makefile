# Epimetheus. `make help` lists everything.
.DEFAULT_GOAL := help
CARGO ?= cargo
NPM ?= npm
RUN_FLAGS ?=
FUZZ_SECONDS ?= 60
# What `make test` runs before the Rust tests; empty where it has run already.
TEST_UI ?= test-ui

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

.PHONY: run
run: ui ## Build everything (release, UI included) and start all-in-one on ./data
	$(CARGO) build --release --locked
	./target/release/epimetheus all-in-one $(RUN_FLAGS)

.PHONY: test
test: deps $(TEST_UI) ## Run the whole test suite, installing what it needs
	$(CARGO) test --workspace --locked

.PHONY: test-ui
test-ui: ## Test the web UI, in Chromium too (skipped with words without npm or Chromium)
	CARGO="$(CARGO)" NPM="$(NPM)" scripts/test-ui

.PHONY: deps
deps: ## Install what the tests compare with (Debian's prometheus and friends), where possible
	@scripts/test-deps

.PHONY: ui
ui: ui/dist/index.html ## Build the web UI into ui/dist

ui/dist/index.html: ui/package-lock.json $(shell find ui/src ui/index.html -type f 2>/dev/null)
	cd ui && $(NPM) ci --no-audit --no-fund && $(NPM) run build

.PHONY: check
check: ## Formatting and lints, as CI runs them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: deny
deny: ## Licences, bans and sources of dependencies
	cargo-deny --locked check bans licenses sources

.PHONY: chart-test
chart-test: ## Test the Helm chart (Python; installs what it needs into target/chart-venv)
	@scripts/chart/test
	@scripts/chart/release --dry-run 0.0.0 oci://registry.example.com/charts

.PHONY: bench
bench: ## Micro-benchmarks of the hot rooms
	$(CARGO) bench -p chunk -p block -p tsdb -p promql -p scrape

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZ_SECONDS (needs cargo-fuzz and a nightly toolchain)
	for target in $$($(CARGO) +nightly fuzz list); do \
		$(CARGO) +nightly fuzz run -O -a -s none $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 || exit 1; \
	done

.PHONY: clean
clean: ## Remove what was built
	rm -rf target ui/dist ui/node_modules
