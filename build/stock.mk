# Kubernetes' own programs, unchanged, for tests. tools/kubernetes-flags sets their version.

# API servers and controller managers of older versions, each pair built by its own module (tools/skew-module).
# Without a cache each takes longer than everything else.
SKEW := $(patsubst internal/compat/skew/%/go.mod,%,$(wildcard internal/compat/skew/*/go.mod))
bin/skew/%/kube-apiserver: internal/compat/skew/%/go.mod internal/compat/skew/%/go.sum
	@mkdir -p $(@D)
	go -C $(<D) build -o $(CURDIR)/$(@D)/ -ldflags "-s -w $$(tools/kubernetes-flags $(<D))" tool
	@touch $@

# A plain Kubernetes to install the engine on: etcd and Kubernetes' programs unchanged from their modules, kubeadm to
# make a cluster of them, and ctr to load images into it. kubeadm runs the control plane from images.
STOCK_IMAGES := $(patsubst %,bin/stock/images/%.tar,etcd kube-apiserver kube-controller-manager kube-scheduler)
bin/stock/.built: go.mod go.sum runtime/go.mod
	@mkdir -p bin/stock
	tools/compile "stock Kubernetes" -o bin/stock/ -ldflags "-s -w $$(tools/kubernetes-flags .)" tool
	mv bin/stock/server bin/stock/etcd
	go -C runtime build -tags $(RUNTIME_TAGS) $(STRIPPED) -o ../bin/stock/ github.com/containerd/containerd/v2/cmd/ctr
	@touch $@

bin/stock/images/%.tar: bin/stock/.built internal/node/image/build.go | bin/everynode
	@mkdir -p bin/rootfs/$*
	@ln -f bin/stock/$* bin/rootfs/$*/
	$(IMAGE_BUILD) bin/rootfs/$* --env PATH=/ --output $@ --name everynode.local/$*:$(call version-of,.,k8s.io/kubernetes)

# Kubernetes' own end-to-end tests, run against three of our nodes: the suite, ginkgo to run it, and the programs in
# its images.
.PHONY: conformance-build conformance-packages
conformance-build: build conformance-packages bin/conformance/images/.built

conformance-packages:
	@tools/need curl bind9-dnsutils:dig netcat-openbsd:nc iproute2:ip

bin/conformance/conformance: $(wildcard conformance/*.go) conformance/notrun.txt conformance/go.mod
	go -C conformance build $(STRIPPED) -o ../$@ .
	@touch $@

bin/conformance/.built: conformance/go.mod conformance/go.sum $(wildcard conformance/suite/*.go)
	@mkdir -p bin/conformance
	go -C conformance test -c -vet=off -o ../bin/conformance/e2e.test -ldflags "-s -w $$(tools/kubernetes-flags conformance)" ./suite
	tools/compile "programs of the conformance tests" -C conformance $(STRIPPED) -o ../bin/conformance/ tool
	@touch $@

bin/conformance/images/.built: bin/conformance/conformance bin/conformance/.built conformance/rootfs examples/busybox/rootfs \
		bin/runtime/.built internal/node/image/build.go | bin/everynode
	conformance/rootfs bin/rootfs/conformance
	bin/conformance/conformance images
	@touch $@
