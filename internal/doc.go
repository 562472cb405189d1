// Package internal holds the operator.
//
//	TenantSchedule ──tick──► TenantFanOut ──one per tenant──► TenantJob ──admitted by its TenantQueue──► Job ──► Pod
//	                          (a sealed plan)                    ▲ Tenant (who)  TenantJobTemplate (what)
//	                                                             └ CredentialProvider (with which secrets)
//
// Results flow back the same way. What decides is pure and knows no API server; what talks to the API server decides
// nothing:
//
//	job/         TenantJob + template + Tenant -> batch/v1 Job; Job -> condition; what to do next
//	tenant/      Tenant -> namespace and everything in it; what a suspension or a deletion waits for
//	schedule/    (spec, last, now) -> due ticks, next, missed
//	fanout/      tenants -> sealed plan; plan, ledger, children -> what to create, counters, waves, budget
//	queue/       waiting and running TenantJobs, limits -> who starts next, and why the others wait
//	metrics/     one recorder, few series
//	controller/  controller-runtime glue, one file a kind: observe -> decide -> act -> one status write; and the
//	             dispatcher, which owns all starts
//
// There is no controller for CredentialProvider yet.
//
// The pure packages import api/ and each other's values at most; nothing but cmd/ and tests imports controller/. The
// linter holds these walls.
package internal
