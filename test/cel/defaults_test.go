package cel_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestDefaults(t *testing.T) {
	const pod = `{template: {spec: {containers: [{name: a, ports: [{containerPort: 80}]}]}}}`
	cases := map[string]struct{ kind, spec, want string }{
		"Tenant":               {"Tenant", `{}`, `{suspendPolicy: Stop}`},
		"Tenant, no spec":      {"Tenant", absent, `{suspendPolicy: Stop}`},
		"Tenant, spec is null": {"Tenant", `null`, `{suspendPolicy: Stop}`},
		"Tenant, parts of it": {
			"Tenant",
			`{suspendPolicy: Drain, namespace: {}, isolation: {}, quota: {}, jobs: {}}`,
			`{suspendPolicy: Drain, namespace: {deletionPolicy: Delete}, isolation: {podSecurity: Restricted}, quota: {}, jobs: {}}`,
		},
		"Tenant, null": {
			"Tenant", `{suspendPolicy: null, timeZone: null, isolation: {podSecurity: null}}`,
			`{suspendPolicy: Stop, isolation: {podSecurity: Restricted}}`,
		},
		"TenantJobTemplate": {
			"TenantJobTemplate",
			`{parameters: [{name: a}, {name: b, type: Integer}], jobTemplate: {spec: ` + pod + `}}`,
			`{priority: Medium, parameters: [{name: a, type: String}, {name: b, type: Integer}],
			jobTemplate: {spec: {template: {spec: {containers: [{name: a, ports: [{containerPort: 80, protocol: TCP}]}]}}}}}`,
		},
		"TenantJob":    {"TenantJob", minimal["TenantJob"], minimal["TenantJob"]},
		"TenantFanOut": {"TenantFanOut", minimal["TenantFanOut"], minimal["TenantFanOut"]},
		"TenantFanOut, a retry": {
			"TenantFanOut",
			`{templateRef: {name: a}, tenants: {retryOf: {name: b}}}`,
			`{templateRef: {name: a}, tenants: {retryOf: {name: b, outcomes: [Failed]}}}`,
		},
		"TenantSchedule": {
			"TenantSchedule",
			`{schedule: "@daily", fanOutTemplate: {spec: {templateRef: {name: a}, tenants: {retryOf: {name: b}}}}}`,
			`{schedule: "@daily", timeZone: Etc/UTC, timeZoneFrom: Schedule, catchUpLimit: 1, concurrencyPolicy: Forbid,
			successfulFanOutsHistoryLimit: 3, failedFanOutsHistoryLimit: 3,
			fanOutTemplate: {spec: {templateRef: {name: a}, tenants: {retryOf: {name: b, outcomes: [Failed]}}}}}`,
		},
		"TenantSchedule, none of them": {
			"TenantSchedule",
			`{schedule: "@daily", timeZone: Europe/Berlin, timeZoneFrom: Tenant, catchUpLimit: 0, concurrencyPolicy: Allow,
			successfulFanOutsHistoryLimit: 0, failedFanOutsHistoryLimit: 0, fanOutTemplate: ` + fanOut + `}`,
			`{schedule: "@daily", timeZone: Europe/Berlin, timeZoneFrom: Tenant, catchUpLimit: 0, concurrencyPolicy: Allow,
			successfulFanOutsHistoryLimit: 0, failedFanOutsHistoryLimit: 0, fanOutTemplate: ` + fanOut + `}`,
		},
		"TenantQueue":                {"TenantQueue", `{}`, `{}`},
		"TenantQueue, no spec":       {"TenantQueue", absent, `{}`},
		"CredentialProvider, secret": {"CredentialProvider", `{secret: {}}`, `{secret: {}}`},
		"CredentialProvider, token": {
			"CredentialProvider",
			`{serviceAccountToken: {audience: a}}`,
			`{serviceAccountToken: {audience: a, expirationSeconds: 3600}}`,
		},
		"CredentialProvider, postgres": {
			"CredentialProvider",
			`{postgres: {adminSecretRef: {name: a}, host: b, database: c}}`,
			`{postgres: {adminSecretRef: {name: a}, host: b, database: c, port: 5432, sslMode: verify-full, connectionLimit: 5,
			maxLifetimeSeconds: 3600}}`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			obj := newObject(c.kind, "defaults")
			put(obj, "spec", c.spec)
			if err := kube.Create(t.Context(), obj, client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(parse(c.want), obj.Object["spec"]); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}

// A status comes from the operator alone. Until it has written one, kinds with a controller of their own say that they
// have not been looked at: kstatus then takes a new object for InProgress and not for Current.
func TestStatusIsNotTheUsers(t *testing.T) {
	unseen := map[string]any{"observedGeneration": int64(-1)}
	want := map[string]map[string]any{
		"Tenant": unseen, "TenantJobTemplate": unseen, "TenantJob": unseen,
		"TenantFanOut": unseen, "TenantSchedule": unseen, "TenantQueue": unseen, "CredentialProvider": nil,
	}
	for kind := range minimal {
		t.Run(kind, func(t *testing.T) {
			status := func(obj client.Object) map[string]any {
				if err := kube.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
					t.Fatal(err)
				}
				content, err := json.Marshal(obj)
				if err != nil {
					t.Fatal(err)
				}
				found, _ := parse(string(content)).(map[string]any)["status"].(map[string]any)
				return found
			}
			const forged = `{observedGeneration: 7, conditions: [{type: Ready, status: "True", reason: Forged, message: "",
				lastTransitionTime: "2026-11-24T02:00:00Z"}]}`
			obj := newObject(kind, "status")
			put(obj, "status", forged)
			if err := kube.Create(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = kube.Delete(t.Context(), obj) })
			if diff := cmp.Diff(want[kind], status(obj)); diff != "" {
				t.Errorf("status of a new object (-want +got):\n%s", diff)
			}

			put(obj, "status", forged)
			if err := kube.Update(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[kind], status(obj)); diff != "" {
				t.Errorf("status after an update (-want +got):\n%s", diff)
			}

			put(obj, "status", forged)
			put(obj, "metadata.labels", "{a: b}")
			put(obj, "spec", "{nonsense: true}")
			if err := client.WithFieldValidation(kube, "Ignore").Status().Update(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			got := status(obj)
			if got["observedGeneration"] != int64(7) || obj.GetGeneration() != 1 || obj.GetLabels() != nil {
				t.Errorf("the subresource wrote %v, generation %d, labels %v", got, obj.GetGeneration(), obj.GetLabels())
			}
		})
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	cases := map[string]struct{ kind, at, value, want string }{
		"Tenant":                {"Tenant", "spec.suspended", "true", "spec.suspended"},
		"Tenant, deep":          {"Tenant", "spec.members", "[{role: Viewer, subject: {kind: User, name: a, apiGroup: rbac}}]", "apiGroup"},
		"TenantJobTemplate":     {"TenantJobTemplate", "spec.queue", "a", "spec.queue"},
		"TenantJobTemplate Job": {"TenantJobTemplate", "spec.jobTemplate.spec.backOffLimit", "3", "spec.jobTemplate.spec.backOffLimit"},
		"TenantJobTemplate pod": {
			"TenantJobTemplate", "spec.jobTemplate.spec.template.spec.containers", "[{name: a, comand: [a]}]", "comand",
		},
		"TenantJob":          {"TenantJob", "spec.tenant", "acme", "spec.tenant"},
		"TenantJob env":      {"TenantJob", "spec.env", "[{name: TENANT_ID, value: other}]", "spec.env"},
		"TenantFanOut":       {"TenantFanOut", "spec.tenants", "{all: true, excludes: [a]}", "spec.tenants.excludes"},
		"TenantSchedule":     {"TenantSchedule", "spec.timezone", "UTC", "spec.timezone"},
		"TenantQueue":        {"TenantQueue", "spec.maxconcurrent", "1", "spec.maxconcurrent"},
		"CredentialProvider": {"CredentialProvider", "spec.vault", "{}", "spec.vault"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := create(t.Context(), c.kind, c.at, c.value)
			if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), "unknown field") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s was not refused as unknown: %v", c.want, err)
			}
		})
	}
}

// The Go types write nothing that the schema does not know.
func TestTypedObjectsPass(t *testing.T) {
	objects := map[string]client.Object{
		"Tenant": &v1alpha1.Tenant{}, "TenantJobTemplate": &v1alpha1.TenantJobTemplate{}, "TenantJob": &v1alpha1.TenantJob{},
		"TenantFanOut": &v1alpha1.TenantFanOut{}, "TenantSchedule": &v1alpha1.TenantSchedule{},
		"TenantQueue": &v1alpha1.TenantQueue{}, "CredentialProvider": &v1alpha1.CredentialProvider{},
	}
	for kind, obj := range objects {
		t.Run(kind, func(t *testing.T) {
			content, err := json.Marshal(newObject(kind, "typed").Object)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(content, obj); err != nil {
				t.Fatal(err)
			}
			if err := kube.Create(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = kube.Delete(t.Context(), obj) })
			obj.SetLabels(map[string]string{"a": "b"})
			if err := kube.Update(t.Context(), obj); err != nil {
				t.Error(err)
			}
		})
	}
}

// What nobody can own in part costs no entry of its own in managedFields, of which there is one for each of ten thousand
// children of a fan-out.
func TestReferencesHaveOneOwner(t *testing.T) {
	tj := newObject("TenantJob", "owned")
	put(tj, "spec.parameters", `{a: "1", b: "2"}`)
	if err := kube.Create(t.Context(), tj, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	var owned struct {
		Spec map[string]any `json:"f:spec"`
	}
	if err := json.Unmarshal(tj.GetManagedFields()[0].FieldsV1.GetRawBytes(), &owned); err != nil {
		t.Fatal(err)
	}
	whole := map[string]any{}
	want := map[string]any{".": whole, "f:tenantRef": whole, "f:templateRef": whole, "f:parameters": whole}
	if diff := cmp.Diff(want, owned.Spec); diff != "" {
		t.Errorf("owned of the spec, -want +got:\n%s", diff)
	}
}
