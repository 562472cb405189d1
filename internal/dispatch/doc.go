// Package dispatch decides which TenantJob starts next, and knows what starts: the Dispatcher owns all starts.
//
//	watches ──Tenants, templates, queues, Jobs──► queue.State ──whoever is next──► admitted ──request──► TenantJob controller
//	TenantFanOut controller ──SetFanOut───────────►   ▲                                                        │
//	Tenant controller ──LockTenant────────────────►   └──────Ask, Wait, Report─────────────────────────────────┘
//
// A TenantJob that may start but for limits asks (Ask), and joins the queue. When it is next it is admitted: it has
// a slot, and a request has its controller reconcile it, which asks again and begins the start. The slot is held while the
// Job is made, lives, or has pods that have not ended.
//
// Each file holds one part of what the Dispatcher knows:
//
//	dispatcher.go  what the TenantJob controller calls: Standing, Ask, Wait, Report
//	admit.go       whoever is next: admissions, and ends that are decided here
//	slots.go       who holds a slot
//	starts.go      starts under way, those of which the caches show too little yet, and rushes of them
//	tenants.go     what Tenants allow, and tenants that are locked
//	backoff.go     tenants whose starts fail
//	fanouts.go     what fan-outs allow their children
//	watches.go     what the watches bring
//	restart.go     what has to be known before anything starts, and what no event tells
//	startrecords.go the starts that an earlier leader has written down
//	overlap.go     which earlier run of a schedule a run overlaps with, and whether that gives way
//	requests.go    which TenantJobs and queues are to be reconciled
//	loop.go        the goroutine that runs on the leader
//	lease.go       whether this process is the leader
package dispatch
