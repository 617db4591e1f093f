# What people type; make help prints it. How each thing is built is in build/*.mk, and all of it lies in bin/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# One set of flags for building, testing and linting, so that they share Go's build cache. Nothing here needs
# cgo: a machine without a C compiler will do, and binaries run on any Linux. What a debugger reads is left out: it is a
# sixth of the time that a compiler takes, and programs are linked without it.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath -buildvcs=% -gcflags=%,$(GOFLAGS)) -trimpath -buildvcs=false -gcflags=all=-dwarf=false)
# Debian leaves these out of an ordinary user's path.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

include build/programs.mk build/images.mk build/stock.mk build/tools.mk build/dist.mk

.PHONY: help build image addons agents up down check lint test test-long prop emulated releases fuzz mutants vulnerabilities
.PHONY: page docs-pictures bench bench-large bench-page bench-start outages failover conformance stock skew upgrade release-notes dist dist-check clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

# What a cluster is made of, in the order in which it is compiled: the longest first.
.PHONY: cluster
cluster: packages bin/everynode bin/kubectl bin/runtime/.built $(IMAGES)

build: cluster bin/everynode-controller bin/kubectl_complete-everynode bin/everynode-ctl ## install what is missing, build bin/

up: cluster ## build what a cluster is made of, start three nodes, run the audit agent on them
	@tools/demo

down: ## stop what make up started
	@bin/everynode down

check: lint ## the quick gate of each change: lint and the tests that start no servers and no nodes
	@tools/test quick

lint: $(LINTERS) ## gofmt, go vet, staticcheck, helm lint, known vulnerabilities, the architecture test
	@tools/lint

test: $(TESTED) $(LIGHT_AGENTS:%=agent-%) test-packages ## every test; those with real nodes need root
	@tools/test

# TestDist and TestDebianPackage need what there is to download for this machine alone.
test-long: ARCH = $(shell go env GOARCH)
test-long: PLUGINS =
test-long: committed $(TESTED) agents skew test-packages emulator dist-check ## the same, longer and three times over; what there is to download, made twice
	@if [[ $$(id -u) == 0 ]]; then tools/need mmdebstrap; fi
	@EVERYNODE_LONG=1 tools/test

.PHONY: emulator
emulator:
	@if [[ $$(id -u) == 0 ]]; then tools/need qemu-user-static:qemu-aarch64-static; fi

emulated: emulator ## the tests of packages that only compute, as programs of arm64, under qemu's emulator
	@tools/test emulated

prop: ## 100,000 random runs of each property and of the simulator
	@seed=$(SEED); set -x; go test -vet=off -p 2 -timeout 1h ./internal/plan ./internal/rollout ./internal/sim -rapid.checks=$(CHECKS) -rapid.seed=$$seed

page: $(PAGE_PACKAGES) ## the page of everynode ui, from ui/ into internal/ui/page, which is kept in git
	@go test -vet=off ./internal/fleetview -run TestTypesOfThePage -update > /dev/null && go -C ui run .

docs-pictures: page-packages bin/kubectl-everynode bin/tools/pictures ## the pictures of everynode ui in the docs, from the recordings beside them
	@docs/pictures/make bin/tools/pictures bin/kubectl-everynode

releases: ## 1,000,000 simulated runs of releases in waves, with faults; half an hour on 2 cores
	@go test -vet=off -c -o bin/releases.test ./internal/sim && cd internal/sim && seed=$(SEED) all= && set -x && \
	for half in 1 2; do ../../bin/releases.test -test.run '^TestReleases$$' -test.timeout 2h -rapid.checks=500000 -rapid.seed=$$((2 * seed + half)) & all="$$all $$!"; done; \
	for half in $$all; do wait $$half || exit 1; done

fuzz: ## look for inputs that what reads tokens, snapshots, archives, requests and settings of others cannot take
	@tools/fuzz $(FUZZTIME)

mutants: bin/tools/mutants ## plant defects in the planner one by one and see that a test notices each
	@bin/tools/mutants

# In a release: EVERYNODE_RELEASE=1 make vulnerabilities.
vulnerabilities: bin/tools/govulncheck bin/everynode bin/everynode-controller bin/kubectl-everynode ## which known vulnerabilities the programs have
	@tools/vulnerabilities bin/everynode bin/everynode-controller bin/kubectl-everynode

bench: bin/bench bin/everynode-controller ## measure the engine beside Kubernetes' own controller, 5,000 nodes, 18 to 30 minutes
	@bin/bench

bench-large: bin/bench bin/everynode-controller ## the same with 20,000 nodes, once
	@bin/bench --nodes 20000 --reps 1 --results bench/results/large

bench-page: page-packages ## how smoothly the page of everynode ui shows 5,000 nodes that change, in Chromium, half a minute
	@go -C ui test -vet=off -run '^$$' -bench Frames -benchtime 3x -count 1 ./browser

outages: bin/outages bin/everynode-controller ## what a bad release costs, with the engine and with Kubernetes' controller, 1,000 nodes, half an hour
	@bin/outages $(RUN)

bench-start: build ## how long a cluster takes to start and what it costs idle, with add-ons and without; 50 minutes
	@go run ./bench/start $(RUN)

failover: ## how long until another engine writes when the leader stops, dies, hangs or is cut off; 15 minutes
	@EVERYNODE_LONG=1 go test -vet=off -count 1 -v -timeout 1h -run '^TestFailover$$' ./internal/compat

# RUN is what the program is told: make outages RUN='--scenario crash --nodes 100'; make conformance RUN='-sig apps', bin/conformance/conformance run -h.
conformance: conformance-build ## Kubernetes' conformance tests on three nodes of their own; hours
	@bin/conformance/conformance run $(RUN) && bin/conformance/conformance report

image: bin/images/everynode-controller.tar ## the engine alone as an image for other clusters, an OCI archive

addons: build $(MORE_ADDONS) bin/runtime/addons/registry ## the add-ons that are not on by default, for everynode up --with

agents: $(AGENTS:%=agent-%) ## the images of examples/agents, OCI archives in bin/agents; of one: make agent-NAME

stock: bin/stock/.built $(STOCK_IMAGES) ## a stock Kubernetes for the tests, bin/stock

skew: $(SKEW:%=bin/skew/%/kube-apiserver) ## API servers and controller managers of older versions, to test against: many minutes

upgrade: build ## change versions in the middle of releases: from PREVIOUS, the last tag or what you name, to this one and back
	@tools/previous "$(PREVIOUS)"
	EVERYNODE_PREVIOUS=$(CURDIR)/bin/previous go test -vet=off -count 1 -timeout 20m -run '^TestUpgrade$$' ./internal/compat
	EVERYNODE_PREVIOUS=$(CURDIR)/bin/previous EVERYNODE_BIN=$(CURDIR)/bin go test -vet=off -count 1 -timeout 20m -run '^TestScripts$$/^upgrade$$' ./e2e

release-notes: ## what has changed since the last tag; with VERSION=v1.2.3, write it into CHANGELOG.md
	@go -C tools run ./release-notes -C .. $(VERSION)

dist: dist-parts ## what there is to download, in bin/dist: archives, Debian packages, images; many minutes; make dist ARCH=amd64 PLUGINS= for a part

dist-check: committed dist ## build it once more, from a clone and with another umask, and compare: the same commit gives the same bytes
	@rm -rf bin/dist-check && umask 077 && git clone --quiet --shared . bin/dist-check
	@umask 077 && TZ=Asia/Tokyo LC_ALL=C.UTF-8 $(MAKE) --no-print-directory -C bin/dist-check dist ARCH="$(ARCH)" PLUGINS="$(PLUGINS)"
	@diff -r bin/dist bin/dist-check/bin/dist && rm -rf bin/dist-check && echo "bin/dist is the same, byte for byte"

clean: ## remove what was built
	rm -rf bin

# How many random runs, and from which seed; make prints both. Without SEED each call takes another.
CHECKS ?= 100000
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
# The version to upgrade from: the last tag. As long as there is none, the commit that could be upgraded from first.
PREVIOUS ?= $(shell git describe --tags --abbrev=0 2> /dev/null || echo 8d9d866903a3f70c5304e8aca9082f4aa7c31d1a)
# How long to look for inputs of each kind. What is found is kept in testdata/fuzz, and is part of every test from then on.
FUZZTIME ?= 1m
