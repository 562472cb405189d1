// Package internal holds the operator.
//
//	TenantSchedule ──tick──► TenantFanOut ──one per tenant──► TenantJob ──admitted by its TenantQueue──► Job ──► Pod
//	                          (a sealed plan)                    ▲ Tenant (who)  TenantJobTemplate (what)
//	                                                             └ CredentialProvider (with which secrets)
//
// Results flow back the same way.
//
// Pure packages decide. They know no API server: values come in, values go out.
//
//	job/         TenantJob + template + Tenant -> batch/v1 Job; Job -> condition; what to do next. What becomes of a Job, of a
//	             suspended tenant's say: rules_running.go; why a TenantJob without a Job waits: rules_waiting.go
//	tenant/      Tenant -> namespace and everything in it, and its labels: desired.go; the steps of a suspension or deletion
//	schedule/    (spec, last, now) -> due ticks, next, missed
//	fanout/      tenants -> sealed plan; plan, ledger, children -> what to create, counters, waves, budget
//	queue/       waiting and running TenantJobs, limits -> who starts next, and why the others wait. The message of each
//	             limit: holds.go; starts per minute: rate.go
//	conditions/  sets conditions and kstatus progress, cuts messages to size
//
// Controllers talk to the API server: observe -> decide -> act -> one status write. They decide nothing.
//
//	kube/        what every controller needs of the API server: reading, writing, events, errors, caches, watches
//	dispatch/    the dispatcher, which owns all starts: it feeds queue/ and admits who is next
//	metrics/     one recorder, few series
//	controller/  setup.go says who holds what; a package for each kind, none of which knows another:
//	             tenants/ templates/ jobs/ fanouts/ schedules/ queues/. Its tests run the whole operator on a real API server
//
// There is no controller for CredentialProvider yet.
//
// The pure packages import api/ and each other's values at most; kube/ imports only api/ and conditions/ besides
// Kubernetes; no controller imports another one; nothing but cmd/ and tests imports controller/. The linter holds these
// walls.
package internal
