# Images: OCI archives of folders below $(OUT)/rootfs, packed by `everynode image build`. The image of one line in the
# tables below is made from ROOTFS with FLAGS.

# The images that every cluster of `everynode up` has, and those that it has only on request.
IMAGES := $(addprefix $(OUT)/runtime/images/,pause.tar busybox.tar busybox-1.36.1.tar ssd-cache-api.tar) $(addprefix $(OUT)/runtime/addons/,coredns.tar local-path-provisioner.tar)
MORE_ADDONS := $(addprefix $(OUT)/runtime/addons/,metrics-server.tar ingress.tar)
CONTROLLER_IMAGE := $(OUT)/images/everynode-controller.tar
CHART := deploy/helm/everynode-controller

$(OUT)/runtime/images/pause.tar: $(OUT)/runtime/.built
$(OUT)/runtime/images/pause.tar: ROOTFS := pause
$(OUT)/runtime/images/pause.tar: FLAGS := --name everynode.local/pause:1 --entrypoint /pause

$(OUT)/runtime/images/busybox.tar: $(OUT)/rootfs/busybox/bin/busybox
$(OUT)/runtime/images/busybox.tar: ROOTFS := busybox
$(OUT)/runtime/images/busybox.tar: FLAGS := --name busybox:1.36 --cmd sh --env PATH=/bin

# The patch release that the walk-through rolls out: the same program under another tag.
$(OUT)/runtime/images/busybox-1.36.1.tar: $(OUT)/rootfs/busybox/bin/busybox
$(OUT)/runtime/images/busybox-1.36.1.tar: ROOTFS := busybox
$(OUT)/runtime/images/busybox-1.36.1.tar: FLAGS := --name busybox:1.36.1 --cmd sh --env PATH=/bin --env BUSYBOX_TAG=1.36.1

$(OUT)/runtime/images/ssd-cache-api.tar: $(OUT)/rootfs/ssd-cache-api/ssd-cache-api
$(OUT)/runtime/images/ssd-cache-api.tar: ROOTFS := ssd-cache-api
$(OUT)/runtime/images/ssd-cache-api.tar: FLAGS := --name everynode.local/ssd-cache-api:1 --entrypoint /ssd-cache-api

# Other projects' programs run as nobody. Their images have the name under which their makers publish them, if there
# is one, so that nodes with a different runtime from ours can pull those.
ADDON_FLAGS := --user 65532:65532 --compression zstd
$(OUT)/runtime/addons/coredns.tar: $(OUT)/rootfs/coredns/coredns
$(OUT)/runtime/addons/coredns.tar: ROOTFS := coredns
$(OUT)/runtime/addons/coredns.tar: FLAGS = $(ADDON_FLAGS) --entrypoint /coredns \
  --name registry.k8s.io/coredns/coredns:$(call version-of,coredns,github.com/coredns/coredns)

$(OUT)/runtime/addons/local-path-provisioner.tar: $(OUT)/rootfs/local-path-provisioner/local-path-provisioner
$(OUT)/runtime/addons/local-path-provisioner.tar: ROOTFS := local-path-provisioner
$(OUT)/runtime/addons/local-path-provisioner.tar: FLAGS = $(ADDON_FLAGS) --env PATH=/ \
  --name everynode.local/local-path-provisioner:$(call version-of,addons,github.com/rancher/local-path-provisioner)

$(OUT)/runtime/addons/metrics-server.tar: $(OUT)/rootfs/metrics-server/metrics-server
$(OUT)/runtime/addons/metrics-server.tar: ROOTFS := metrics-server
$(OUT)/runtime/addons/metrics-server.tar: FLAGS = $(ADDON_FLAGS) --entrypoint /metrics-server \
  --name registry.k8s.io/metrics-server/metrics-server:$(call version-of,addons,sigs.k8s.io/metrics-server)

# It is our own, so its version is in the list of add-ons.
$(OUT)/runtime/addons/ingress.tar: $(OUT)/rootfs/ingress/everynode-ingress internal/addons/addons.go
$(OUT)/runtime/addons/ingress.tar: ROOTFS := ingress
$(OUT)/runtime/addons/ingress.tar: FLAGS = $(ADDON_FLAGS) --entrypoint /everynode-ingress \
  --name everynode.local/ingress:$$(sed -n 's/.*Program: "everynode-ingress", Version: "\([^"]*\)".*/\1/p' internal/addons/addons.go)

# The engine for other clusters. The tag is the one in the manifests in deploy/; the label has the exact version.
$(CONTROLLER_IMAGE): $(OUT)/rootfs/everynode-controller/everynode-controller $(CHART)/Chart.yaml
$(CONTROLLER_IMAGE): ROOTFS := everynode-controller
$(CONTROLLER_IMAGE): FLAGS = --entrypoint /everynode-controller --user 65532:65532 \
  --name everynode.local/everynode-controller:$$(sed -n 's/^appVersion: \([^ ]*\).*/\1/p' $(CHART)/Chart.yaml) \
  --label org.opencontainers.image.title=everynode-controller \
  --label org.opencontainers.image.version=$$(sed -n 's/.*console.Version=\([^ ]*\).*/\1/p' bin/version)

$(OUT)/rootfs/everynode-controller/everynode-controller: $(OUT)/everynode-controller
	@mkdir -p $(@D)
	@ln -f $< $@

# An image is made again when its content changes, or the code that packs it, but not with every change of the
# program.
IMAGE_BUILD = @mkdir -p $(@D); bin/everynode image build $(if $(GOARCH),--arch $(GOARCH))
$(IMAGES) $(MORE_ADDONS) $(CONTROLLER_IMAGE): internal/node/image/build.go | bin/everynode
	$(IMAGE_BUILD) $(OUT)/rootfs/$(ROOTFS) $(FLAGS) --output $@

# The kinds of agents that DaemonSets are for, and what collects their figures. make test runs the light ones. An agent's image has the name in its
# manifest, and its script makes the content.
AGENTS := $(patsubst examples/agents/%/rootfs,%,$(wildcard examples/agents/*/rootfs))
LIGHT_AGENTS := aide device-plugin node-exporter scanlogd
.PHONY: $(AGENTS:%=agent-%)
$(AGENTS:%=agent-%): agent-%: bin/agents/%.tar
AGENT_SOURCES := tools/debian examples/busybox/rootfs examples/agents/go.mod go.mod internal/node/image/build.go
$(foreach agent,$(AGENTS),$(eval bin/agents/$(agent).tar: $(wildcard examples/agents/$(agent)/*.yaml)))
bin/agents/%.tar: examples/agents/%/rootfs $(AGENT_SOURCES) | bin/everynode packages
	@mkdir -p $(@D) bin/rootfs/agents
	examples/agents/$*/rootfs bin/rootfs/agents/$*
	$(IMAGE_BUILD) bin/rootfs/agents/$* --compression zstd --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --output $@ \
	  --name $$(sed -n 's/^ *image: *//p' examples/agents/$*/*.yaml | sort -u)
bin/agents/csi-disk.tar: $(call sources,examples/agents/csi-disk)
bin/agents/flannel.tar: $(wildcard examples/agents/flannel/go.* examples/agents/flannel/cni/go.*)
bin/agents/log-collector.tar: $(addprefix examples/agents/log-collector/,main.go go.mod go.sum)
