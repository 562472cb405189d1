package cel_test

import (
	"math"
	"strings"
)

const oneTickADay = "`schedule` must have at most one tick a day with timeZoneFrom: Tenant: a single minute and a single hour"

var tenantScheduleRules = join(
	objectNameRules(40),
	zoneRules("spec.timeZone"),
	numberRules("spec.startingDeadlineSeconds", 1, math.MaxInt32),
	numberRules("spec.catchUpLimit", 0, 100),
	numberRules("spec.successfulFanOutsHistoryLimit", 0, 1000),
	numberRules("spec.failedFanOutsHistoryLimit", 0, 1000),
	templateMetadataRules("labels", "must have valid label keys, and none that start with tenantry.dev/"),
	templateMetadataRules("annotations", "must have valid keys, and none that start with tenantry.dev/"),
	expressionRules(),
	fanOutSpecRules("spec.fanOutTemplate.spec."),
	rules{
		"no spec":         {"spec", absent, strings.TrimSpace(minimal["TenantSchedule"]), "Required value"},
		"no schedule":     {"spec.schedule", absent, `"@daily"`, "spec.schedule: Required value"},
		"an empty one":    {"spec.schedule", `""`, `"@daily"`, "should be at least 1 chars long"},
		"no template":     {"spec.fanOutTemplate", absent, fanOut, "spec.fanOutTemplate: Required value"},
		"an empty fanOut": {"spec.fanOutTemplate", "{}", fanOut, "spec.fanOutTemplate.spec: Required value"},
		"a long schedule": {
			"spec.schedule", `"` + strings.Repeat("0,", 46) + `0 * * * *"`, `"` + strings.Repeat("0,", 45) + `00 * * * *"`,
			"may not be more than 100",
		},
		"timeZoneFrom":      {"spec.timeZoneFrom", "Cluster", "Tenant", `supported values: "Schedule", "Tenant"`},
		"concurrencyPolicy": {"spec.concurrencyPolicy", "Queue", "Replace", `supported values: "Allow", "Forbid", "Replace"`},

		"every hour on each tenant's clock":        onTenantsClock("0 * * * *", "0 2 * * *"),
		"every minute of an hour on its clock":     onTenantsClock("* 2 * * *", "59 23 1,15 * mon-fri"),
		"two hours on each tenant's clock":         onTenantsClock("0 2,14 * * *", "00 02 * * *"),
		"a range of hours on each tenant's clock":  onTenantsClock("0 2-4 * * *", "0 2 29 2 *"),
		"two minutes on each tenant's clock":       onTenantsClock("0,30 2 * * *", "0 2 */2 * *"),
		"a step of hours on each tenant's clock":   onTenantsClock("0 2/12 * * *", "@daily"),
		"a step of minutes on each tenant's clock": onTenantsClock("0/30 2 * * *", "@weekly"),
		"@hourly on each tenant's clock":           onTenantsClock("@hourly", "@yearly"),
	},
)

const fanOut = "{spec: {templateRef: {name: a}, tenants: {all: true}}}"

// onTenantsClock is the rule about the schedules that are read on each tenant's clock.
func onTenantsClock(refused, accepted string) rule {
	spec := func(schedule string) string {
		return `{schedule: "` + schedule + `", timeZoneFrom: Tenant, fanOutTemplate: ` + fanOut + "}"
	}
	return rule{"spec", spec(refused), spec(accepted), oneTickADay}
}

// templateMetadataRules are those of the labels or annotations that a schedule gives its fan-outs.
func templateMetadataRules(field, want string) rules {
	at := "spec.fanOutTemplate.metadata." + field
	want = "`fanOutTemplate.metadata." + field + "` " + want
	table := rules{
		field + " are too many":        {at, mapping(33, "a"), mapping(32, "a"), "must have at most 32 items"},
		field + " have the operator's": {at, "{tenantry.dev/schedule: a}", "{tag.tenantry.dev/payment: a}", want},
		field + " have a bad key":      {at, "{a b: a}", "{a_b: a}", want},
	}
	limit := 4096
	if field == "labels" {
		limit = 63
		table[field+" have a bad value"] = rule{at, "{a: b c}", "{a: b_c}", "should match"}
	}
	table[field+" have a long value"] = rule{
		at, "{a: " + strings.Repeat("b", limit+1) + "}", "{a: " + strings.Repeat("b", limit) + "}", "may not be more than",
	}
	return table
}
