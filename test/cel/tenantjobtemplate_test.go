package cel_test

import (
	"math"
	"strings"
)

var tenantJobTemplateRules = join(
	objectNameRules(63),
	labelRules("queueRef", "spec.queueRef.name", "%s", 63),
	labelRules("a credential's name", "spec.credentials", "[{name: %s}]", 63),
	textRules("a parameter's name", "spec.parameters", "[{name: %s}]", "^[A-Za-z][A-Za-z0-9]*$", "graceDays2",
		[]string{"grace_days", "2nd", "a b", "a.b"}, 63),
	textRules("a parameter's variable", "spec.parameters", "[{name: a, env: %s}]", "^[A-Za-z_][A-Za-z0-9_]*$", "_GRACE_DAYS2",
		[]string{"GRACE-DAYS", "2ND", "A=B", "$(A)"}, 128),
	textRules("a credential's variable", "spec.credentials", "[{name: a, env: [{name: %s, key: password}]}]",
		"^[A-Za-z_][A-Za-z0-9_]*$", "_DB_PASSWORD2", []string{"DB-PASSWORD", "2ND"}, 128),
	textRules("a credential's key", "spec.credentials", "[{name: a, env: [{name: A, key: %s}]}]", "^[-._a-zA-Z0-9]+$",
		"tls.crt", []string{"../token", "a b"}, 253),
	numberRules("spec.maxConcurrentPerTenant", 1, 100000),
	numberRules("spec.maxWaitSeconds", 1, math.MaxInt32),
	numberRules("spec.ttlSecondsAfterFinished", 0, math.MaxInt32),
	numberRules("spec.failedTTLSecondsAfterFinished", 0, math.MaxInt32),
	reservedVariables("a parameter's", "[{name: a, env: %s}]", "spec.parameters", "`env` must not be TENANT_ID, TENANT_NAME, "+
		"SERVICE_BINDING_ROOT or start with TENANTRY_"),
	reservedVariables("a credential's", "[{name: a, env: [{name: %s, key: a}]}]", "spec.credentials",
		"`env.name` must not be TENANT_ID, TENANT_NAME, SERVICE_BINDING_ROOT or start with TENANTRY_"),
	rules{
		"no spec":        {"spec", absent, strings.TrimSpace(minimal["TenantJobTemplate"]), "Required value"},
		"no jobTemplate": {"spec", "{description: a}", strings.TrimSpace(minimal["TenantJobTemplate"]), "spec.jobTemplate: Required value"},
		"no containers": {
			"spec.jobTemplate.spec.template.spec", "{restartPolicy: Never}", "{containers: [{name: a}]}",
			"spec.jobTemplate.spec.template.spec.containers: Required value",
		},
		"priority":        {"spec.priority", "Urgent", "High", `supported values: "High", "Medium", "Low"`},
		"queueRef is {}":  {"spec.queueRef", "{}", "{name: default}", "spec.queueRef.name: Required value"},
		"description":     {"spec.description", strings.Repeat("a", 1025), strings.Repeat("a", 1024), "may not be more than 1024"},
		"members of whom": {"spec.memberDispatch", "{}", "{tenantSelector: {}}", "spec.memberDispatch.tenantSelector: Required value"},

		"too many parameters": {"spec.parameters", list(33, "{name: p%d}"), list(32, "{name: p%d}"), "must have at most 32 items"},
		"a parameter twice":   {"spec.parameters", "[{name: a}, {name: a}]", "[{name: a}, {name: A}]", "Duplicate value"},
		"a parameter without name": {
			"spec.parameters", "[{env: A}]", "[{name: a, env: A}]", "spec.parameters[0].name: Required value",
		},
		"a parameter's type": {
			"spec.parameters", "[{name: a, type: Number}]", "[{name: a, type: Integer}]",
			`supported values: "String", "Integer", "Boolean"`,
		},
		"a parameter's description": {
			"spec.parameters", "[{name: a, description: " + strings.Repeat("a", 1025) + "}]",
			"[{name: a, description: " + strings.Repeat("a", 1024) + "}]", "may not be more than 1024",
		},
		"an empty pattern": {
			"spec.parameters", `[{name: a, pattern: ""}]`, `[{name: a, pattern: "^$"}]`, "should be at least 1 chars long",
		},
		"a pattern that is too long": {
			"spec.parameters", "[{name: a, pattern: " + strings.Repeat("a", 513) + "}]",
			"[{name: a, pattern: " + strings.Repeat("a", 512) + "}]", "may not be more than 512",
		},
		"a required parameter with a default": {
			"spec.parameters", `[{name: a, required: true, default: ""}]`, `[{name: a, required: false, default: ""}]`,
			"`default` must not be set on a required parameter",
		},
		"a default that is not in enum": {
			"spec.parameters", "[{name: a, enum: [sms, mail], default: fax}]", "[{name: a, enum: [sms, mail], default: mail}]",
			"`default` must be one of enum",
		},
		"a default that is too long": {
			"spec.parameters", "[{name: a, default: " + strings.Repeat("a", 4097) + "}]",
			"[{name: a, default: " + strings.Repeat("a", 4096) + "}]", "may not be more than 4096",
		},
		"a default with NUL": {
			"spec.parameters", `[{name: a, default: "b\0"}]`, `[{name: a, default: "b\n"}]`, "`value` must not contain NUL",
		},
		"a default that is a number": {
			"spec.parameters", "[{name: a, default: 3}]", `[{name: a, default: "3"}]`, "must be of type string",
		},
		"an empty enum": {"spec.parameters", "[{name: a, enum: []}]", "[{name: a, enum: [b]}]", "should have at least 1 items"},
		"too many values in enum": {
			"spec.parameters", "[{name: a, enum: " + list(65, "v%d") + "}]", "[{name: a, enum: " + list(64, "v%d") + "}]",
			"must have at most 64 items",
		},
		"a value twice in enum": {"spec.parameters", "[{name: a, enum: [b, b]}]", "[{name: a, enum: [b, B]}]", "Duplicate value"},
		"a value in enum that is too long": {
			"spec.parameters", "[{name: a, enum: [" + strings.Repeat("a", 4097) + "]}]",
			"[{name: a, enum: [" + strings.Repeat("a", 4096) + "]}]", "may not be more than 4096",
		},
		"a value in enum with NUL": {
			"spec.parameters", `[{name: a, enum: ["b\0"]}]`, `[{name: a, enum: [""]}]`, "`value` must not contain NUL",
		},

		"too many credentials": {"spec.credentials", list(17, "{name: c%d}"), list(16, "{name: c%d}"), "must have at most 16 items"},
		"a credential twice":   {"spec.credentials", "[{name: a}, {name: a}]", "[{name: a}, {name: b}]", "Duplicate value"},
		"a credential without name": {
			"spec.credentials", "[{env: [{name: A, key: a}]}]", "[{name: a, env: [{name: A, key: a}]}]",
			"spec.credentials[0].name: Required value",
		},
		"too many variables": {
			"spec.credentials", "[{name: a, env: " + list(17, "{name: A%d, key: a}") + "}]",
			"[{name: a, env: " + list(16, "{name: A%d, key: a}") + "}]", "must have at most 16 items",
		},
		"a variable twice": {
			"spec.credentials", "[{name: a, env: [{name: A, key: a}, {name: A, key: b}]}]",
			"[{name: a, env: [{name: A, key: a}, {name: B, key: a}]}]", "Duplicate value",
		},
		"a variable without name": {
			"spec.credentials", "[{name: a, env: [{key: a}]}]", "[{name: a, env: [{name: A, key: a}]}]",
			"spec.credentials[0].env[0].name: Required value",
		},
		"a variable without key": {
			"spec.credentials", "[{name: a, env: [{name: A}]}]", "[{name: a, env: [{name: A, key: a}]}]",
			"spec.credentials[0].env[0].key: Required value",
		},
	},
)

// reservedVariables are the rules that keep the operator's own environment variables its own.
func reservedVariables(whose, value, at, want string) rules {
	table := rules{}
	for variable, neighbour := range map[string]string{
		"TENANT_ID":            "TENANT_IDS",
		"TENANT_NAME":          "TENANT_NAMES",
		"SERVICE_BINDING_ROOT": "SERVICE_BINDING_ROOTS",
		"TENANTRY_":            "TENANTRY",
		"TENANTRY_JOB_UID":     "tenantry_job_uid",
	} {
		table[whose+" variable "+variable] = rule{
			at, fill(value, variable), fill(value, neighbour), want,
		}
	}
	return table
}
