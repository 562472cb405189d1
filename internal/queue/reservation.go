package queue

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// A limit on starts per minute must hold across a restart, and the Jobs of the starts before it may be gone. So a record of the
// starts is stored before they are made: those of the last minute, and how many more there may be until the next record. A new
// leader takes these for made. Each reservation is for a part of the limit, which is at most what a restart costs.

const (
	// reservations is of how many reservations a minute's starts consist, if they all are made.
	reservations = 6
	// recordInterval is the time for which a record has one number of starts.
	recordInterval = 5 * time.Second
)

// ReserveStarts lets no more start in queues with startsPerMinute than is reserved.
func (s *State) ReserveStarts() { s.reservesStarts = true }

func (s *State) needsReservation(q *queue) bool {
	return s.reservesStarts && q.StartsPerMinute > 0 && q.reserved == 0
}

// Unreserved returns the queues in which something could start if starts were reserved. It returns each of them once: until Reserve
// nothing starts there.
func (s *State) Unreserved() []string {
	names := s.unreserved
	s.unreserved = nil
	return names
}

// StartRecord is what is to be stored before Reserve: the starts of the last minute, in intervals of five seconds, and how many more
// there may be. It is nil for a queue in which nothing waits for that.
func (s *State) StartRecord(name string) *v1alpha1.RecordedStarts {
	q := s.queues[name]
	if q == nil || !q.unreserved {
		return nil
	}
	q.starts.prune(s.now)
	record := &v1alpha1.RecordedStarts{Time: metav1.NewMicroTime(s.now)}
	for _, at := range q.starts.times {
		if rounded := at.Truncate(recordInterval); rounded.Before(at) {
			at = rounded.Add(recordInterval)
		}
		if n := len(record.Recent); n > 0 && record.Recent[n-1].Time.Time.Equal(at) {
			record.Recent[n-1].Count++
		} else {
			record.Recent = append(record.Recent, v1alpha1.RecordedStart{Time: metav1.NewTime(at), Count: 1})
		}
	}
	limit := q.StartsPerMinute
	record.Reserved = new(max(1, min((limit+reservations-1)/reservations, limit-int32(len(q.starts.times)))))
	return record
}

// Reserve lets as many jobs start in a queue as the record says that was stored of its starts.
func (s *State) Reserve(name string, record *v1alpha1.RecordedStarts) {
	if q := s.queues[name]; q != nil && q.unreserved {
		q.reserved, q.unreserved = int(*record.Reserved), false
		s.updateQueue(q)
	}
}
