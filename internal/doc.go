// Package internal holds the operator.
//
//	TenantJob ──observe──► job.Observed ──job.Decide──► job.Decision ──act──► Job ──► Pod
//	    ▲                                                    │
//	    └───────────────── one status write ◄────────────────┘
//
// What decides is pure and knows no API server; what talks to the API server decides nothing:
//
//	job/         TenantJob + template + Tenant -> batch/v1 Job; Job -> condition; what to do next
//	tenant/      Tenant -> namespace and everything in it; what a suspension or a deletion waits for
//	controller/  controller-runtime glue, one file a kind: observe -> decide -> act -> one status write
//
// The pure packages import api/ and each other's values at most; nothing but cmd/ and tests imports controller/. The
// linter holds these walls.
package internal
