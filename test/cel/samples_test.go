package cel_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestSamples(t *testing.T) {
	kinds := map[string]bool{}
	err := filepath.WalkDir(samplesDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" || entry.Name() == "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, manifest := range decodeAll(text) {
			if manifest.GroupVersionKind().Group != v1alpha1.GroupVersion.Group {
				continue // of the database
			}
			kinds[manifest.GetKind()] = true
			t.Run(fmt.Sprintf("%s/%d", path, i), func(t *testing.T) { passesUnchanged(t, manifest) })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind := range minimal {
		if !kinds[kind] {
			t.Errorf("there is no sample of a %s", kind)
		}
	}
}

// passesUnchanged checks that a manifest is accepted under strict validation, and that a tool which applies it over and
// over sees no difference, whether it applies on the server or compares by itself.
func passesUnchanged(t *testing.T, manifest *unstructured.Unstructured) {
	t.Helper()
	ctx := t.Context()
	if err := ensureNamespace(ctx, manifest.GetNamespace()); err != nil {
		t.Fatal(err)
	}
	if err := kube.Create(ctx, manifest.DeepCopy(), client.DryRunAll); err != nil {
		t.Fatalf("creating it: %v", err)
	}
	first, second := manifest.DeepCopy(), manifest.DeepCopy()
	if err := apply(ctx, first); err != nil {
		t.Fatalf("applying it: %v", err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), manifest) })
	// Until the operator has written a status the API server makes one up whenever it reads the object, and would store
	// it with the next write.
	put(first, "status.observedGeneration", "1")
	if err := kube.Status().Update(ctx, first); err != nil {
		t.Fatal(err)
	}
	if err := apply(ctx, second); err != nil {
		t.Fatalf("applying it again: %v", err)
	}
	if first.GetResourceVersion() != second.GetResourceVersion() {
		t.Error("applying it again changed it")
	}
	live := manifest.DeepCopy()
	if err := kube.Get(ctx, client.ObjectKeyFromObject(live), live); err != nil {
		t.Fatal(err)
	}
	for _, difference := range missing("", manifest.Object, live.Object) {
		t.Error(difference)
	}
	if err := readable(live); err != nil {
		t.Errorf("reading it into the Go type: %v", err)
	}
}

func ensureNamespace(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	err := kube.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	return client.IgnoreAlreadyExists(err)
}

// missing lists the fields of a manifest that are not in the live object with the same value.
func missing(at string, manifest, live any) []string {
	switch manifest := manifest.(type) {
	case map[string]any:
		live, _ := live.(map[string]any)
		var all []string
		for key, value := range manifest {
			all = append(all, missing(at+"."+key, value, live[key])...)
		}
		return all
	case []any:
		live, _ := live.([]any)
		if len(live) != len(manifest) {
			return []string{fmt.Sprintf("%s has %d items, not %d", at, len(live), len(manifest))}
		}
		var all []string
		for i := range manifest {
			all = append(all, missing(fmt.Sprintf("%s[%d]", at, i), manifest[i], live[i])...)
		}
		return all
	}
	if manifest != live {
		return []string{fmt.Sprintf("%s is %v, not %v", at, live, manifest)}
	}
	return nil
}

// One object of each kind with every field of the design set.
func TestEveryFieldOfTheDesignPasses(t *testing.T) {
	specs := map[string]string{
		"Tenant": `
externalID: 9f1c0c1e-5d0b-4c8e-9a55-0d6f3b1f7a21
suspend: true
suspendPolicy: Stop
timeZone: America/New_York
namespace: {name: tenant-acme, deletionPolicy: Delete, labels: {team: a}}
members:
- {role: Dispatcher, subject: {kind: ServiceAccount, namespace: web, name: api}}
- {role: Viewer, subject: {kind: User, name: ann@acme.example}}
- {role: Viewer, subject: {kind: Group, name: "oidc:acme"}}
isolation:
  podSecurity: Restricted
  egress:
  - to: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.1/32]}}, {namespaceSelector: {matchLabels: {a: b}}, podSelector: {}}]
    ports: [{protocol: TCP, port: 443}, {port: postgres}, {port: 8000, endPort: 8080}]
quota:
  hard: {requests.cpu: "4", limits.memory: 1.5Gi, count/jobs.batch: 200, requests.nvidia.com/gpu: 1e1}
  containerDefaults: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 256Mi}}
jobs: {maxConcurrent: 5, weight: 1}
attributes: {plan: gold, "billing.region-2": ""}
credentials:
- {name: database, providerRef: {name: billing-db}}
- {name: stripe, providerRef: {name: platform-secrets}, secretRef: {name: acme-stripe}}
enforcement: Enforce`,
		"TenantJobTemplate": `
description: Disconnects users whose subscription has run out.
queueRef: {name: payment-checks}
priority: High
maxConcurrentPerTenant: 1
maxWaitSeconds: 3600
parameters:
- {name: graceDays, env: GRACE_DAYS, default: "3", pattern: "^[0-9]{1,2}$", description: Days, type: Integer}
- {name: channel, enum: [sms, mail], default: sms}
- {name: paymentID, required: true, tag: true}
- {name: dryRun, type: Boolean, required: false, tag: false}
credentials:
- {name: database, env: [{name: DB_PASSWORD, key: password}]}
memberDispatch: {tenantSelector: {matchLabels: {tier: gold}, matchExpressions: [{key: a, operator: Exists}]}}
ttlSecondsAfterFinished: 3600
failedTTLSecondsAfterFinished: 604800
jobTemplate:
  metadata: {labels: {a: b}, annotations: {c: d}}
  spec:
    backoffLimit: 3
    activeDeadlineSeconds: 600
    podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}
    template:
      metadata: {labels: {a: b}}
      spec:
        restartPolicy: Never
        securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
        containers:
        - name: main
          image: example.com/job@sha256:0000000000000000000000000000000000000000000000000000000000000000
          args: ["--days", "$(GRACE_DAYS)"]
          ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]
          resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
          readinessProbe: {httpGet: {path: /, port: 8080}}
          volumeMounts: [{name: tmp, mountPath: /tmp}]
        volumes: [{name: tmp, emptyDir: {sizeLimit: 1Gi}}]
        topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}`,
		"TenantJob": `
tenantRef: {name: acme}
templateRef: {name: process-payment}
parameters: {paymentID: "8231"}
notBeforeTime: "2026-11-24T02:00:00Z"
maxWaitSeconds: 900
cancel: true`,
		"TenantFanOut": `
templateRef: {name: check-expired-subscriptions}
parameters: {}
tenants: {selector: {matchLabels: {tier: gold}}, exclude: [initech]}
strategy:
  maxConcurrent: 50
  waves:
  - {name: canary, selector: {matchLabels: {canary: "true"}}, maxFailures: 0}
  - {name: five-percent, size: 5%, maxFailures: 2}
  maxFailures: 5%
suspend: true
spreadSeconds: 0
ttlSecondsAfterFinished: 604800`,
		"TenantSchedule": `
schedule: "0 2 * * *"
timeZone: Etc/UTC
timeZoneFrom: Tenant
suspend: true
startingDeadlineSeconds: 3600
catchUpLimit: 1
concurrencyPolicy: Forbid
fanOutTemplate:
  metadata: {labels: {app.kubernetes.io/part-of: billing}, annotations: {example.com/owner: "Ann <ann@example.com>"}}
  spec:
    templateRef: {name: check-expired-subscriptions}
    tenants: {retryOf: {name: check-expired-29334560, outcomes: [Failed, Skipped]}}
    strategy: {maxConcurrent: 100%, waves: [{name: a, size: 10}], maxFailures: 0%}
successfulFanOutsHistoryLimit: 3
failedFanOutsHistoryLimit: 3`,
		"TenantQueue": `{suspend: true, maxConcurrent: 200, maxConcurrentPerTenant: 3, startsPerMinute: 600}`,
		"CredentialProvider": `
postgres: {adminSecretRef: {name: billing-db-admin}, host: billing-db.example.com, port: 5432, database: billing,
  sslMode: verify-full, connectionLimit: 5, maxLifetimeSeconds: 3600}`,
	}
	for kind, spec := range specs {
		t.Run(kind, func(t *testing.T) {
			obj := newObject(kind, "acme")
			put(obj, "spec", spec)
			passesUnchanged(t, obj)
		})
	}
}

// Objects at every limit at once pass too: what the rules may cost is enough for them, on creation and on a change.
func TestLargestObjectsPass(t *testing.T) {
	long := func(length int) string { return strings.Repeat("a", length) }
	item := func(format string, length int) string { return strings.ReplaceAll(format, "%s", long(length)) }
	entries := func(count, keyLength int, value string) string {
		all := make([]string, count)
		for i := range all {
			all[i] = fmt.Sprintf("%s%02d: %s", long(keyLength-2), i, value)
		}
		return "{" + strings.Join(all, ", ") + "}"
	}
	fanOut := `
templateRef: {name: ` + long(63) + `}
parameters: ` + entries(32, 63, long(4096)) + `
tenants: {names: ` + list(10000, "a-tenant-whose-name-could-not-be-l-1%d") + `, exclude: ` + list(1000, long(36)+"%d") + `}
strategy:
  waves: ` + list(16, item("{name: %s%d, size: 100%, maxFailures: 100%}", 61))
	schedule := strings.Repeat("0-9,", 18) + "0 1 30/1,31 feb,apr/2,09 mon"
	specs := map[string]string{
		"Tenant": `
externalID: ` + long(128) + `
namespace: {name: ` + long(63) + `, labels: ` + entries(32, 63, long(63)) + `}
members: ` + list(64, item("{role: Viewer, subject: {kind: ServiceAccount, namespace: b%s, name: %d%s}}", 60)) + `
attributes: ` + entries(32, 63, long(1024)) + `
credentials: ` + list(16, item("{name: a%d, providerRef: {name: %s}, secretRef: {name: %s}}", 253)),
		"TenantJobTemplate": `
parameters: ` + list(32, "{name: "+long(61)+"%d, env: "+long(126)+"%d, pattern: "+long(512)+", enum: "+
			strings.ReplaceAll(list(64, long(300)+"%d"), "%d", "")+"}") + `
credentials: ` + list(16, item("{name: %s%d, env: [{name: %s, key: %s}]}", 60)) + minimal["TenantJobTemplate"],
		"TenantJob": `
tenantRef: {name: ` + long(40) + `}
templateRef: {name: ` + long(63) + `}
parameters: ` + entries(32, 63, long(4096)),
		"TenantFanOut": fanOut,
		"TenantSchedule": `
schedule: "` + schedule + `"
fanOutTemplate:
  metadata: {labels: ` + entries(32, 63, long(63)) + `, annotations: ` + entries(32, 63, long(4096)) + `}
  spec: ` + strings.ReplaceAll(fanOut, "\n", "\n    "),
	}
	for kind, spec := range specs {
		t.Run(kind, func(t *testing.T) {
			obj := newObject(kind, long(40))
			put(obj, "spec", spec)
			if err := kube.Create(t.Context(), obj); err != nil {
				t.Fatalf("%.2000v", err)
			}
			t.Cleanup(func() { _ = kube.Delete(context.Background(), obj) })
			put(obj, "metadata.labels", "{a: b}")
			put(obj, "spec.suspend", "true") // where there is such a field
			if err := client.WithFieldValidation(kube, "Ignore").Update(t.Context(), obj); err != nil {
				t.Errorf("%.2000v", err)
			}
		})
	}
	if len(schedule) != 100 {
		t.Errorf("the longest schedule has %d characters", len(schedule))
	}
}
