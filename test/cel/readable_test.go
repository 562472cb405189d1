package cel_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// readable checks that the operator can read what the API server accepts: it reads all objects of a kind in one list, and
// one that can't be decoded hides all others.
func readable(obj *unstructured.Unstructured) error {
	content, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	typed, err := kube.Scheme().New(obj.GroupVersionKind())
	if err != nil {
		return err
	}
	return json.Unmarshal(content, typed)
}

// The schemas of Kubernetes' own types let some values in that these types can't hold.
func TestUnreadableValuesAreRefused(t *testing.T) {
	crd, err := os.ReadFile(filepath.Join(crdDir, "tenantry.dev_tenants.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(crd), `([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+)))`) {
		t.Skip("`make manifests` leaves quantities and ports as controller-gen makes them")
	}
	const container = "spec.jobTemplate.spec.template.spec.containers"
	cases := map[string]struct {
		kind string
		rule
	}{
		"a quota with a broken exponent": {"Tenant", rule{
			"spec.quota.hard", `{cpu: "1e1.5"}`, `{cpu: "1e1"}`, "should match",
		}},
		"a quota that takes forever to parse": {"Tenant", rule{
			"spec.quota.hard", `{cpu: "1e-999999999"}`, `{cpu: "1e-9"}`, "should match",
		}},
		"a default request with a broken exponent": {"Tenant", rule{
			"spec.quota.containerDefaults.requests", `{cpu: "1E.5"}`, `{cpu: "1E"}`, "should match",
		}},
		"an egress port beyond 32 bits": {"Tenant", rule{
			"spec.isolation.egress", "[{ports: [{port: 3000000000}]}]", "[{ports: [{port: 443}, {port: https}]}]",
			"should be less than or equal to",
		}},
		"a container's limit with a broken exponent": {"TenantJobTemplate", rule{
			container, `[{name: a, resources: {limits: {cpu: "1e1.5"}}}]`,
			`[{name: a, resources: {limits: {cpu: "1.5", memory: 17179869184}}}]`, "should match",
		}},
		"a container's port beyond 32 bits": {"TenantJobTemplate", rule{
			container, "[{name: a, livenessProbe: {httpGet: {port: 3000000000}}}]",
			"[{name: a, livenessProbe: {httpGet: {port: 8080}}, readinessProbe: {httpGet: {port: http}}}]",
			"should be less than or equal to",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := create(t.Context(), c.kind, c.at, c.refused)
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s was not refused with %q: %v", c.at, c.refused, c.want, err)
			}
			if _, err := create(t.Context(), c.kind, c.at, c.accepted); err != nil {
				t.Errorf("%s: %s was refused: %v", c.at, c.accepted, err)
			}
		})
	}
}
