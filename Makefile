# What is done with this module, each under a name. CI calls nothing else.

GO ?= go
# Inputs for each fuzz target. Not a time: Go before 1.27 fails at random when
# a time is up (golang/go#75804).
FUZZ ?= 10000x
TIMEOUT ?= 10m

# The linter is built once, which takes two minutes, and kept for all checkouts.
LINT_VERSION := v2.15.0
TOOLS ?= $(shell $(GO) env GOPATH)/bin
LINT := $(TOOLS)/golangci-lint-$(LINT_VERSION)

.DEFAULT_GOAL := help
.PHONY: help all build test race mutants vet lint linter fmt fuzz cross demo tidy ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

all: build vet lint test ## what to run before a commit

build: ## build the command into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/multihost

test: ## run the tests, on every server there is
	$(GO) test ./...

race: ## run the tests with the race detector
	$(GO) test -race -timeout $(TIMEOUT) ./...

mutants: ## take out the code of each safety point and expect its test to fail
	MULTIHOST_MUTANTS=1 $(GO) test -count=1 -timeout $(TIMEOUT) -run '^TestEverySafetyPointIsTested$$' ./internal/turnstile

vet: ## run go vet
	$(GO) vet ./...

lint: linter ## run the linter
	$(LINT) run ./...

linter: $(LINT) ## build the linter

$(LINT):
	GOBIN=$(TOOLS)/new $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(TOOLS)/new/golangci-lint $@

fmt: $(LINT) ## format the code
	$(LINT) fmt ./...

fuzz: ## run each fuzz target with FUZZ inputs
	@set -e; for package in $$($(GO) list ./...); do \
		list=$$($(GO) test -list '^Fuzz' $$package); \
		for target in $$(printf '%s\n' "$$list" | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ) -fuzzminimizetime 10x $$package; \
		done; \
	done

cross: ## build and vet for other systems
	@set -e; for system in windows/amd64 darwin/arm64; do \
		echo "$$system"; \
		export GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0; \
		$(GO) build ./...; \
		$(GO) vet ./...; \
	done

demo: ## run all demos, on REDIS=redis://host:port if given
	$(GO) run ./cmd/multihost demo $(if $(REDIS),--redis $(REDIS))

tidy: ## check that go.mod and go.sum are tidy
	$(GO) mod tidy -diff
	$(GO) mod verify

ci: ## run what CI runs (as root on Debian 12: it installs packages)
	.ci/run
