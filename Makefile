# Gatepost. `make` alone prints what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ARGS     ?=
FUZZTIME ?= 10s
export FUZZTIME

.PHONY: help
help: ## this list
	@echo "make TARGET"; echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo "Servers for tests by hand: deploy/servers/up.sh, then . .cache/servers/default/env"

.PHONY: run
run: build ## build, start the platform in one process, play the demo, leave it up (ARGS: flags of gatepost standalone)
	@./deploy/run.sh $(ARGS)

.PHONY: build
build: ## bin/gatepost, with a counter while it compiles
	@mkdir -p bin && ./deploy/build.sh -o bin/gatepost ./cmd/gatepost

.PHONY: test
test: ## everything: installs and starts the servers it needs, prints a table at the end (about 15 minutes cold)
	@./test/run.sh

.PHONY: check
check: ## gofmt, vet, staticcheck, idl diff, then unit tests with -race and the import arrows
	@./test/run.sh check unit

.PHONY: test-unit
test-unit: ## unit tests with -race and the import arrows; needs nothing
	@./test/run.sh unit

.PHONY: test-contract
test-contract: ## contract suites over real MariaDB, Redis, Redis Cluster, Kafka
	@./test/run.sh contract

.PHONY: test-e2e-standalone
test-e2e-standalone: ## the end-to-end suite on one process
	@./test/run.sh e2e-standalone

.PHONY: test-e2e-cluster
test-e2e-cluster: ## the same suite on a cluster of processes
	@./test/run.sh e2e-cluster

.PHONY: test-fault
test-fault: ## the suite of faults: kill -9, cuts, stalls
	@./test/run.sh fault

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s)
	@./test/run.sh fuzz

.PHONY: bench
bench: build ## all benches on real servers, RUNS (3) times, about 40 minutes; a page with pictures in docs/bench (ARGS: cases of deploy/bench.sh)
	@./deploy/bench.sh $(ARGS)

.PHONY: audit
audit: build ## a cluster under faults on servers of its own, and the oracle's verdict: 60 s (ARGS: flags of gatepost audit)
	@./deploy/audit.sh $(ARGS)

.PHONY: idl
idl: ## regenerate idl/gen from the .proto files, offline
	@idl/generate.sh

.PHONY: idl-check
idl-check: ## fail when idl/gen is not what the .proto files give
	@rm -rf .cache/idl && mkdir -p .cache/idl/idl
	@cp go.mod go.sum .cache/idl/ && cp idl/*.proto .cache/idl/idl/
	@idl/generate.sh .cache/idl 2>.cache/idl/log || { cat .cache/idl/log; exit 1; }
	@diff -r .cache/idl/idl/gen idl/gen || { echo "idl/gen differs from the .proto files: make idl"; exit 1; }
	@rm -rf .cache/idl

.PHONY: arrows
arrows: ## which room imports which, as a Mermaid picture
	@go test -count=1 -run TestPicture -v ./test/archtest | sed -n '/^ *flowchart/,/^---/p' | sed '/^---/d; s/^        //'

.PHONY: clean
clean: ## stop servers that deploy/servers started here, remove bin and .cache (data stays)
	@for dir in .cache/servers/*/; do [[ ! -d $$dir ]] || ./deploy/servers/down.sh --dir "$$dir"; done
	@rm -rf bin .cache
