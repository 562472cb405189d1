// Package queue decides which waiting TenantJob starts next, and says what holds the others. It has no client and no
// clock: callers pass values and the time, and State keeps what follows from them. No decision looks at all waiting
// jobs.
//
//	Set…, Put, Run, Requeue, Revoke, Remove ──► State ──Next──► which job starts, ends or replaces, or when to ask again
//	                                          ──Review, StatusHold──► what the waiting jobs' conditions should say
//
// # Order
//
// Queues alternate: the one whose last start is the longest ago comes first. Within a queue tenants share by weight.
// Within a tenant priority comes first, then age.
//
// Sharing is deficit round robin (M. Shreedhar and G. Varghese, Efficient Fair Queuing using Deficit Round Robin,
// 1995), with each deficit written as a start tag (P. Goyal, H. Vin, H. Cheng, Start-time Fair Queuing, 1996). A flow
// is all jobs of one tenant in one queue, as in the API server's priority and fairness. Each start adds 1/weight to
// the start tag of its flow. The flow with the lowest start tag is next; of equal ones, the one with the lowest
// sequence number, which a flow gets when it becomes ready and at each start. The virtual time of a queue is the start
// tag of its last start. A round robin gives a tenant of weight 100 its 100 starts in a row, and has to skip tenants
// that limits hold. Start tags interleave the tenants, and a heap can sort them.
//
// A flow that was idle continues at virtual time, so that no tenant saves up starts. It keeps a start tag that is
// ahead of virtual time, so that no tenant gains by leaving and coming back. A tenant has one flow in a queue,
// whatever its jobs are called, so that it gains nothing by splitting them.
//
// # Bounds
//
// A start tag is never more than 1/w ahead of virtual time. This bounds the wait of a tenant of weight w while only
// the queue's own limits hold its next job. Between two of its starts, each other tenant, of weight w', starts at most
// 1 + ⌊w'/w⌋ jobs, and at most one if the waiting tenant has not started a job lately. So a tenant with one job waits
// for one start of each of the others, and never for all of their thousands. Of two tenants that always have waiting
// jobs, the starts divided by the weights never differ by more than 1/w + 1/w'. Start tags do not survive a restart,
// which costs a tenant less than 1 + w'/w of those starts.
//
// A tenant gets nothing in return for the time in which its own limits held its flow. A tenant that is at its own
// maxConcurrent and waits in several queues gets its slots from these queues alternately.
//
// # Limits
//
// A job holds its slots from the decision to start it until Requeue, Revoke or Remove. A limit of zero means no limit.
// Lowering a limit stops no running job. The limit startsPerMinute allows a start when fewer than that many starts lie
// in the minute before it, so no minute has more of them, wherever it begins. A start counts from its decision, and
// after Made from then. Starts that were given back do not count. With ReserveStarts, these starts are also written down before they are made. Whenever Next has nothing to start, each waiting job is held by something.
//
// Deciding about a job that overlaps with an earlier run of its schedule takes no slot, whatever the decision is. So
// the limits of its tenant do not delay that decision: a job can replace an earlier run although its template has
// maxConcurrentPerTenant 1.
//
// # Structure
//
// The waiting jobs are in a hierarchy. Each level has a heap of those elements of the next level in which something can
// start. These heaps are named startable; that of a templateQueue is named ready.
//
//	State
//	└─ queue                     a TenantQueue
//	   └─ waveQueue              its waiting jobs of one wave of a fan-out, or all of those without a fan-out
//	      └─ flowQueue           those of one tenant
//	         └─ templateQueue    those of one template
//	            └─ entry         a TenantJob
//
//	this            is in the heap above it unless it is empty or held by
//	queue           its suspension, its maxConcurrent, its startsPerMinute
//	waveQueue       its fan-out's Held, OpenWave, maxConcurrent
//	flowQueue       its tenant's Held, back-off, maxConcurrent; the queue's maxConcurrentPerTenant
//	templateQueue   the template's maxConcurrentPerTenant
//	entry           its own Held, its NotBefore, the runs that it replaces
//
// Three structures count across the hierarchy:
//
//	flow            a tenant in a queue: its start tag and how many of its jobs wait and run
//	templateUsage   how many slots a tenant's jobs of a template hold
//	scheduleRuns    a tenant's jobs of a schedule
//
// So a limit that is reached removes few elements: a templateQueue (template), the flowQueues of a tenant (tenant,
// queue per tenant), a waveQueue (fan-out) or a queue. Thousands of jobs that the same limit holds cost nothing, and a
// fan-out of 10,000 with room for one more touches only the next of its jobs. A decision costs O(log n), and as much
// again for each fan-out of which the tenant has waiting jobs in the queue, if the tenant starts or reaches or leaves
// a limit.
package queue
