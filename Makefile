# make help says what there is. Everything that is built lies in bin/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# One set of flags for building, testing and linting, so that they share Go's build cache. Nothing here needs
# cgo: a machine without a C compiler will do, and binaries run on any Linux.
export CGO_ENABLED := 0
export GOFLAGS := $(strip $(filter-out -trimpath -buildvcs=%,$(GOFLAGS)) -trimpath -buildvcs=false)
# Debian leaves these out of an ordinary user's path.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# Directories are among the sources: their times tell of a deleted file.
SOURCES := $(shell find cmd internal \( -type d -o -type f ! -name '*_test.go' \) ! -path '*/testdata*') go.mod go.sum
BENCH_SOURCES := $(shell find bench -type f -name '*.go' ! -name '*_test.go')
RUNTIME_SOURCES := $(shell find runtime \( -type d -o -type f ! -name '*_test.go' \))
CACHE_SOURCES := $(shell find examples/ssd-cache-api \( -type d -o -type f ! -name '*_test.go' \))
RUNTIME_TAGS := no_btrfs,no_zfs,no_devmapper
IMAGES := $(addprefix bin/runtime/images/,pause.tar busybox.tar busybox-1.36.1.tar ssd-cache-api.tar) $(addprefix bin/runtime/addons/,coredns.tar local-path-provisioner.tar)
# Those of add-ons that a cluster has only when it is asked for them.
MORE_ADDONS := bin/runtime/addons/metrics-server.tar
# The kinds of agents that DaemonSets are for. make test runs the light ones.
AGENTS := $(patsubst examples/agents/%/rootfs,%,$(wildcard examples/agents/*/rootfs))
LIGHT_AGENTS := aide device-plugin node-exporter

.PHONY: help
help: ## show this
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

.PHONY: build
build: packages bin/everynode bin/kubectl bin/everynode-controller bin/runtime/.built $(IMAGES) ## install what is missing, build bin/

.PHONY: image
image: bin/images/everynode-controller.tar ## the engine alone as an image for other clusters, an OCI archive

.PHONY: addons
addons: build $(MORE_ADDONS) bin/runtime/addons/registry ## the add-ons that are not on by default, for everynode up --with

.PHONY: agents $(AGENTS:%=agent-%)
agents: $(AGENTS:%=agent-%) ## the images of examples/agents, OCI archives in bin/agents; of one: make agent-NAME
$(AGENTS:%=agent-%): agent-%: bin/agents/%.tar

.PHONY: up
up: build ## build, start three nodes, run the audit agent on them
	@tools/demo

.PHONY: down
down: ## stop what make up started
	@bin/everynode down

# Only root can run the tests that need it.
STOCK := $(if $(filter 0,$(shell id -u)),stock)
CONFORMANCE := $(if $(filter 0,$(shell id -u)),conformance-build)
.PHONY: test
test: build addons image $(LIGHT_AGENTS:%=agent-%) $(STOCK) $(CONFORMANCE) bin/tools/helm test-packages ## every test; those with real nodes need root
	@tools/test

.PHONY: test-long
test-long: build addons image agents $(STOCK) $(CONFORMANCE) bin/tools/helm skew test-packages ## the same, longer and three times over
	@EVERYNODE_LONG=1 tools/test

.PHONY: lint
lint: bin/tools/staticcheck bin/tools/mutants bin/tools/helm ## gofmt, go vet, staticcheck, helm lint, known vulnerabilities, the architecture test
	@unformatted=$$(gofmt -l $$(find . -name '*.go' ! -path './.scratch/*' ! -path './bin/*')); \
	 if [[ -n $$unformatted ]]; then echo "gofmt -w these: $$unformatted" >&2; exit 1; fi
	@go test -vet=off .
	@go vet ./... && go -C runtime vet ./... && go -C coredns vet . && go -C registry vet . && go -C tools vet ./mutants && go -C conformance vet .
	@bin/tools/mutants -check
	@bin/tools/helm lint --quiet --strict $(CHART)
	@ls -d bin/everynode bin/everynode-controller 2> /dev/null | xargs -r tools/vulnerabilities
	@bin/tools/staticcheck ./... && (cd runtime && ../bin/tools/staticcheck ./...) && (cd coredns && ../bin/tools/staticcheck .) && (cd registry && ../bin/tools/staticcheck .) && (cd conformance && ../bin/tools/staticcheck .)

# In a release: EVERYNODE_RELEASE=1 make vulnerabilities.
.PHONY: vulnerabilities
vulnerabilities: bin/tools/govulncheck bin/everynode bin/everynode-controller ## which known vulnerabilities the programs have
	@tools/vulnerabilities bin/everynode bin/everynode-controller

# How many random runs, and from which seed; make prints both. Without SEED each call takes another.
CHECKS ?= 100000
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
.PHONY: prop
prop: ## 100,000 random runs of each property and of the simulator
	@seed=$(SEED); set -x; go test -vet=off -p 2 -timeout 1h ./internal/plan ./internal/sim -rapid.checks=$(CHECKS) -rapid.seed=$$seed

# How long to look for inputs of each kind. What is found is kept in testdata/fuzz, and is part of every test from then on.
FUZZTIME ?= 1m
.PHONY: fuzz
fuzz: ## look for inputs that what reads tokens, snapshots, archives, requests and settings of others cannot take
	@tools/fuzz $(FUZZTIME)

.PHONY: mutants
mutants: bin/tools/mutants ## plant defects in the planner one by one and see that a test notices each
	@bin/tools/mutants

.PHONY: bin/tools/mutants
bin/tools/mutants:
	@go -C tools build -o ../bin/tools/mutants ./mutants

.PHONY: bench bench-large
bench: bin/bench bin/everynode-controller ## measure the engine beside Kubernetes' own controller, 5,000 nodes, 18 to 30 minutes
	@bin/bench

bench-large: bin/bench bin/everynode-controller ## the same with 20,000 nodes, once
	@bin/bench --nodes 20000 --reps 1 --results bench/results/large

.PHONY: failover
failover: ## how long until another engine writes when the leader stops, dies, hangs or is cut off; 15 minutes
	@EVERYNODE_LONG=1 go test -vet=off -count 1 -v -timeout 1h -run '^TestFailover$$' ./internal/compat

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

# What a bare Debian 12 lacks.
.PHONY: packages test-packages
packages:
	@tools/need runc nftables:nft iproute2:ip busybox-static:busybox

test-packages:
	@if [[ $$(id -u) == 0 ]]; then tools/need gcc libc6-dev:/usr/include/stdlib.h openssl; fi

# The version is an input like any other: its file changes only when it does.
.PHONY: version
version:
bin/version: version
	@mkdir -p bin
	@tools/version > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

bin/everynode: $(SOURCES) bin/version
	@tools/compile everynode -ldflags "-s -w $$(cat bin/version)" -o $@ ./cmd/everynode
	@touch $@

bin/everynode-controller: $(SOURCES) bin/version
	@tools/compile everynode-controller -ldflags "-s -w $$(cat bin/version)" -o $@ ./cmd/everynode-controller
	@touch $@

bin/bench: $(SOURCES) $(BENCH_SOURCES) bin/version
	go build -ldflags "-s -w $$(cat bin/version)" -o $@ ./bench
	@touch $@

# API servers of older versions, each built by a module of its own (tools/skew-module). Cold, each takes longer than
# all the rest.
SKEW := $(patsubst internal/compat/skew/%/go.mod,%,$(wildcard internal/compat/skew/*/go.mod))
.PHONY: skew
skew: $(SKEW:%=bin/skew/%/kube-apiserver) ## API servers of older versions, to test against: many minutes

bin/skew/%/kube-apiserver: internal/compat/skew/%/go.mod internal/compat/skew/%/go.sum
	@mkdir -p $(@D)
	version=$$(go -C $(<D) list -m -f '{{.Version}}' k8s.io/kubernetes); minor=$${version#v*.}; base=k8s.io/component-base/version; \
	go -C $(<D) build -o $(CURDIR)/$@ -ldflags "-s -w -X $$base.gitVersion=$$version -X $$base.gitMajor=1 -X $$base.gitMinor=$${minor%%.*}" tool
	@touch $@

# A Kubernetes of nobody's own, to install the engine on: etcd and Kubernetes' programs as they come from their modules,
# kubeadm to make a cluster of them, and ctr to load images into it. kubeadm runs the control plane from images.
STOCK_IMAGES := $(patsubst %,bin/stock/images/%.tar,etcd kube-apiserver kube-controller-manager kube-scheduler)
.PHONY: stock
stock: bin/stock/.built $(STOCK_IMAGES) ## a stock Kubernetes for the tests, bin/stock

bin/stock/.built: go.mod go.sum runtime/go.mod
	@mkdir -p bin/stock
	version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes); minor=$${version#v*.}; base=k8s.io/component-base/version; \
	tools/compile "stock Kubernetes" -o bin/stock/ -ldflags "-s -w -X $$base.gitVersion=$$version -X $$base.gitMajor=1 -X $$base.gitMinor=$${minor%%.*}" tool
	mv bin/stock/server bin/stock/etcd
	go -C runtime build -tags $(RUNTIME_TAGS) -ldflags '-s -w' -o ../bin/stock/ github.com/containerd/containerd/v2/cmd/ctr
	@touch $@

bin/stock/images/%.tar: bin/stock/.built internal/node/build.go | bin/everynode
	@mkdir -p bin/rootfs/$*
	@ln -f bin/stock/$* bin/rootfs/$*/
	$(IMAGE_BUILD) bin/rootfs/$* --env PATH=/ --output $@ \
	  --name everynode.local/$*:$$(go list -m -f '{{.Version}}' k8s.io/kubernetes)

# Kubernetes' own end-to-end tests, run against three nodes of ours. RUN is what the program is told about which:
# make conformance RUN='-sig apps', bin/conformance/conformance run -h.
.PHONY: conformance conformance-build
conformance: conformance-build ## Kubernetes' conformance tests on three nodes of their own; hours
	@bin/conformance/conformance run $(RUN) && bin/conformance/conformance report

conformance-build: build conformance-packages bin/conformance/images/.built

.PHONY: conformance-packages
conformance-packages:
	@tools/need curl bind9-dnsutils:dig netcat-openbsd:nc iproute2:ip

bin/conformance/conformance: $(wildcard conformance/*.go) conformance/notrun.txt conformance/go.mod
	go -C conformance build -ldflags '-s -w' -o ../$@ .
	@touch $@

# The suite, ginkgo to run it, and the programs that its images hold.
bin/conformance/.built: conformance/go.mod conformance/go.sum $(wildcard conformance/suite/*.go)
	@mkdir -p bin/conformance
	version=$$(go -C conformance list -m -f '{{.Version}}' k8s.io/kubernetes); minor=$${version#v*.}; base=k8s.io/component-base/version; \
	go -C conformance test -c -vet=off -o ../bin/conformance/e2e.test \
	  -ldflags "-s -w -X $$base.gitVersion=$$version -X $$base.gitMajor=1 -X $$base.gitMinor=$${minor%%.*}" ./suite
	tools/compile "programs of the conformance tests" -C conformance -ldflags '-s -w' -o ../bin/conformance/ tool
	@touch $@

bin/conformance/images/.built: bin/conformance/conformance bin/conformance/.built conformance/rootfs examples/busybox/rootfs \
		bin/runtime/.built internal/node/build.go | bin/everynode
	conformance/rootfs bin/rootfs/conformance
	bin/conformance/conformance images
	@touch $@

bin/kubectl: | bin/everynode
	ln -sf everynode $@

# containerd, its shim in ours, the CNI plugins and pause. What containerd says it is follows from its module.
bin/runtime/.built: $(RUNTIME_SOURCES)
	@mkdir -p bin/runtime
	version=$$(go -C runtime list -m -f '{{.Version}}' github.com/containerd/containerd/v2); \
	tools/compile containerd -C runtime -tags $(RUNTIME_TAGS) \
	  -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$${version#v}" -o ../bin/runtime/ tool ./containerd-shim-runc-v2
	go -C runtime build -ldflags '-s -w' -o ../bin/rootfs/pause/ ./pause
	@touch $@

# CoreDNS has a module of its own: it and containerd want different versions of what both use.
bin/rootfs/coredns/coredns: $(wildcard coredns/*.go) coredns/go.mod coredns/go.sum
	@tools/compile CoreDNS -C coredns -ldflags '-s -w' -o ../$@ .
	@touch $@

# So has the registry, with the versions that CoreDNS has, so that what both use is compiled once. It is a program, not
# an image: it runs beside the control plane.
bin/runtime/addons/registry: $(wildcard registry/*.go) registry/go.mod registry/go.sum
	@mkdir -p $(@D)
	@tools/compile registry -C registry -ldflags '-s -w' -o ../$@ .
	@touch $@

# Two programs of others, as they come from their modules. The Kubernetes that is in them is the one of our own module,
# whose packages have been compiled already.
bin/rootfs/local-path-provisioner/local-path-provisioner: addons/go.mod addons/go.sum
	@tools/compile local-path-provisioner -C addons -ldflags '-s -w' -o ../$@ github.com/rancher/local-path-provisioner
	@touch $@

bin/rootfs/metrics-server/metrics-server: addons/go.mod addons/go.sum
	version=$$(go -C addons list -m -f '{{.Version}}' sigs.k8s.io/metrics-server); \
	tools/compile metrics-server -C addons -ldflags "-s -w -X k8s.io/client-go/pkg/version.gitVersion=$$version" -o ../$@ sigs.k8s.io/metrics-server/cmd/metrics-server
	@touch $@

bin/rootfs/ssd-cache-api/ssd-cache-api: $(CACHE_SOURCES)
	go build -ldflags '-s -w' -o $@ ./examples/ssd-cache-api
	@touch $@

bin/rootfs/busybox/bin/busybox: examples/busybox/rootfs | packages
	examples/busybox/rootfs bin/rootfs/busybox
	@touch $@

# An image is made anew when what is in it or what packs it changes, not with every change of the program.
IMAGE_BUILD = @mkdir -p $(@D); bin/everynode image build
$(IMAGES) $(MORE_ADDONS): internal/node/build.go | bin/everynode

bin/runtime/images/pause.tar: bin/runtime/.built
	$(IMAGE_BUILD) bin/rootfs/pause --name everynode.local/pause:1 --entrypoint /pause --output $@

# The name is the one in Kubernetes' registry, so that nodes with another runtime than ours can pull that one.
bin/runtime/addons/coredns.tar: bin/rootfs/coredns/coredns
	$(IMAGE_BUILD) bin/rootfs/coredns --entrypoint /coredns --user 65532:65532 --compression zstd --output $@ \
	  --name registry.k8s.io/coredns/coredns:$$(go -C coredns list -m -f '{{.Version}}' github.com/coredns/coredns)

bin/runtime/addons/local-path-provisioner.tar: bin/rootfs/local-path-provisioner/local-path-provisioner
	$(IMAGE_BUILD) bin/rootfs/local-path-provisioner --env PATH=/ --user 65532:65532 --compression zstd --output $@ \
	  --name everynode.local/local-path-provisioner:$$(go -C addons list -m -f '{{.Version}}' github.com/rancher/local-path-provisioner)

bin/runtime/addons/metrics-server.tar: bin/rootfs/metrics-server/metrics-server
	$(IMAGE_BUILD) bin/rootfs/metrics-server --entrypoint /metrics-server --user 65532:65532 --compression zstd --output $@ \
	  --name registry.k8s.io/metrics-server/metrics-server:$$(go -C addons list -m -f '{{.Version}}' sigs.k8s.io/metrics-server)

bin/runtime/images/busybox.tar: bin/rootfs/busybox/bin/busybox
	$(IMAGE_BUILD) bin/rootfs/busybox --name busybox:1.36 --cmd sh --env PATH=/bin --output $@

# The patch release that the article's seventh step rolls out: the same program under another tag.
bin/runtime/images/busybox-1.36.1.tar: bin/rootfs/busybox/bin/busybox
	$(IMAGE_BUILD) bin/rootfs/busybox --name busybox:1.36.1 --cmd sh --env PATH=/bin --env BUSYBOX_TAG=1.36.1 --output $@

bin/runtime/images/ssd-cache-api.tar: bin/rootfs/ssd-cache-api/ssd-cache-api
	$(IMAGE_BUILD) bin/rootfs/ssd-cache-api --name everynode.local/ssd-cache-api:1 --entrypoint /ssd-cache-api --output $@

# An agent's image has the name that its manifest asks for. Its script makes what is in it.
AGENT_SOURCES := tools/debian examples/busybox/rootfs examples/agents/go.mod go.mod internal/node/build.go
bin/agents/%.tar: examples/agents/%/rootfs examples/agents/%/daemonset.yaml $(AGENT_SOURCES) | bin/everynode packages
	@mkdir -p $(@D) bin/rootfs/agents
	examples/agents/$*/rootfs bin/rootfs/agents/$*
	bin/everynode image build bin/rootfs/agents/$* --compression zstd --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --output $@ \
	  --name $$(sed -n 's/^ *image: *//p' examples/agents/$*/daemonset.yaml)
bin/agents/log-collector.tar: $(addprefix examples/agents/log-collector/,main.go go.mod go.sum)

# The engine for clusters of others. The tag is the one that the manifests in deploy/ ask for; what exactly is in it
# says the label.
CHART := deploy/helm/everynode-controller
bin/images/everynode-controller.tar: bin/everynode-controller $(CHART)/Chart.yaml internal/node/build.go | bin/everynode
	@mkdir -p bin/rootfs/everynode-controller
	@ln -f bin/everynode-controller bin/rootfs/everynode-controller/
	$(IMAGE_BUILD) bin/rootfs/everynode-controller --entrypoint /everynode-controller --user 65532:65532 --output $@ \
	  --name everynode.local/everynode-controller:$$(sed -n 's/^appVersion: \([^ ]*\).*/\1/p' $(CHART)/Chart.yaml) \
	  --label org.opencontainers.image.title=everynode-controller \
	  --label org.opencontainers.image.version=$$(sed -n 's/.*cli.version=\([^ ]*\).*/\1/p' bin/version)

bin/tools/helm: tools/helm/go.mod tools/helm/go.sum
	go -C tools/helm build -ldflags '-s -w' -o ../../bin/tools/ tool
	@touch $@

bin/tools/staticcheck bin/tools/govulncheck &: tools/go.mod tools/go.sum
	go -C tools build -ldflags '-s -w' -o ../bin/tools/ tool
	@touch bin/tools/staticcheck bin/tools/govulncheck
