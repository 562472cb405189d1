package dispatch

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
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

// requests are what is to be reconciled: TenantJobs, and the queues whose starts are to be written down.
type requests struct {
	jobRequests   outbox[Request]
	queueRequests outbox[string]
	// asking is the TenantJob that asks just now. It is not requested: it gets its answer. Otherwise it would be reconciled again
	// at once, and for ever while another Job has its name.
	asking types.UID
}

// outbox has requests go through enqueue. Before that is there, it keeps them.
type outbox[T any] struct {
	enqueue func(T)
	early   []T
}

func (o *outbox[T]) send(request T) {
	if o.enqueue == nil {
		o.early = append(o.early, request)
		return
	}
	o.enqueue(request)
}

// open sends all requests through enqueue, those that came before too.
func (o *outbox[T]) open(enqueue func(T)) {
	o.enqueue = enqueue
	for _, request := range o.early {
		enqueue(request)
	}
	o.early = nil
}

// requestFirst has a TenantJob reconciled before those that have just been made.
func (r *requests) requestFirst(key types.NamespacedName) {
	r.jobRequests.send(Request{key, PriorityAdmitted})
}

// requestStatus has a TenantJob reconciled when there is nothing better to do, because its status is out of date.
func (r *requests) requestStatus(key types.NamespacedName) {
	r.jobRequests.send(Request{key, PriorityStatus})
}

// SendRequests has all requests for TenantJobs go through enqueue, those that came before too.
func (d *Dispatcher) SendRequests(enqueue func(Request)) {
	defer d.lock()()
	d.jobRequests.open(enqueue)
}

// SendQueueRequests does so for the queues whose starts are to be written down.
func (d *Dispatcher) SendQueueRequests(enqueue func(name string)) {
	defer d.lock()()
	d.queueRequests.open(enqueue)
}

// StartRecord is what is to be written down of the starts in a queue before more are made. It is nil when nothing is.
func (d *Dispatcher) StartRecord(name string) *v1alpha1.RecordedStarts {
	defer d.lock()()
	return d.state.StartRecord(name)
}

// StartsRecorded says that what StartRecord returned last has been written down.
func (d *Dispatcher) StartsRecorded(name string, record *v1alpha1.RecordedStarts) {
	defer d.lock()()
	d.state.Reserve(name, record)
	d.admit()
}
