# What checks and tests need besides the programs.

LINTERS := bin/tools/staticcheck bin/tools/govulncheck bin/tools/mutants bin/tools/helm
# Only root can run the tests that need a stock cluster or Kubernetes' suite.
TESTED := build addons image bin/tools/helm page-packages $(if $(filter 0,$(shell id -u)),stock conformance-build)

bin/tools/staticcheck bin/tools/govulncheck &: tools/go.mod tools/go.sum
	go -C tools build $(STRIPPED) -o ../bin/tools/ tool
	@touch bin/tools/staticcheck bin/tools/govulncheck

bin/tools/helm: tools/helm/go.mod tools/helm/go.sum
	go -C tools/helm build $(STRIPPED) -o ../../bin/tools/ tool
	@touch $@

.PHONY: bin/tools/mutants
bin/tools/mutants:
	@go -C tools build -o ../bin/tools/mutants ./mutants

# The page of everynode ui. The output of make page is kept in git, so that Go alone builds everynode. These packages
# are for changing the page, and for its tests. npm installs them below bin, with the versions of the lock file and
# without running their scripts.
PAGE_PACKAGES := bin/ui/node_modules/.installed
.PHONY: page-packages
page-packages: $(PAGE_PACKAGES)
	@if [[ $$(id -u) == 0 ]]; then tools/need chromium; fi

$(PAGE_PACKAGES): ui/package.json ui/package-lock.json
	@tools/need nodejs:node npm
	@mkdir -p bin/ui
	@cp ui/package.json ui/package-lock.json bin/ui/
	npm ci --prefix bin/ui --ignore-scripts --no-audit --no-fund
	@touch $@

bin/tools/pictures: ui/go.mod ui/go.sum $(wildcard ui/browser/browser.go ui/pictures/*.go)
	go -C ui build -o ../$@ ./pictures
