# The commands of README.md and CONTRIBUTING.md. `make` without a target lists them.
#
# They need only Rust, make and a C linker. If no GPU adapter is found, they install
# a software one on Debian and Ubuntu (tools/setup_vulkan.sh).

# Each target looks for the adapter with a program that it builds anyway. A separate
# `cargo build` for `make test` would build wgpu twice, because the tests need more of
# naga's features.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
export PROMPT ?= Once upon a time

# Mesa's window-system code warns on stderr if this is unset.
ifndef XDG_RUNTIME_DIR
export XDG_RUNTIME_DIR := $(abspath $(TARGET_DIR))/xdg
PRIVATE_RUNTIME_DIR := $(XDG_RUNTIME_DIR)
endif

# Mesa's software driver compiles a kernel for a second and runs it in milliseconds. So
# `make test` asks it for the smaller of its vector widths and for no optimization where
# tests compile most kernels. One of them runs again at the other width with optimization,
# and `make test-all` runs everything as users do. Other drivers ignore these variables.
SHORT_COMPILES := LP_NATIVE_VECTOR_WIDTH=128 GALLIVM_PERF=nopt

# The targets store tuned and compiled kernels here, not in the user's cache.
export WGPT_CACHE_DIR ?= $(abspath $(TARGET_DIR))/wgpt-cache

.PHONY: help demo test test-all bench lint setup runtime-dir

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: runtime-dir ## generate text with the embedded model (PROMPT=...)
	$(CARGO) build --release --locked
	tools/ensure_adapter.sh $(TARGET_DIR)/release/wgpt
	$(TARGET_DIR)/release/wgpt generate -p "$$PROMPT"

test: runtime-dir ## the tests
	tests/setup_vulkan.sh
	$(CARGO) test --locked --no-run
	tools/ensure_adapter.sh $(TARGET_DIR)/debug/wgpt
	$(CARGO) test --locked --lib --bins --test api --test engine --test heap --test source --test cli --test eval
	$(SHORT_COMPILES) $(CARGO) test --locked --test inner --test models
	$(CARGO) test --locked --doc
	$(CARGO) test --locked -p wgpt --features demo-model --test api

test-all: runtime-dir ## all tests, optimized, including those that take minutes
	tests/setup_vulkan.sh
	$(CARGO) test --release --locked --no-run
	tools/ensure_adapter.sh $(TARGET_DIR)/release/wgpt
	$(CARGO) test --release --locked -- --include-ignored
	$(CARGO) test --release --locked -p wgpt-eval

bench: runtime-dir ## speed of the demo model and of a random GPT-2 124M
	$(CARGO) build --release --locked
	tools/ensure_adapter.sh $(TARGET_DIR)/release/wgpt
	$(TARGET_DIR)/release/wgpt bench model
	$(TARGET_DIR)/release/wgpt bench model --random gpt2

lint: ## formatting, clippy, rustdoc; typos and shellcheck if installed
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked -p wgpt --lib -- -D warnings
	$(CARGO) clippy --locked -p wgpt-eval --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	@if command -v typos >/dev/null; then typos; else echo "typos is not installed: skipped"; fi
	@if command -v shellcheck >/dev/null; then shellcheck tools/*.sh tests/*.sh examples/*/*.sh .ci/run; \
	else echo "shellcheck is not installed: skipped"; fi

setup: ## install or upgrade the software Vulkan driver (Debian, Ubuntu)
	tools/setup_vulkan.sh

runtime-dir:
ifdef PRIVATE_RUNTIME_DIR
	@mkdir -p -m 700 "$(PRIVATE_RUNTIME_DIR)"
endif
