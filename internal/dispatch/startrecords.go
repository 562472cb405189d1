package dispatch

import (
	"context"
	"fmt"
	"time"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

// startRecords are the starts that an earlier leader has written down, by queue.
type startRecords map[string]*startRecord

// startRecord is one of them. Later counts the Jobs made after it that are still there.
type startRecord struct {
	v1alpha1.RecordedStarts
	later int
}

// findStarts reads what the queues on the API server say of their starts: the cache may be behind what an earlier leader wrote.
func (l *loop) findStarts(ctx context.Context) (startRecords, error) {
	var queues v1alpha1.TenantQueueList
	if err := l.live.List(ctx, &queues); err != nil {
		return nil, fmt.Errorf("listing TenantQueues: %w", err)
	}
	records := startRecords{}
	for _, q := range queues.Items {
		if q.Status.Starts != nil {
			records[q.Name] = &startRecord{RecordedStarts: *q.Status.Starts}
		}
	}
	return records, nil
}

// startOf is when the run of a Job started, for startsPerMinute.
func (r startRecords) startOf(j client.Object) time.Time {
	return r.start(queueOf(j), j.GetCreationTimestamp().Time)
}

// start is when a run started whose Job was created at a time. Zero means that the record of its queue has that start already.
func (r startRecords) start(name string, created time.Time) time.Time {
	record := r[name]
	switch {
	case record == nil:
	case !roundUp(created).After(record.Time.Time):
		return time.Time{}
	default:
		record.later++
	}
	return roundUp(created)
}

// restore counts the starts that are recorded and whose Jobs were not counted. A start that was reserved may have been made just now.
func (r startRecords) restore(state *queue.State, now time.Time) {
	for name, record := range r {
		for _, recent := range record.Recent {
			for range recent.Count {
				state.RecordStart(name, recent.Time.Time)
			}
		}
		for range int(ptr.Deref(record.Reserved, 0)) - record.later {
			state.RecordStart(name, now)
		}
	}
}
