package dispatch

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/internal/queue"
)

// Priorities of requests in the work queue of the TenantJob controller, where 0 is normal and higher comes first.
const (
	// PriorityAdmitted is that of TenantJobs that are admitted, or that are to end.
	PriorityAdmitted = 10
	// PriorityStarted is that of the first status of those that have started.
	PriorityStarted = -20
	// PriorityStatus is that of a status message that is out of date.
	PriorityStatus = -30
)

// Request is for a TenantJob to be reconciled.
type Request struct {
	types.NamespacedName
	Priority int
}

// requests are the TenantJobs that are to be reconciled.
type requests struct {
	// enqueue takes them. Before it is there, they are kept in early.
	enqueue func(Request)
	early   []Request
	// asking is the TenantJob that asks just now. It is not requested: it gets its answer. Otherwise it would be reconciled again
	// at once, and for ever while another Job has its name.
	asking types.UID
	// enqueueQueue takes the queues whose starts are to be written down. Before it is there, they are kept in earlyQueues.
	enqueueQueue func(name string)
	earlyQueues  []string
}

// requestFirst has a TenantJob reconciled before those that have just been made.
func (r *requests) requestFirst(key types.NamespacedName) { r.request(Request{key, PriorityAdmitted}) }

// requestStatus has a TenantJob reconciled when there is nothing better to do, because its status is out of date.
func (r *requests) requestStatus(key types.NamespacedName) { r.request(Request{key, PriorityStatus}) }

func (r *requests) request(req Request) {
	if r.enqueue == nil {
		r.early = append(r.early, req)
		return
	}
	r.enqueue(req)
}

// SendRequests has all requests go through enqueue, those that came before too.
func (d *Dispatcher) SendRequests(enqueue func(Request)) {
	defer d.lock()()
	d.enqueue = enqueue
	for _, req := range d.early {
		enqueue(req)
	}
	d.early = nil
}

// requestQueue has a queue reconciled, because its starts are to be written down.
func (r *requests) requestQueue(name string) {
	if r.enqueueQueue == nil {
		r.earlyQueues = append(r.earlyQueues, name)
		return
	}
	r.enqueueQueue(name)
}

// SendQueueRequests has all queues whose starts are to be written down go through enqueue, those that came before too.
func (d *Dispatcher) SendQueueRequests(enqueue func(name string)) {
	defer d.lock()()
	d.enqueueQueue = enqueue
	for _, name := range d.earlyQueues {
		enqueue(name)
	}
	d.earlyQueues = nil
}

// StartRecord is what is to be written down of the starts in a queue before more are made. It is false when nothing is.
func (d *Dispatcher) StartRecord(name string) (queue.StartRecord, bool) {
	defer d.lock()()
	return d.state.StartRecord(name)
}

// StartsRecorded says that what StartRecord returned last has been written down.
func (d *Dispatcher) StartsRecorded(name string, record queue.StartRecord) {
	defer d.lock()()
	d.state.Reserve(name, record.Reserved)
	d.admit()
}
