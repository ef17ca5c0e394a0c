# What is done with this module, each under a name. CI calls nothing else.

GO ?= go
# Inputs for each fuzz target. Not a time: Go before 1.27 fails at random when
# a time is up (golang/go#75804).
FUZZ ?= 10000x
# The same for those that run each input on a server.
FUZZ_SERVER ?= 500x
TIMEOUT ?= 20m
RACE_AT_ONCE ?= 1

# The linter is built once, which takes two minutes, and kept for all checkouts.
LINT_VERSION := v2.15.0
TOOLS ?= $(shell $(GO) env GOPATH)/bin
LINT := $(TOOLS)/golangci-lint-$(LINT_VERSION)

.DEFAULT_GOAL := help
.PHONY: help all build test race mutants crash examples bench bench-check vet lint linter fmt fuzz cross demo images containers tidy ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

all: build vet lint test ## what to run before a commit

build: ## build the command into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/multihost

test: ## run the tests, on every server there is
	$(GO) test ./...

race: ## run the tests with the race detector, RACE_AT_ONCE packages at a time
	$(GO) test -race -p $(RACE_AT_ONCE) -timeout $(TIMEOUT) ./...

mutants: ## take out the code of each safety point and expect its test to fail
	MULTIHOST_MUTANTS=1 $(GO) test -count=1 -timeout $(TIMEOUT) -run '^TestEverySafetyPointIsTested$$' ./internal/turnstile

examples: ## test the examples of the docs, a module of its own
	cd docs/examples && $(GO) mod tidy -diff && $(GO) vet ./... && $(GO) test ./...

bench: ## measure the peers side by side with the locks and semaphores; three minutes
	cd bench && $(GO) run .

bench-check: ## build and vet the bench, and let it run for a moment
	cd bench && $(GO) mod tidy -diff && $(GO) vet ./...
	cd bench && $(GO) run . --only '4 processes x 1 *' --rounds 1 --for 100ms --no-costs >/dev/null

crash: ## kill 200 processes among the consumers of 10,000 items, twice; two minutes
	MULTIHOST_TEST_LONG=1 $(GO) test -count=1 -timeout $(TIMEOUT) -v -run '^TestKilled(Consumers|Getters)' ./redisqueue

long: ## 100,000 cancelled waits and 100,000 leases of 50 ms, a minute without pub/sub; about five minutes
	MULTIHOST_TEST_LONG=1 $(GO) test -count=1 -timeout 1h -v -run '(ACancelThatRacesAGrantLosesNothing|ARenewalThatRacesTheReleaseKeepsNothing|ACancellationThatRacesTheGrant|HandOversGoOnWhileTheServerClosesPubSubConnections)$$$$/^redis-server$$$$' ./redislock ./redissem

vet: ## run go vet
	$(GO) vet ./...

lint: linter ## run the linter
	$(LINT) run --allow-serial-runners ./...
	cd docs/examples && $(LINT) run --allow-serial-runners ./...

linter: $(LINT) ## build the linter

$(LINT):
	GOBIN=$(TOOLS)/new $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(TOOLS)/new/golangci-lint $@

fmt: $(LINT) ## format the code
	$(LINT) fmt ./...

fuzz: ## run each fuzz target with FUZZ inputs
	@set -e; packages=$$($(GO) list ./...); for package in $$packages; do \
		list=$$($(GO) test -list '^Fuzz' $$package); \
		for target in $$(printf '%s\n' "$$list" | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			case $$target in FuzzForeign|FuzzOperations) n=$(FUZZ_SERVER);; *) n=$(FUZZ);; esac; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $$n -fuzzminimizetime 10x $$package; \
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

containers: ## run each demo in containers; PROFILES="tickets traffic" for some
	.ci/containers $(PROFILES)

images: ## build multihost-ci/redis and multihost-ci/golang, where there is no image registry (as root on Debian)
	.ci/images

tidy: ## check that go.mod and go.sum are tidy
	$(GO) mod tidy -diff
	$(GO) mod verify

ci: ## run what CI runs (as root on Debian 12: it installs packages)
	.ci/run
