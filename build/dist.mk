# Downloads, in bin/dist. One commit always gives the same bytes, which make dist-check proves.

# The Linux architectures, and the other systems for the plugin. make dist ARCH=amd64 PLUGINS= makes only a part.
ARCH ?= amd64 arm64
PLUGINS ?= darwin-amd64 darwin-arm64 windows-amd64 windows-arm64
# The folder with a folder for each version, for krew's manifest: where that will be is not decided yet.
DIST_URL ?= https://downloads.example.org/everynode

DIST_TOOLS := bin/tools/nfpm bin/tools/cyclonedx-gomod
$(DIST_TOOLS) &: tools/dist/go.mod tools/dist/go.sum
	go -C tools/dist build $(STRIPPED) -o ../../bin/tools/ tool
	@touch $(DIST_TOOLS)

# make calls itself with this target once for each system, with OUT, GOOS and GOARCH.
.PHONY: dist-programs
dist-programs: $(OUT)/everynode $(OUT)/kubectl-everynode $(OUT)/runtime/.built $(IMAGES) $(CONTROLLER_IMAGE)

# Pages and completions are the same for all systems.
bin/manual/.made: $(SOURCES) $(call sources,build/manual) bin/version
	@rm -rf $(@D)
	@tools/compile "manual pages" $(VERSIONED) -o bin/tools/manual ./build/manual
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2> /dev/null || echo 0) EVERYNODE_DATA_DIR=/var/lib/everynode bin/tools/manual $(@D)
	@touch $@

# It fails where the packages would get the wrong version, before anything is compiled.
.PHONY: dist-version
dist-version:
	@tools/version --package > /dev/null

# The modes of files are part of the packages, and must not depend on who makes them.
.PHONY: dist-parts
dist-parts: dist-version packages $(DIST_TOOLS) bin/everynode bin/manual/.made
	@umask 022; for arch in $(ARCH); do \
	  $(MAKE) --no-print-directory OUT=bin/stage/linux-$$arch GOOS=linux GOARCH=$$arch dist-programs; done
	@umask 022; for system in $(PLUGINS); do export GOOS=$${system%-*} GOARCH=$${system#*-}; \
	  $(MAKE) --no-print-directory OUT=bin/stage/$$system bin/stage/$$system/kubectl-everynode; done
	@DIST_URL=$(DIST_URL) tools/package bin/dist "$(ARCH)" "$(PLUGINS)"

# make dist-check compares with a clone.
.PHONY: committed
committed:
	@if [[ -n $$(git status --porcelain) ]]; then \
	  git status --short; echo "These changes are not committed, and make dist-check compares with a clone, which has only what is: commit them first" >&2; exit 1; fi
