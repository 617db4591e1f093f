# What checks and tests need beside the programs.

LINTERS := bin/tools/staticcheck bin/tools/govulncheck bin/tools/mutants bin/tools/helm
# Only root can run the tests that need a stock cluster and Kubernetes' suite.
TESTED := build addons image bin/tools/helm $(if $(filter 0,$(shell id -u)),stock conformance-build)

bin/tools/staticcheck bin/tools/govulncheck &: tools/go.mod tools/go.sum
	go -C tools build $(STRIPPED) -o ../bin/tools/ tool
	@touch bin/tools/staticcheck bin/tools/govulncheck

bin/tools/helm: tools/helm/go.mod tools/helm/go.sum
	go -C tools/helm build $(STRIPPED) -o ../../bin/tools/ tool
	@touch $@

.PHONY: bin/tools/mutants
bin/tools/mutants:
	@go -C tools build -o ../bin/tools/mutants ./mutants
