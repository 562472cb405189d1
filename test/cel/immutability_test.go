package cel_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// change is one of a field of an object that exists.
type change struct {
	at string
	// from and to are YAML, or absent.
	from, to string
	// want is part of what the refusal says. Empty means that the change passes.
	want string
}

type changes map[string]change

const (
	externalID    = "`spec.externalID` must not change"
	namespaceName = "`spec.namespace.name` must not change"
	parameters    = "`parameters` must not change"
	tenants       = "`spec.tenants` must not change"
	waves         = "`spec.strategy.waves` must not change"
	oneKind       = "`spec` must stay of one kind"
	sameServer    = "`postgres` must keep its host, port and database"
)

// changesOf are the changes of objects of all kinds, by what they show. The object is named cel-test.
var changesOf = map[string]changes{
	"Tenant": joinChanges(
		immutable("spec.externalID", "one", "two", externalID),
		unsetMeans("spec.externalID", "cel-test", "one", externalID),
		immutable("spec.namespace.name", "legacy", "other", namespaceName),
		unsetMeans("spec.namespace.name", "tenant-cel-test", "legacy", namespaceName),
		changes{
			"the namespace goes":                 {"spec.namespace", "{name: legacy, labels: {a: b}}", absent, namespaceName},
			"the namespace's name goes":          {"spec.namespace", "{name: legacy, labels: {a: b}}", "{labels: {a: b}}", namespaceName},
			"the namespace comes with its name":  {"spec.namespace", absent, "{name: legacy}", namespaceName},
			"the default namespace goes":         {"spec.namespace", "{name: tenant-cel-test}", absent, ""},
			"another's default namespace":        {"spec.namespace", absent, "{name: tenant-cel-test-2}", namespaceName},
			"a namespace named like the tenant":  {"spec.namespace", absent, "{name: cel-test}", namespaceName},
			"the namespace's labels":             {"spec.namespace", "{name: legacy}", "{name: legacy, labels: {a: b}}", ""},
			"a spec without anything fixed goes": {"spec", "{suspend: true, externalID: cel-test}", absent, ""},
			"a spec with an external ID goes":    {"spec", "{externalID: one}", absent, externalID},
			"a spec with a namespace goes":       {"spec", "{namespace: {name: legacy}}", absent, namespaceName},
			"a spec comes":                       {"spec", absent, "{suspend: true}", ""},
			"a spec with an external ID comes":   {"spec", absent, "{externalID: one}", externalID},
			"all that is not fixed":              {"spec", "{externalID: a, suspend: true}", "{externalID: a, timeZone: Europe/Berlin}", ""},
		}),
	"TenantJob": joinChanges(
		required("spec.tenantRef", "{name: acme}", "{name: globex}", "`tenantRef` must not change"),
		required("spec.templateRef", "{name: a}", "{name: b}", "`templateRef` must not change"),
		immutable("spec.parameters", "{a: b}", "{a: c}", parameters),
		unsetMeans("spec.parameters", "{}", "{a: b}", parameters),
		changes{
			"a parameter comes":  {"spec.parameters", "{a: b}", "{a: b, c: d}", parameters},
			"a parameter goes":   {"spec.parameters", "{a: b, c: d}", "{a: b}", parameters},
			"cancel":             {"spec.cancel", absent, "true", ""},
			"cancel, taken back": {"spec.cancel", "true", "false", ""},
			"notBeforeTime":      {"spec.notBeforeTime", absent, `"2026-11-24T02:00:00Z"`, ""},
			"maxWaitSeconds":     {"spec.maxWaitSeconds", "60", absent, ""},
		}),
	"TenantFanOut": joinChanges(
		required("spec.templateRef", "{name: a}", "{name: b}", "`spec.templateRef` must not change"),
		required("spec.tenants", "{all: true}", "{names: [a]}", tenants),
		immutable("spec.parameters", "{a: b}", "{a: c}", "`spec.parameters` must not change"),
		unsetMeans("spec.parameters", "{}", "{a: b}", "`spec.parameters` must not change"),
		immutable("spec.strategy.waves", "[{name: a, size: 1}]", "[{name: a, size: 2}]", waves),
		unsetMeans("spec.strategy.waves", "[]", "[{name: a, size: 1}]", waves),
		changes{
			"exclude comes":          {"spec.tenants", "{all: true}", "{all: true, exclude: [a]}", tenants},
			"exclude goes":           {"spec.tenants", "{all: true, exclude: [a]}", "{all: true}", tenants},
			"exclude changes":        {"spec.tenants", "{all: true, exclude: [a]}", "{all: true, exclude: [b]}", tenants},
			"an empty exclude goes":  {"spec.tenants", "{all: true, exclude: []}", "{all: true}", ""},
			"names change":           {"spec.tenants", "{names: [a]}", "{names: [b]}", tenants},
			"names in another order": {"spec.tenants", "{names: [a, b]}", "{names: [b, a]}", ""},
			"ten thousand names change by one": {
				"spec.tenants", "{names: " + list(10000, "a-tenant-whose-name-could-not-be-lo-%d") + "}", "{names: " + list(9999, "a-tenant-whose-name-could-not-be-lo-%d") + "}", tenants,
			},
			"ten thousand names stay": {
				"spec.tenants", "{names: " + list(10000, "a-tenant-whose-name-could-not-be-lo-%d") + "}", "{names: " + list(10000, "a-tenant-whose-name-could-not-be-lo-%d") + "}", "",
			},
			"the selector changes": {
				"spec.tenants", "{selector: {matchLabels: {a: b}}}", "{selector: {matchLabels: {a: c}}}", tenants,
			},
			"the fan-out to retry changes": {"spec.tenants", "{retryOf: {name: a}}", "{retryOf: {name: b}}", tenants},
			"the outcomes to retry change": {
				"spec.tenants", "{retryOf: {name: a}}", "{retryOf: {name: a, outcomes: [Skipped]}}", tenants,
			},
			"the default outcome is spelled out": {
				"spec.tenants", "{retryOf: {name: a}}", "{retryOf: {name: a, outcomes: [Failed]}}", "",
			},
			"a wave comes": {
				"spec.strategy.waves", "[{name: a, size: 1}]", "[{name: a, size: 1}, {name: b, size: 1}]", waves,
			},
			"waves in another order": {
				"spec.strategy.waves", "[{name: a, size: 1}, {name: b, size: 1}]", "[{name: b, size: 1}, {name: a, size: 1}]", waves,
			},
			"the budget of a wave": {
				"spec.strategy.waves", "[{name: a, size: 1}]", "[{name: a, size: 1, maxFailures: 1}]", waves,
			},
			"the strategy goes":               {"spec.strategy", "{waves: [{name: a, size: 1}]}", absent, waves},
			"the strategy comes":              {"spec.strategy", absent, "{waves: [{name: a, size: 1}]}", waves},
			"the strategy without waves goes": {"spec.strategy", "{maxConcurrent: 1}", absent, ""},
			"maxConcurrent":                   {"spec.strategy.maxConcurrent", "50", "50%", ""},
			"maxFailures":                     {"spec.strategy.maxFailures", absent, "5%", ""},
			"suspend":                         {"spec.suspend", absent, "true", ""},
			"spreadSeconds":                   {"spec.spreadSeconds", "60", "0", ""},
			"ttlSecondsAfterFinished":         {"spec.ttlSecondsAfterFinished", absent, "0", ""},
		}),
	"TenantSchedule": {
		"the fan-out's template": {
			"spec.fanOutTemplate", fanOut, "{spec: {templateRef: {name: b}, tenants: {names: [a]}, parameters: {a: b}}}", "",
		},
		"the schedule":  {"spec.schedule", `"@daily"`, `"@hourly"`, ""},
		"the time zone": {"spec.timeZone", "Etc/UTC", "Europe/Berlin", ""},
	},
	"TenantJobTemplate": {"the queue": {"spec.queueRef", absent, "{name: a}", ""}},
	"TenantQueue":       {"the limit": {"spec.maxConcurrent", "1", absent, ""}, "the spec": {"spec", "{maxConcurrent: 1}", absent, ""}},
	"CredentialProvider": {
		"secret becomes a token":    {"spec", "{secret: {}}", "{serviceAccountToken: {audience: a}}", oneKind},
		"a token becomes postgres":  {"spec", "{serviceAccountToken: {audience: a}}", postgresAt("host: a, database: a"), oneKind},
		"postgres becomes a secret": {"spec", postgresAt("host: a, database: a"), "{secret: {}}", oneKind},
		"the audience":              {"spec", "{serviceAccountToken: {audience: a}}", "{serviceAccountToken: {audience: b}}", ""},
		"the host":                  {"spec", postgresAt("host: a, database: a"), postgresAt("host: b, database: a"), sameServer},
		"the port":                  {"spec", postgresAt("host: a, database: a"), postgresAt("host: a, database: a, port: 5433"), sameServer},
		"the port, spelled out":     {"spec", postgresAt("host: a, database: a"), postgresAt("host: a, database: a, port: 5432"), ""},
		"the database":              {"spec", postgresAt("host: a, database: a"), postgresAt("host: a, database: b"), sameServer},
		"the CA":                    {"spec", postgresAt("host: a, database: a"), postgresAt("host: a, database: a, caSecretRef: {name: ca}"), ""},
	},
}

func TestChanges(t *testing.T) {
	for kind, changes := range changesOf {
		for name, c := range changes {
			t.Run(kind+"/"+name, func(t *testing.T) {
				for way, err := range tryChange(t, kind, c) {
					refused := err != nil && c.want != "" && strings.Contains(err.Error(), c.want)
					if accepted := err == nil && c.want == ""; !accepted && !refused {
						t.Errorf("%s from %.200s to %.200s by %s: got %.500v, want %q", c.at, c.from, c.to, way, err, c.want)
					}
				}
			})
		}
	}
}

// tryChange makes an object and tries the change in each way in which a client makes it.
func tryChange(t *testing.T, kind string, c change) map[string]error {
	t.Helper()
	obj := newObject(kind, "cel-test")
	put(obj, c.at, c.from)
	if err := kube.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kube.Delete(t.Context(), obj); err != nil {
			t.Error(err)
		}
	}()
	changed := obj.DeepCopy()
	put(changed, c.at, c.to)
	tried := map[string]error{"update": kube.Update(t.Context(), changed, client.DryRunAll)}
	if c.to == absent {
		var patch any
		for _, field := range slices.Backward(strings.Split(c.at, ".")) {
			patch = map[string]any{field: patch}
		}
		body, err := json.Marshal(patch)
		utilruntime.Must(err)
		tried["patch"] = kube.Patch(t.Context(), obj.DeepCopy(), client.RawPatch(types.MergePatchType, body), client.DryRunAll)
	}
	return tried
}

// causesOfChanges are the reasons for which changes of objects of a kind are refused.
func causesOfChanges(t *testing.T, kind string) []metav1.StatusCause {
	t.Helper()
	var causes []metav1.StatusCause
	for _, c := range changesOf[kind] {
		if c.want == "" {
			continue
		}
		for _, err := range tryChange(t, kind, c) {
			causes = append(causes, causesOf(err)...)
		}
	}
	return causes
}

// immutable are the changes that a field must not make: to another value, to nothing.
func immutable(at, from, to, want string) changes {
	return changes{
		at + " changes":      {at, from, to, want},
		at + " goes":         {at, from, absent, want},
		at + " becomes null": {at, from, "null", want},
		at + " stays":        {at, from, from, ""},
	}
}

// required are the changes that a field must not make which there must always be.
func required(at, from, to, want string) changes {
	all := immutable(at, from, to, want)
	all[at+" goes"] = change{at, from, absent, at + ": Required value"}
	all[at+" becomes null"] = change{at, from, "null", at + ": Required value"}
	return all
}

// unsetMeans are the changes between a field that is unset and one that is set. To what it means when it is unset it may
// change, since nothing does then; to another it must not.
func unsetMeans(at, same, other, want string) changes {
	return changes{
		at + " comes":                      {at, absent, other, want},
		at + " comes after null":           {at, "null", other, want},
		at + " is spelled out":             {at, absent, same, ""},
		at + " is no longer spelled out":   {at, same, absent, ""},
		at + " changes from what it meant": {at, same, other, want},
	}
}

// postgresAt is the spec of a provider of that kind.
func postgresAt(fields string) string {
	return "{postgres: {adminSecretRef: {name: a}, " + fields + "}}"
}

func joinChanges(tables ...changes) changes {
	all := changes{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}
