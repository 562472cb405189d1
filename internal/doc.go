// Package internal holds the operator.
//
//	TenantSchedule ──tick──► TenantFanOut ──one per tenant──► TenantJob ──admitted by its TenantQueue──► Job ──► Pod
//	                          (a sealed plan)                    ▲ Tenant (who)  TenantJobTemplate (what)
//	                                                             └ CredentialProvider (with which secrets)
//
// Results flow back the same way.
//
// Pure packages decide. Values come in, values go out: they have no client and no clock.
//
//	job/         TenantJob + template + Tenant -> batch/v1 Job; Job -> condition; what to do next. What becomes of a Job, for
//	             instance of a suspended tenant's: rules_running.go; how its pods ended: exits.go; why a TenantJob without a Job
//	             waits, other than for a limit: rules_waiting.go
//	tenant/      Tenant -> namespace and everything in it, and its labels: desired.go; the steps of a suspension or a
//	             deletion: steps.go; what an adopted namespace had before, and whose its objects are: adoption.go
//	schedule/    (spec, last, now) -> due ticks, next, missed. The ticks of an expression: ticks.go; which of them are due or
//	             missed: findticks.go
//	fanout/      tenants -> plan; plan, ledger (what came of each tenant), children -> what to create, counters, waves, budget
//	queue/       waiting and running TenantJobs, limits -> who starts next: next.go, in the order of order.go; and why the
//	             others wait: holds.go has the message of each limit. Starts per minute: rate.go
//	conditions/  sets conditions, among them those that kstatus reads, and cuts messages to size
//
// Controllers talk to the API server: each pass observes, has a pure package decide, acts, and writes the status once.
//
//	kube/        what every controller needs of the API server: reading, writing, events, caches, watches, and errors.go, which
//	             says what a refusal means
//	dispatch/    the dispatcher, which owns all starts: it tells queue/ what waits and runs, and admits whoever queue/ says is
//	             next: admit.go. Its doc.go lists its files
//	credential/  what a source of credentials has to do, and those that there are: postgres/, secret/, serviceaccounttoken/
//	issuer/      the Issuer, which owns the credentials of all runs: it issues, delivers, revokes, and looks for what is left. Its doc.go
//	             lists its files
//	enforcement/ the Enforcer, which tries the admission policies of config/policy out and puts them back. Its doc.go lists its files
//	metrics/     the recorder of all Prometheus series
//	controller/  setup.go wires everything: what each controller holds. A package for each kind, none of which knows another:
//	             tenants/ templates/ jobs/ fanouts/ schedules/ queues/ credentials/. The plan of a fan-out is sealed, which means stored for
//	             good, by fanouts/seal.go. The tests run the whole operator on a real API server, with operatortest/
//
// The pure packages import api/ and each other's values at most; kube/ imports only api/ and conditions/ besides
// Kubernetes; no controller imports another one; nothing but cmd/ and tests imports controller/. The linter holds these
// walls.
package internal
