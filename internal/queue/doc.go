// Package queue decides which TenantJob that waits starts next, and says of the others what holds them. It holds no
// client and no clock: it is fed with values, keeps what follows from them, and never looks at all that wait.
//
//	Set…, Put, Run, Back, Remove ──► State ──Next──► who starts, ends or replaces, or when to ask again
//	                                       ──Review, Hold, Place──► what to say of those that wait
//
// # Order
//
// Queues take turns, the one that started the longest ago first. Within a queue tenants share by weight, and within a
// tenant priority comes first, then age. Sharing is deficit round robin (M. Shreedhar and G. Varghese, Efficient Fair
// Queuing using Deficit Round Robin, 1995) with every deficit written as a start tag (P. Goyal, H. Vin, H. Cheng,
// Start-time Fair Queuing, 1996): each start moves its tenant's tag 1/weight ahead, the lowest tag is next, equal tags
// take turns, and the queue's virtual time is the tag of its last start. A ring visits a tenant of weight 100 for 100
// starts in a row, and has to step over tenants that limits hold; tags interleave them, and go in a heap.
//
// A line that was idle comes back at virtual time, so nobody saves up, and keeps a tag that lies ahead, so nobody is new
// twice. A tenant is one line in a queue, whatever its jobs are called: splitting them gains nothing.
//
// # Bounds
//
// A tag is never more than 1/w ahead of virtual time. So between two starts of a tenant of weight w, while only the
// queue's own limits hold its next job, each other tenant, of weight w', starts at most 1 + ⌊w'/w⌋ jobs, and at most one
// if the tenant has not started lately: a tenant with one job waits for one start of each of the others, and never
// behind their thousands. Of two tenants that always have something waiting, the starts divided by the weights are never
// further apart than 1/w + 1/w'. Tags do not survive a restart: it costs a tenant less than 1 + w'/w of those starts.
//
// When a tenant's own limits hold a line, nothing is owed to it for that time. A tenant that is at its own maxConcurrent
// and waits in several queues gets its slots from them in turn.
//
// # Limits
//
// Slots are counted by what holds them, from the decision to start until Back or Remove. A limit of zero is none.
// Lowering one stops nothing. A start is allowed by startsPerMinute when fewer than that many lie in the minute before
// it, so no minute, wherever it begins, has more; starts that came to nothing do not count. Whenever Next has nothing to
// start, something holds each one that waits.
//
// A job that overlaps with an earlier run of its schedule takes no slot, whatever is decided, so limits of its tenant do
// not keep it from being decided when its turn comes: a template with maxConcurrentPerTenant 1 can still be replaced.
//
// # How
//
// Those that wait are in heaps of heaps, each of which has only what can start as far as it goes:
//
//	ready queues ◄ groups ◄ stalls ◄ lanes ◄ jobs
//
// A group is a wave of a fan-out, or all that is nobody's child; a stall is a tenant's part in it; a lane is one template
// of that. A limit that fills up takes out one thing: a lane (template), a tenant's stalls (tenant, queue per tenant), a
// group (fan-out), a queue. So thousands that the same limit holds are not in the way, and a fan-out of 10,000 that has
// room for one more wakes nobody but the next. A decision costs O(log n), and as much again for each fan-out in which
// the tenant that starts, or whose limit fills up or empties, waits in the queue.
package queue
