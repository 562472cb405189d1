// Package fanout decides about a TenantFanOut: which tenants are in its plan, which of their TenantJobs are created next,
// which of these may start, and what the outcome of each tenant is. It is pure: it holds no client and no clock.
//
// Two objects carry a fan-out. The Plan is sealed once and never changes. The Ledger has one mark for each planned tenant,
// in the order of the plan, and is stored again when marks have changed. The counters, the open wave, the pause and the
// conditions follow from these two, the spec and the children. So when a controller stops, the next one reads what is
// stored and goes on.
//
//	Seal ──► Plan ──► ConfigMaps       once; creating the last ConfigMap seals the plan
//	Decide(stored Ledger, children) ──► Decision ──► Ledger ConfigMap, children to create, status
//	Gate.Allowance, End, Written ──► which children may start
//
// Three rules give each tenant at most one run and exactly one outcome, even when a controller stops at any point or a
// former leader is still active:
//
//   - A child is announced in the stored ledger before it is created. A former leader whose view is outdated can create
//     only children that it had announced itself: its ledger is no longer the stored one, so its next write is refused.
//   - A child starts only after the stored ledger has it as created, with its UID. So a child that the ledger has as created
//     and that is missing may have run: it was deleted, and is not created again. Another TenantJob of its name and owner is
//     not the child, and never starts. A child that the ledger does not have as created has never run: it is created again
//     when it is missing, and a TenantJob that runs the same may take its place.
//   - An outcome in the ledger never changes. A child of a tenant that has an outcome never starts.
//
// One case is left: requests that a leader had in flight when it lost its lease may create at most MaxAnnounced children
// late. Such a child is the second one of its tenant only if the first was deleted before. It runs only if a person deleted
// the first one and the new leader has not observed that yet.
//
// Each tenant gets its outcome within a bound. What the caller can't create for too long is Refused, and a child that can't
// start for too long ends by itself, see job.TroubleClock.
//
// The absence of an object from a cache proves nothing: Decision.Check lists what must be read from the API server.
package fanout
