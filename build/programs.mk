# Programs, each from the module that has it. A rule that compiles for minutes prints its progress (tools/compile).

# Where to put programs and images. make dist has a folder for each system that it builds for.
OUT := bin

# Directories are among the sources: their times change when a file is deleted.
sources = $(shell find $(1) \( -type d -o -type f ! -name '*_test.go' \) ! -path '*/testdata*')
SOURCES := $(call sources,cmd internal) go.mod go.sum
RUNTIME_TAGS := no_btrfs,no_zfs,no_devmapper
# $(call version-of,DIR,MODULE) is the version of a module in the go.mod in DIR.
version-of = $$(go -C $(1) list -m -f '{{.Version}}' $(2))
# The linker flags: of every program, without symbols; and of ours, with the version.
STRIPPED := -ldflags '-s -w'
VERSIONED = -ldflags "-s -w $$(cat bin/version)"

# Packages that a new Debian 12 lacks.
.PHONY: packages test-packages
packages:
	@tools/need runc nftables:nft netbase:/etc/protocols iproute2:ip busybox-static:busybox

test-packages:
	@if [[ $$(id -u) == 0 ]]; then tools/need gcc libc6-dev:/usr/include/stdlib.h openssl; fi

# The version is an input like any other: its file changes only if the version does.
.PHONY: version
version:
bin/version: version
	@mkdir -p bin
	@tools/version > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(OUT)/everynode $(OUT)/everynode-controller $(OUT)/kubectl-everynode: $(OUT)/%: $(SOURCES) bin/version
	@tools/compile $* $(VERSIONED) -o $@ ./cmd/$*
	@touch $@

bin/bench: $(SOURCES) $(shell find bench -type f -name '*.go' ! -name '*_test.go' ! -path 'bench/outages/*') bin/version
	go build $(VERSIONED) -o $@ ./bench
	@touch $@

bin/outages: $(SOURCES) $(shell find bench/outages bench/testbed deploy -type f -name '*.go' ! -name '*_test.go') $(wildcard deploy/helm/everynode-controller/definitions/*.yaml) bin/version
	go build $(VERSIONED) -o $@ ./bench/outages
	@touch $@

bin/kubectl: | bin/everynode
	ln -sf everynode $@

# The plugin under its other names (internal/cli/plugin).
bin/kubectl_complete-everynode bin/everynode-ctl: | bin/kubectl-everynode
	ln -sf kubectl-everynode $@

# containerd, its shim in our build, the CNI plugins, the first process of nodes, and pause. containerd reports its
# module's version.
$(OUT)/runtime/.built: $(call sources,runtime)
	@mkdir -p $(OUT)/runtime
	version=$(call version-of,runtime,github.com/containerd/containerd/v2); \
	tools/compile containerd -C runtime -tags $(RUNTIME_TAGS) \
	  -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$${version#v}" -o ../$(OUT)/runtime/ tool ./containerd-shim-runc-v2
	go -C runtime build $(STRIPPED) -o ../$(OUT)/runtime/ ./node-init
	go -C runtime build $(STRIPPED) -o ../$(OUT)/rootfs/pause/ ./pause
	@touch $@

# CoreDNS has a module of its own: it and containerd need different versions of the same modules.
$(OUT)/rootfs/coredns/coredns: $(wildcard coredns/*.go) coredns/go.mod coredns/go.sum
	@tools/compile CoreDNS -C coredns $(STRIPPED) -o ../$@ .
	@touch $@

# So has the registry, with CoreDNS's versions, so that common packages are compiled only once. It is a program, not
# an image: it runs beside the control plane.
$(OUT)/runtime/addons/registry: $(wildcard registry/*.go) registry/go.mod registry/go.sum
	@mkdir -p $(@D)
	@tools/compile registry -C registry $(STRIPPED) -o ../$@ .
	@touch $@

# Two other projects' programs, unchanged from their modules. They contain the Kubernetes of our own module, whose
# packages have been compiled already.
$(OUT)/rootfs/local-path-provisioner/local-path-provisioner: addons/go.mod addons/go.sum
	@tools/compile local-path-provisioner -C addons $(STRIPPED) -o ../$@ github.com/rancher/local-path-provisioner
	@touch $@

$(OUT)/rootfs/metrics-server/metrics-server: addons/go.mod addons/go.sum
	version=$(call version-of,addons,sigs.k8s.io/metrics-server); \
	tools/compile metrics-server -C addons -ldflags "-s -w -X k8s.io/client-go/pkg/version.gitVersion=$$version" -o ../$@ sigs.k8s.io/metrics-server/cmd/metrics-server
	@touch $@

$(OUT)/rootfs/ingress/everynode-ingress: $(call sources,internal/ingress cmd/everynode-ingress) go.mod go.sum
	go build $(STRIPPED) -o $@ ./cmd/everynode-ingress
	@touch $@

$(OUT)/rootfs/ssd-cache-api/ssd-cache-api: $(call sources,examples/ssd-cache-api)
	go build $(STRIPPED) -o $@ ./examples/ssd-cache-api
	@touch $@

# Debian has the same busybox for all architectures, so this machine's busybox tells which commands it has.
$(OUT)/rootfs/busybox/bin/busybox: examples/busybox/rootfs | packages
	examples/busybox/rootfs $(OUT)/rootfs/busybox
	$(if $(GOARCH),DEBIAN_ARCH=$(GOARCH) tools/debian $(OUT)/debian busybox-static && install -m 0755 $(OUT)/debian/bin/busybox $@)
	@touch $@
