# Image of the manager, and of the sample application that the demo and the end-to-end tests run.
IMG ?= tenantry.dev/tenantry:dev
HOTSPOT_IMG ?= tenantry.dev/hotspot:dev

CONTAINER_TOOL ?= docker

SHELL = /usr/bin/env bash -o pipefail
.SHELLFLAGS = -ec

# Tools are built once, outside of the clone, from versions that are pinned under hack/. Each is built on first use.
once = $(eval $(1) := $(shell $(2)))$(or $($(1)),$(error $(2) failed, see above))
CONTROLPLANE = $(call once,CONTROLPLANE,hack/controlplane.sh | tail -1)
TOOLS = $(call once,TOOLS,hack/tools/build.sh)
CONTROLLER_GEN ?= $(TOOLS)/controller-gen
KUSTOMIZE ?= $(TOOLS)/kustomize
GINKGO ?= $(TOOLS)/ginkgo
GOLANGCI_LINT ?= $(call once,GOLANGCI_LINT_DIR,hack/tools/build.sh golangci-lint)/golangci-lint
KUBECTL ?= $(or $(shell command -v kubectl),$(CONTROLPLANE)/kubectl)

# Unit and envtest suites; the others have targets of their own.
TEST_PACKAGES = $$(go list ./... | grep -v -e /test/e2e -e /test/bench)
# Go modules beside the main one.
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
demo-down: ## Take the demo away.
	KUBECTL="$(KUBECTL)" hack/demo.sh down

##@ Development

# Where generated files go; `verify` points it elsewhere.
OUT ?= .

.PHONY: manifests
manifests: ## Generate the CustomResourceDefinitions and the operator's ClusterRole.
	"$(CONTROLLER_GEN)" crd:generateEmbeddedObjectMeta=true paths=./api/... output:crd:dir=$(OUT)/config/crd/bases
	@# The pod template's descriptions alone are half a megabyte: more than fits beside the object in one request.
	awk -v field=jobTemplate -f hack/tools/trim-descriptions.awk $(OUT)/config/crd/bases/tenantry.dev_tenantjobtemplates.yaml > $(OUT)/config/crd/bases/trimmed
	mv $(OUT)/config/crd/bases/trimmed $(OUT)/config/crd/bases/tenantry.dev_tenantjobtemplates.yaml
	@# Kubernetes' own types accept in the schema what Go can't read, and one such object would block every list.
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

.PHONY: test
test: export KUBEBUILDER_ASSETS ?= $(CONTROLPLANE)
test: ## Run the unit and envtest suites.
	@for module in $(MODULES); do \
		if find $$module -name '*_test.go' | grep -q .; then (cd $$module && go test ./...); fi; \
	done
	go test -timeout 20m $(TEST_PACKAGES)

.PHONY: test-e2e
test-e2e: ## Run the end-to-end suite on the cluster of KUBECONFIG, or on a local one that comes and goes.
	KUBECTL="$(KUBECTL)" hack/test-e2e.sh

.PHONY: bench
bench: export KUBEBUILDER_ASSETS ?= $(CONTROLPLANE)
bench: ## Run the benchmarks, peers side by side.
	go test ./test/bench/... -run '^$$' -bench . -benchtime 1x -timeout 3h

##@ Build

.PHONY: build
build: manifests generate fmt vet ## Build the manager.
	go build -o bin/manager ./cmd

.PHONY: run
run: manifests generate fmt vet ## Run the manager from this machine, against the current cluster.
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

# Manifests name the default image; it is replaced on the way, so that the files stay as they are.
build-default = "$(KUSTOMIZE)" build config/default | sed 's|image: tenantry.dev/tenantry:dev$$|image: $(IMG)|'

# Server-side, since a CRD is larger than the annotation that client-side apply keeps; forced, since an upgrade replaces
# what somebody else has set.
apply = "$(KUBECTL)" apply --server-side --force-conflicts -f -

# Once the operator or its CRDs are gone nobody takes the finalizers off, and the deletion hangs.
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
uninstall: ## Remove the CRDs. ignore-not-found=true overlooks what is gone already.
	$(refuse-while-used)
	"$(KUSTOMIZE)" build config/crd | "$(KUBECTL)" delete --ignore-not-found=$(ignore-not-found) -f -

.PHONY: deploy
deploy: manifests ## Deploy the operator with its CRDs and policies into the current cluster.
	$(build-default) | $(apply)

.PHONY: undeploy
undeploy: ## Remove all that `deploy` applied. ignore-not-found=true overlooks what is gone already.
	$(refuse-while-used)
	$(build-default) | "$(KUBECTL)" delete --ignore-not-found=$(ignore-not-found) -f -
