// Package fanout decides about a TenantFanOut from values alone: which tenants are in its plan, which of their TenantJobs
// are made next, which of them may start, and what came of each. It holds no client and no clock.
//
// A fan-out is carried by two objects. The Plan is sealed once and never changes. The Ledger holds a mark for every
// planned tenant, in plan order, and is written over and over. Everything else (counters, open wave, pause, conditions)
// follows from these two, the spec, and the children, so a controller that dies anywhere goes on from what is stored.
//
//	Seal ──► Plan ──► ConfigMaps       once; the last ConfigMap is the fence
//	Decide(stored Ledger, children) ──► Decision ──► Ledger ConfigMap, children to make, status
//	Gate.Hold ──► whether a child may start
//
// Three rules keep it to one run and one outcome for each tenant, whatever dies and whenever:
//
//   - A child is announced in the stored ledger before it is made. An old leader with a stale view can't make any but
//     those that it had announced itself, since its ledger is no longer the stored one and its write is refused.
//   - A child starts only once the stored ledger says that it was made. So one that ran and is gone was deleted, and is
//     not made again; one that is gone and was not recorded yet has never run, and is.
//   - An outcome once in the ledger never changes. A child that appears with one never starts.
//
// What remains are creations that a leader had under way when it lost its lease: at most Window of them, late. Such a
// child is made a second time only if the first is gone by then, and runs only if a person deleted that one in between
// and the new leader has not looked in the meantime.
//
// Nothing is concluded from an object's absence in a cache: Decision.Check lists what has to be read from the API server.
package fanout
