package cel_test

import "strings"

const (
	ownNamespace = "`spec.members` must not name a service account of the tenant's own namespace"
	ianaZone     = "`timeZone` must be an IANA time zone such as Europe/Berlin"
	zoneOfTenant = "spec.timeZone"
)

var tenantRules = join(
	objectNameRules(40),
	textRules("externalID", "spec.externalID", "%s", "^[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?$",
		"urn:tenant/A_1@eu.example", []string{"a b", "-a", "a;b", "a\nb"}, 128),
	labelRules("namespace.name", "spec.namespace.name", "%s", 63),
	labelRules("a credential's name", "spec.credentials", "[{name: %s, providerRef: {name: a}}]", 63),
	subdomainRules("a credential's provider", "spec.credentials", "[{name: a, providerRef: {name: %s}}]"),
	textRules("a credential's database", "spec.credentials", "[{name: a, providerRef: {name: a}, postgres: {database: %s}}]", "", "", nil, 63),
	textRules("a credential's schema", "spec.credentials", "[{name: a, providerRef: {name: a}, postgres: {schema: %s}}]", "", "", nil, 63),
	subdomainRules("a credential's secret", "spec.credentials", "[{name: a, providerRef: {name: a}, secretRef: {name: %s}}]"),
	labelRules("a member's namespace", "spec.members",
		"[{role: Viewer, subject: {kind: ServiceAccount, namespace: %s, name: api}}]", 63),
	numberRules("spec.jobs.maxConcurrent", 1, 100000),
	numberRules("spec.jobs.weight", 1, 100),
	zoneRules(zoneOfTenant),
	rules{
		"suspendPolicy":   {"spec.suspendPolicy", "Kill", "Drain", `Unsupported value: "Kill": supported values: "Stop", "Drain"`},
		"enforcement":     {"spec.enforcement", "enforce", "Enforce", `supported values: "Audit", "Warn", "Enforce"`},
		"podSecurity":     {"spec.isolation.podSecurity", "Privileged", "Baseline", `supported values: "Restricted", "Baseline"`},
		"deletionPolicy":  {"spec.namespace.deletionPolicy", "Orphan", "Retain", `supported values: "Delete", "Retain"`},
		"suspend is text": {"spec.suspend", `"yes"`, "true", "must be of type boolean"},

		"the namespace default": {
			"spec.namespace.name", "default", "default-2", "`namespace.name` must not be default or start with kube-",
		},
		"a namespace of Kubernetes": {
			"spec.namespace.name", "kube-system", "kubernetes", "`namespace.name` must not be default or start with kube-",
		},
		"too many labels": {"spec.namespace.labels", mapping(33, "a"), mapping(32, "a"), "must have at most 32 items"},
		"a label of the operator": {
			"spec.namespace.labels", "{tenantry.dev/tenant: other}", "{tenantry.example/tenant: other}",
			"`namespace.labels` must not use the prefixes tenantry.dev/, kubernetes.io/, k8s.io/ or those under them",
		},
		"a label under the operator's": {
			"spec.namespace.labels", "{tag.tenantry.dev/payment: a}", "{nottenantry.dev/payment: a}",
			"`namespace.labels` must not use the prefixes",
		},
		"a pod security label": {
			"spec.namespace.labels", "{pod-security.kubernetes.io/enforce: privileged}", "{pod-security: privileged}",
			"`namespace.labels` must not use the prefixes",
		},
		"a label of the API server": {
			"spec.namespace.labels", "{kubernetes.io/metadata.name: a}", "{kubernetes.io.example/metadata.name: a}",
			"`namespace.labels` must not use the prefixes",
		},
		"a label of a Kubernetes project": {
			"spec.namespace.labels", "{x.k8s.io/a: a}", "{x-k8s.io/a: a}", "`namespace.labels` must not use the prefixes",
		},
		"a label key with a space": {
			"spec.namespace.labels", "{a b: a}", "{a_b: a}", "`namespace.labels` must have valid label keys",
		},
		"a label key in upper case": {
			"spec.namespace.labels", "{KUBERNETES.IO/metadata.name: a}", "{KUBERNETES.IO: a}",
			"`namespace.labels` must have valid label keys",
		},
		"a label value with a space": {"spec.namespace.labels", "{a: b c}", `{a: ""}`, "should match"},
		"a label value that is too long": {
			"spec.namespace.labels", "{a: " + strings.Repeat("b", 64) + "}", "{a: " + strings.Repeat("b", 63) + "}",
			"may not be more than 63",
		},

		"too many members": {
			"spec.members", list(65, "{role: Viewer, subject: {kind: User, name: u%d}}"),
			list(64, "{role: Viewer, subject: {kind: User, name: u%d}}"), "must have at most 64 items",
		},
		"a member without role": {
			"spec.members", "[{subject: {kind: User, name: a}}]", "[{role: Viewer, subject: {kind: User, name: a}}]",
			"spec.members[0].role: Required value",
		},
		"a member's role of Kubernetes": {
			"spec.members", "[{role: edit, subject: {kind: User, name: a}}]",
			"[{role: Dispatcher, subject: {kind: User, name: a}}]", `supported values: "Viewer", "Dispatcher"`,
		},
		"a member who is nobody": {
			"spec.members", "[{role: Viewer}]", "[{role: Viewer, subject: {kind: Group, name: a}}]",
			"spec.members[0].subject: Required value",
		},
		"a member without kind": {
			"spec.members", "[{role: Viewer, subject: {name: a}}]", "[{role: Viewer, subject: {kind: Group, name: a}}]",
			"spec.members[0].subject.kind: Required value",
		},
		"a member of another kind": {
			"spec.members", "[{role: Viewer, subject: {kind: Node, name: a}}]",
			"[{role: Viewer, subject: {kind: Group, name: a}}]", `supported values: "User", "Group", "ServiceAccount"`,
		},
		"a member without name": {
			"spec.members", "[{role: Viewer, subject: {kind: User}}]", "[{role: Viewer, subject: {kind: User, name: a}}]",
			"spec.members[0].subject.name: Required value",
		},
		"a member with an empty name": {
			"spec.members", `[{role: Viewer, subject: {kind: User, name: ""}}]`,
			`[{role: Viewer, subject: {kind: User, name: "Ann Example <ann@acme.example>"}}]`, "should be at least 1 chars long",
		},
		"a member whose name is too long": {
			"spec.members", "[{role: Viewer, subject: {kind: User, name: " + strings.Repeat("a", 254) + "}}]",
			"[{role: Viewer, subject: {kind: User, name: " + strings.Repeat("a", 253) + "}}]", "may not be more than 253",
		},
		"a service account of no namespace": {
			"spec.members", "[{role: Viewer, subject: {kind: ServiceAccount, name: api}}]",
			"[{role: Viewer, subject: {kind: ServiceAccount, namespace: web, name: api}}]",
			"`subject.namespace` must be set for a ServiceAccount and for nothing else",
		},
		"a user of a namespace": {
			"spec.members", "[{role: Viewer, subject: {kind: User, namespace: web, name: api}}]",
			"[{role: Viewer, subject: {kind: User, name: api}}]",
			"`subject.namespace` must be set for a ServiceAccount and for nothing else",
		},
		"a service account that can't be": {
			"spec.members", "[{role: Viewer, subject: {kind: ServiceAccount, namespace: web, name: The API}}]",
			"[{role: Viewer, subject: {kind: ServiceAccount, namespace: web, name: the.api}}]",
			"`subject.name` must be a DNS-1123 subdomain for a ServiceAccount",
		},
		"a service account as user": {
			"spec.members", "[{role: Viewer, subject: {kind: User, name: 'system:serviceaccount:tenant-cel-test:tenant-runner'}}]",
			"[{role: Viewer, subject: {kind: User, name: 'oidc:system:ann'}}]",
			"`subject.name` must be a DNS-1123 subdomain for a ServiceAccount, and must not start with system: for a User or Group",
		},
		"a job of another tenant": {
			"spec.members", "[{role: Viewer, subject: {kind: ServiceAccount, namespace: tenant-globex, name: tenant-runner}}]",
			"[{role: Viewer, subject: {kind: User, name: tenant-runner}}]", "`subject.name` must not be tenant-runner",
		},
		"all service accounts as group": {
			"spec.members", "[{role: Viewer, subject: {kind: Group, name: 'system:serviceaccounts'}}]",
			"[{role: Viewer, subject: {kind: Group, name: 'systems'}}]", "must not start with system: for a User or Group",
		},
		"a service account of the tenant's own namespace": {
			"spec.members", "[{role: Viewer, subject: {kind: ServiceAccount, namespace: tenant-cel-test, name: api}}]",
			"[{role: Viewer, subject: {kind: ServiceAccount, namespace: tenant-cel-test-2, name: api}}]",
			ownNamespace,
		},
		"a service account of the adopted namespace": {
			"spec", "{namespace: {name: legacy}, members: [{role: Viewer, subject: {kind: ServiceAccount, namespace: legacy, name: a}}]}",
			"{namespace: {name: legacy}, members: [{role: Viewer, subject: {kind: ServiceAccount, namespace: tenant-cel-test, name: a}}]}",
			ownNamespace,
		},

		"too many egress rules": {"spec.isolation.egress", list(65, "{}"), list(64, "{}"), "must have at most 64 items"},
		"a quota that is no quantity": {
			"spec.quota.hard", "{requests.cpu: several}", `{requests.cpu: "2", pods: 10}`, "spec.quota.hard.requests.cpu",
		},
		"a default request that is no quantity": {
			"spec.quota.containerDefaults.requests", "{cpu: 1 core}", "{cpu: 100m}", "should match",
		},
		"a default limit that is no quantity": {
			"spec.quota.containerDefaults.limits", "{memory: 1GB}", "{memory: 1Gi}", "should match",
		},

		"too many attributes": {"spec.attributes", mapping(33, "a"), mapping(32, "a"), "must have at most 32 items"},
		"an attribute that is no variable": {
			"spec.attributes", "{1a: a}", "{a1: a}", "`attributes` must have names of at most 63 letters",
		},
		"an attribute whose name is too long": {
			"spec.attributes", "{" + strings.Repeat("a", 64) + ": a}", "{" + strings.Repeat("a", 63) + ": a}",
			"`attributes` must have names of at most 63 letters",
		},
		"attributes that are the same variable": {
			"spec.attributes", "{plan-name: a, Plan.Name: b}", "{plan-name: a, planName: b}",
			"`attributes` must have names that differ in more than case, '-', '_' and '.'",
		},
		"an attribute that is too long": {
			"spec.attributes", "{a: " + strings.Repeat("b", 1025) + "}", "{a: " + strings.Repeat("b", 1024) + "}",
			"may not be more than 1024",
		},
		"an attribute with NUL": {
			"spec.attributes", `{a: "b\0c"}`, `{a: "$(TENANT_ID); \n"}`, "`attributes` must have values without NUL",
		},

		"a credential with nothing of the tenant's own": {
			"spec.credentials", "[{name: a, providerRef: {name: a}, postgres: {}}]", "[{name: a, providerRef: {name: a}, postgres: {schema: a}}]",
			"`postgres` must have database, schema or both",
		},
		"a database of too many bytes": {
			"spec.credentials", "[{name: a, providerRef: {name: a}, postgres: {database: " + strings.Repeat("ä", 32) + "}}]",
			"[{name: a, providerRef: {name: a}, postgres: {database: " + strings.Repeat("ä", 31) + "a}}]", "`database` must have at most 63 bytes",
		},
		"a schema of too many bytes": {
			"spec.credentials", "[{name: a, providerRef: {name: a}, postgres: {schema: " + strings.Repeat("ä", 32) + "}}]",
			"[{name: a, providerRef: {name: a}, postgres: {schema: " + strings.Repeat("ä", 31) + "a}}]", "`schema` must have at most 63 bytes",
		},
		"too many credentials": {
			"spec.credentials", list(17, "{name: c%d, providerRef: {name: a}}"),
			list(16, "{name: c%d, providerRef: {name: a}}"), "must have at most 16 items",
		},
		"a credential twice": {
			"spec.credentials", "[{name: a, providerRef: {name: a}}, {name: a, providerRef: {name: b}}]",
			"[{name: a, providerRef: {name: a}}, {name: b, providerRef: {name: a}}]", "Duplicate value",
		},
		"a credential without name": {
			"spec.credentials", "[{providerRef: {name: a}}]", "[{name: a, providerRef: {name: a}}]",
			"spec.credentials[0].name: Required value",
		},
		"a credential of no provider": {
			"spec.credentials", "[{name: a}]", "[{name: a, providerRef: {name: a}}]",
			"spec.credentials[0].providerRef: Required value",
		},
		"a credential of a provider without name": {
			"spec.credentials", "[{name: a, providerRef: {}}]", "[{name: a, providerRef: {name: a}}]",
			"spec.credentials[0].providerRef.name: Required value",
		},
		"a credential of a secret without name": {
			"spec.credentials", "[{name: a, providerRef: {name: a}, secretRef: {}}]",
			"[{name: a, providerRef: {name: a}, secretRef: {name: a}}]",
			"spec.credentials[0].secretRef.name: Required value",
		},
	},
)

// zoneRules are those of a field that holds a time zone.
func zoneRules(at string) rules {
	table := rules{
		"an empty zone":           {at, `""`, "UTC", "should be at least 1 chars long"},
		"a zone that is too long": {at, "A" + strings.Repeat("a", 64), "America/Argentina/Buenos_Aires", "may not be more than 64"},
	}
	for zone, neighbour := range map[string]string{
		"Local":               "America/New_York",
		"local":               "Asia/Kolkata",
		"Mars/Base":           "Etc/GMT+5",
		"+05:30":              "GMT+0",
		"05:30":               "EST5EDT",
		"UTC+1":               "GMT0",
		"europe/berlin":       "Europe/Berlin",
		"Europe":              "America/Port-au-Prince",
		"Europe/Berlin ":      "Antarctica/DumontDUrville",
		"../etc/localtime":    "W-SU",
		"/etc/localtime":      "Etc/UTC",
		"localtime":           "Etc/UTC", // what the API server's host says, where it has that file
		"posix/Europe/Berlin": "Europe/Berlin",
	} {
		table["the zone "+zone] = rule{at, `"` + zone + `"`, neighbour, ianaZone}
	}
	return table
}
