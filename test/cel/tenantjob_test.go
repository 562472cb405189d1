package cel_test

import (
	"math"
	"strings"
)

var tenantJobRules = join(
	objectNameRules(63),
	labelRules("tenantRef", "spec.tenantRef.name", "%s", 40),
	labelRules("templateRef", "spec.templateRef.name", "%s", 63),
	numberRules("spec.maxWaitSeconds", 1, math.MaxInt32),
	timeRules("spec.notBeforeTime"),
	parameterRules("spec.parameters"),
	rules{
		"no spec":                  {"spec", absent, "{tenantRef: {name: a}, templateRef: {name: b}}", "Required value"},
		"no tenantRef":             {"spec", "{templateRef: {name: b}}", "{tenantRef: {name: a}, templateRef: {name: b}}", "spec.tenantRef: Required value"},
		"no templateRef":           {"spec", "{tenantRef: {name: a}}", "{tenantRef: {name: a}, templateRef: {name: b}}", "spec.templateRef: Required value"},
		"tenantRef without name":   {"spec.tenantRef", "{}", "{name: a}", "spec.tenantRef.name: Required value"},
		"templateRef without name": {"spec.templateRef", "{}", "{name: a}", "spec.templateRef.name: Required value"},
		"cancel is text":           {"spec.cancel", `"true"`, "true", "must be of type boolean"},
	},
)

// timeRules are those of a field that holds a time. What passes must be what Go can read: one object that it can't read
// would hide all others from the operator.
func timeRules(at string) rules {
	const rfc3339 = "`notBeforeTime` must be an RFC 3339 time such as 2026-11-24T02:00:00Z"
	return rules{
		"no time":                 {at, "tomorrow", `"2026-11-24T02:00:00Z"`, "must be of type date-time"},
		"a date":                  {at, `"2026-11-24"`, `"2026-11-24T00:00:00+00:00"`, "must be of type date-time"},
		"a time without zone":     {at, `"2026-11-24T02:00:00"`, `"2026-11-24T02:00:00-05:00"`, "must be of type date-time"},
		"a time in lower case":    {at, `"2026-11-24t02:00:00z"`, `"2026-11-24T02:00:00Z"`, rfc3339},
		"a zone beyond the globe": {at, `"2026-11-24T02:00:00+99:99"`, `"2026-11-24T02:00:00+14:00"`, rfc3339},
		"a fraction of letters":   {at, `"2026-11-24T02:00:00x1Z"`, `"2026-11-24T02:00:00.1Z"`, rfc3339},
		"a time before all times": {at, `"0001-01-01T00:00:00Z"`, `"1970-01-01T00:00:00Z"`, rfc3339},
	}
}

// parameterRules are those of the values that are given for parameters.
func parameterRules(at string) rules {
	const names = "`parameters` must have names of at most 63 letters and digits, starting with a letter"
	return rules{
		"a parameter without a name":               {at, `{"": a}`, "{a: a}", names},
		"a parameter's name is too long":           {at, "{" + strings.Repeat("a", 64) + ": a}", "{" + strings.Repeat("a", 63) + ": a}", names},
		"a parameter's name starts with a digit":   {at, `{a: a, "1a": a}`, "{a: a, a1: a}", names},
		"a parameter's name has an underscore":     {at, "{a_b: a}", "{aB: a}", names},
		"a parameter's name has a line break":      {at, `{"a\n": a}`, "{a: a}", names},
		"a parameter's name is most of the object": {at, "{? " + strings.Repeat("a", 1<<20) + " : a}", "{a: a}", names},
		"too many parameters":                      {at, mapping(33, "a"), mapping(32, "a"), "must have at most 32 items"},
		"a parameter that is too long": {
			at, "{a: " + strings.Repeat("b", 4097) + "}", "{a: " + strings.Repeat("b", 4096) + "}", "may not be more than 4096",
		},
		"a parameter with NUL":         {at, `{a: "b\0"}`, `{a: "$(TENANT_ID)\n'; DROP"}`, "`value` must not contain NUL"},
		"a parameter that is a number": {at, "{a: 3}", `{a: "3"}`, "must be of type string"},
	}
}
