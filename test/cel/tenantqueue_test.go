package cel_test

var tenantQueueRules = join(
	objectNameRules(63),
	numberRules("spec.maxConcurrent", 1, 1000000),
	numberRules("spec.maxConcurrentPerTenant", 1, 1000000),
	numberRules("spec.startsPerMinute", 1, 1000000),
	rules{
		"suspend is text": {"spec.suspend", `"true"`, "true", "must be of type boolean"},
	},
)
