# Images of the manager, and of the sample application that the demo and the end-to-end tests run.
IMG ?= tenantry.dev/tenantry:dev
HOTSPOT_IMG ?= tenantry.dev/hotspot:dev

CONTAINER_TOOL ?= docker

SHELL = /usr/bin/env bash -o pipefail
.SHELLFLAGS = -ec

# Tools are built once, on first use, outside of the clone. Their versions are pinned under hack/.
once = $(eval $(1) := $(shell $(2)))$(or $($(1)),$(error $(2) failed, see above))
CONTROLPLANE = $(call once,CONTROLPLANE,hack/controlplane.sh | tail -1)
POSTGRES = $(call once,POSTGRES,hack/postgres.sh)
TOOLS = $(call once,TOOLS,hack/tools/build.sh)
CONTROLLER_GEN ?= $(TOOLS)/controller-gen
KUSTOMIZE ?= $(TOOLS)/kustomize
GINKGO ?= $(TOOLS)/ginkgo
GOLANGCI_LINT ?= $(call once,GOLANGCI_LINT_DIR,hack/tools/build.sh golangci-lint)/golangci-lint
KUBECTL ?= $(or $(shell command -v kubectl),$(CONTROLPLANE)/kubectl)

# Packages of the unit and envtest suites. The other suites have targets of their own.
TEST_PACKAGES = $$(go list ./... | grep -v -e /test/e2e -e /test/bench)
# Go modules other than the main one.
MODULES = $(patsubst %/go.mod,%,$(wildcard hack/*/go.mod hack/*/*/go.mod))

.PHONY: all
all: build

##@ General

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*##"; printf "\nUsage:\n  make \033[36m<target>\033[0m\n"} /^[a-zA-Z_0-9-]+:.*?##/ { printf "  \033[36m%-15s\033[0m %s\n", $$1, $$2 } /^##@/ { printf "\n\033[1m%s\033[0m\n", substr($$0, 5) } ' $(MAKEFILE_LIST)

##@ Demo

.PHONY: demo
demo: ## Bring up a real one-node cluster with the operator and show the sample jobs; with KUBECONFIG set, on that cluster.
	KUBECTL="$(KUBECTL)" hack/demo.sh up

.PHONY: demo-down
demo-down: ## Remove the demo.
	KUBECTL="$(KUBECTL)" hack/demo.sh down

##@ Development

# Where generated files go; `verify` points it elsewhere.
OUT ?= .

.PHONY: manifests
manifests: ## Generate the CustomResourceDefinitions and the operator's ClusterRole.
	"$(CONTROLLER_GEN)" crd:generateEmbeddedObjectMeta=true paths=./api/... output:crd:dir=$(OUT)/config/crd/bases
	@# The descriptions of the pod template are half a megabyte: with them the CRD is too large for one request.
	awk -v field=jobTemplate -f hack/tools/trim-descriptions.awk $(OUT)/config/crd/bases/tenantry.dev_tenantjobtemplates.yaml > $(OUT)/config/crd/bases/trimmed
	mv $(OUT)/config/crd/bases/trimmed $(OUT)/config/crd/bases/tenantry.dev_tenantjobtemplates.yaml
	@# The schemas of Kubernetes' own types accept values that Go can't decode. One such object would make every list fail.
	for crd in $(OUT)/config/crd/bases/*.yaml; do awk -f hack/tools/narrow-to-go.awk $$crd > $$crd.new; mv $$crd.new $$crd; done
	"$(CONTROLLER_GEN)" rbac:roleName=tenantry-manager paths=./internal/... paths=./cmd/... output:rbac:dir=$(OUT)/config/rbac

.PHONY: generate
generate: ## Generate the DeepCopy methods.
	"$(CONTROLLER_GEN)" object:headerFile=hack/boilerplate.go.txt paths=./api/v1alpha1 output:object:dir=$(OUT)/api/v1alpha1

.PHONY: verify
verify: ## Fail on stale generated files, untidy modules and unformatted code.
	hack/verify.sh

.PHONY: fmt
fmt: ## Format the code.
	go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: ## Run golangci-lint with the Kubernetes API linter.
	"$(GOLANGCI_LINT)" run
	cd hack/cluster && "$(GOLANGCI_LINT)" run

.PHONY: lint-fix
lint-fix: ## Run golangci-lint and apply its fixes.
	"$(GOLANGCI_LINT)" run --fix
	cd hack/cluster && "$(GOLANGCI_LINT)" run --fix

##@ Test

.PHONY: controlplane
controlplane: ## Build etcd, the control plane, kubectl and kwok into the cache; the last line is their folder.
	@hack/controlplane.sh

.PHONY: postgres
postgres: ## Find a PostgreSQL for the tests, or unpack one into the cache, and print the folder of its programs.
	@hack/postgres.sh

.PHONY: test
test: export KUBEBUILDER_ASSETS ?= $(CONTROLPLANE)
test: export POSTGRES_BIN ?= $(POSTGRES)
test: ## Run the unit and envtest suites.
	@for module in $(MODULES); do \
		if find $$module -name '*_test.go' | grep -q .; then (cd $$module && go test ./...); fi; \
	done
	@# The timeout ends what hangs. A busy machine needs several times as long as an idle one.
	go test -timeout 60m $(TEST_PACKAGES)

.PHONY: test-e2e
test-e2e: ## Run the end-to-end suite on the cluster of KUBECONFIG, or on a local one that is removed afterwards.
	KUBECTL="$(KUBECTL)" hack/test-e2e.sh

.PHONY: bench
bench: export KUBEBUILDER_ASSETS ?= $(CONTROLPLANE)
bench: export POSTGRES_BIN ?= $(POSTGRES)
bench: ## Run the benchmarks.
	go test ./test/bench/... -run '^$$' -bench . -benchtime 1x -timeout 3h

##@ Build

.PHONY: build
build: manifests generate fmt vet ## Build the manager.
	go build -o bin/manager ./cmd

.PHONY: run
run: manifests generate fmt vet ## Run the manager on this machine, against the current cluster.
	go run ./cmd

.PHONY: docker-build
docker-build: ## Build the images of the manager and of the sample application.
	$(CONTAINER_TOOL) build -t $(IMG) .
	$(CONTAINER_TOOL) build -t $(HOTSPOT_IMG) -f examples/hotspot/Dockerfile .

.PHONY: docker-push
docker-push: ## Push the manager's image.
	$(CONTAINER_TOOL) push $(IMG)

.PHONY: build-installer
build-installer: manifests generate ## Write everything that `deploy` applies into dist/install.yaml.
	mkdir -p dist
	$(build-default) > dist/install.yaml

##@ Deployment

# The manifests contain the default image. It is replaced in the output, so that the files do not change.
build-default = "$(KUSTOMIZE)" build config/default | sed 's|image: tenantry.dev/tenantry:dev$$|image: $(IMG)|'

# Server-side, since a CRD is larger than the annotation of client-side apply. Forced, since an upgrade replaces fields that
# others have set.
apply = "$(KUBECTL)" apply --server-side --force-conflicts -f -

# Without the operator or its CRDs nobody removes the finalizers, and deletions hang.
refuse-while-used = @left=$$("$(KUBECTL)" get --all-namespaces --ignore-not-found --output name \
	tenantschedules.tenantry.dev,tenantfanouts.tenantry.dev,tenantjobs.tenantry.dev,tenants.tenantry.dev 2>/dev/null || true); \
	if [ -n "$$left" ]; then \
		printf '%s\n' "$$left" "" "These still exist. Delete them first, while the operator runs:" \
			"  $(KUBECTL) delete tenantschedules,tenantfanouts --all" \
			"  $(KUBECTL) delete tenantjobs --all --all-namespaces" \
			"  $(KUBECTL) delete tenants --all" >&2; exit 1; \
	fi

ignore-not-found ?= false

.PHONY: install
install: manifests ## Install the CRDs into the current cluster.
	"$(KUSTOMIZE)" build config/crd | $(apply)

.PHONY: uninstall
uninstall: ## Remove the CRDs. With ignore-not-found=true, objects that are gone already are no error.
	$(refuse-while-used)
	"$(KUSTOMIZE)" build config/crd | "$(KUBECTL)" delete --ignore-not-found=$(ignore-not-found) -f -

.PHONY: deploy
deploy: manifests ## Deploy the operator with its CRDs and policies into the current cluster.
	$(build-default) | $(apply)

.PHONY: undeploy
undeploy: ## Remove everything that `deploy` applied. With ignore-not-found=true, objects that are gone already are no error.
	$(refuse-while-used)
	$(build-default) | "$(KUBECTL)" delete --ignore-not-found=$(ignore-not-found) -f -
