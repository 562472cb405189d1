package cel_test

import "math"

var tenantFanOutRules = join(
	objectNameRules(63),
	fanOutSpecRules("spec."),
	rules{
		"no spec": {"spec", absent, "{templateRef: {name: a}, tenants: {all: true}}", "Required value"},
		"a retry of itself": {
			"spec", "{templateRef: {name: a}, tenants: {retryOf: {name: cel-test}}}", "{templateRef: {name: a}, tenants: {retryOf: {name: another}}}",
			"`spec.tenants.retryOf.name` must name another TenantFanOut",
		},
	},
)

// fanOutSpecRules are those of a TenantFanOut's spec, there and in a TenantSchedule.
func fanOutSpecRules(prefix string) rules {
	return join(
		labelRules("templateRef", "templateRef.name", "%s", 63),
		labelRules("a tenant's name", "tenants", "{names: [%s]}", 40),
		labelRules("an excluded tenant's name", "tenants", "{all: true, exclude: [%s]}", 40),
		labelRules("the fan-out to retry", "tenants", "{retryOf: {name: %s}}", 63),
		labelRules("a wave's name", "strategy.waves", "[{name: %s, size: 1}]", 63),
		numberRules("spreadSeconds", 0, 86400),
		numberRules("ttlSecondsAfterFinished", 0, math.MaxInt32),
		parameterRules("parameters"),
		shareRules("strategy.maxConcurrent", "%s", "`maxConcurrent` must be a number from 1 to 1000000", 1),
		shareRules("strategy.maxFailures", "%s", "`maxFailures` must be a number from 0 to 1000000", 0),
		shareRules("strategy.waves", "[{name: a, size: %s}]", "`size` must be a number from 1 to 1000000", 1),
		shareRules("strategy.waves", "[{name: b, size: 1, maxFailures: %s}]", "`maxFailures` must be a number from 0 to 1000000", 0),
		rules{
			"templateRef without name": {"templateRef", "{}", "{name: a}", "templateRef.name: Required value"},
			"no templateRef":           {"templateRef", absent, "{name: a}", "templateRef: Required value"},
			"no tenants":               {"tenants", absent, "{all: true}", "tenants: Required value"},

			"tenants by nothing": {
				"tenants", "{}", "{all: true}", "`tenants` must have exactly one of all, selector, names, retryOf",
			},
			"tenants by exclusion only": {
				"tenants", "{exclude: [a]}", "{all: true, exclude: [a]}", "`tenants` must have exactly one of",
			},
			"tenants by two ways": {
				"tenants", "{all: true, selector: {}}", "{selector: {}}", "`tenants` must have exactly one of",
			},
			"tenants by names and selector": {
				"tenants", "{names: [a], selector: {}}", "{names: [a]}", "`tenants` must have exactly one of",
			},
			"tenants by names and retryOf": {
				"tenants", "{names: [a], retryOf: {name: b}}", "{retryOf: {name: b}}", "`tenants` must have exactly one of",
			},
			"all is false": {"tenants", "{all: false}", "{all: true}", "`all` must be true or left out"},
			"no names":     {"tenants", "{names: []}", "{names: [a]}", "should have at least 1 items"},
			"too many names": {
				"tenants", "{names: " + list(10001, "t%d") + "}", "{names: " + list(10000, "t%d") + "}",
				"must have at most 10000 items",
			},
			"a name twice": {"tenants", "{names: [a, a]}", "{names: [a, b]}", "Duplicate value"},
			"too many exclusions": {
				"tenants", "{all: true, exclude: " + list(1001, "t%d") + "}", "{all: true, exclude: " + list(1000, "t%d") + "}",
				"must have at most 1000 items",
			},
			"an exclusion twice": {"tenants", "{all: true, exclude: [a, a]}", "{all: true, exclude: []}", "Duplicate value"},
			"a retry of nothing": {"tenants", "{retryOf: {}}", "{retryOf: {name: a}}", "retryOf.name: Required value"},
			"a retry of no outcome": {
				"tenants", "{retryOf: {name: a, outcomes: []}}", "{retryOf: {name: a, outcomes: [Failed]}}",
				"should have at least 1 items",
			},
			"a retry of an outcome twice": {
				"tenants", "{retryOf: {name: a, outcomes: [Failed, Failed]}}",
				"{retryOf: {name: a, outcomes: [Failed, Skipped]}}", "Duplicate value",
			},
			"a retry of too many outcomes": {
				"tenants", "{retryOf: {name: a, outcomes: [Failed, Skipped, Failed]}}",
				"{retryOf: {name: a, outcomes: [Skipped]}}", "must have at most 2 items",
			},
			"a retry of what succeeded": {
				"tenants", "{retryOf: {name: a, outcomes: [Succeeded]}}", "{retryOf: {name: a, outcomes: [Skipped]}}",
				`supported values: "Failed", "Skipped"`,
			},

			"too many waves": {
				"strategy.waves", list(17, "{name: w%d, size: 1}"), list(16, "{name: w%d, size: 1}"), "must have at most 16 items",
			},
			"a wave twice": {
				"strategy.waves", "[{name: a, size: 1}, {name: a, size: 2}]", "[{name: a, size: 1}, {name: b, size: 1}]",
				"Duplicate value",
			},
			"a wave without name": {
				"strategy.waves", "[{size: 1}]", "[{name: a, size: 1}]", "strategy.waves[0].name: Required value",
			},
			"a wave of nobody": {
				"strategy.waves", "[{name: a}]", "[{name: a, selector: {}}]",
				"`waves` must each have exactly one of selector and size",
			},
			"a wave by two ways": {
				"strategy.waves", "[{name: a, size: 1, selector: {}}]", "[{name: a, size: 1}]",
				"`waves` must each have exactly one of selector and size",
			},
		},
	).under(prefix)
}

// shareRules are those of a field that holds a number or a percentage.
func shareRules(at, value, want string, least int) rules {
	const percentage = "should match '^(100|[1-9]"
	table := rules{}
	add := func(refused, accepted, want string) {
		table[at+": "+fill(value, refused)] = rule{at, fill(value, refused), fill(value, accepted), want}
	}
	add("1000001", "1000000", want)
	add("3000000000", "10000", want)
	add("-1", "100%", want)
	add("101%", "100%", percentage)
	add("50.5%", "50%", percentage)
	add("05%", "5%", percentage)
	add("'5'", "5", percentage)
	add("half", "50%", percentage)
	add("-5%", "5%", percentage)
	if least == 0 {
		table[at+" is nothing"] = rule{at, fill(value, "00%"), fill(value, "0%"), percentage}
	} else {
		add("0", "1", want)
		add("0%", "1%", percentage)
	}
	return table
}
