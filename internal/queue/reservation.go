package queue

import "time"

// A limit on starts per minute must hold across a restart, and the Jobs of the starts before it may be gone. So a record of the
// starts is stored before they are made: those of the last minute, and how many more there may be until the next record. A new
// leader takes these for made. Each reservation is for a part of the limit, which is at most what a restart costs.

const (
	// reservations is of how many reservations a minute's starts consist, if they all are made.
	reservations = 6
	// recordInterval is the time for which a record has one number of starts.
	recordInterval = 5 * time.Second
)

// StartRecord is what is stored of the starts in a queue.
type StartRecord struct {
	// Time is when it was made.
	Time time.Time
	// Reserved is how many starts may have been made since.
	Reserved int
	// Recent are the starts of the minute before it, in intervals of five seconds.
	Recent []StartCount
}

// StartCount is a number of starts, none of them later than a time.
type StartCount struct {
	Time  time.Time
	Count int
}

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

// StartRecord is what is to be stored before Reserve. It is false for a queue in which nothing waits for that.
func (s *State) StartRecord(name string) (StartRecord, bool) {
	q := s.queues[name]
	if q == nil || !q.unreserved {
		return StartRecord{}, false
	}
	q.starts.prune(s.now)
	record := StartRecord{Time: s.now}
	for _, at := range q.starts.times {
		if rounded := at.Truncate(recordInterval); rounded.Before(at) {
			at = rounded.Add(recordInterval)
		}
		if n := len(record.Recent); n > 0 && record.Recent[n-1].Time.Equal(at) {
			record.Recent[n-1].Count++
		} else {
			record.Recent = append(record.Recent, StartCount{at, 1})
		}
	}
	limit := int(q.StartsPerMinute)
	record.Reserved = max(1, min((limit+reservations-1)/reservations, limit-len(q.starts.times)))
	return record, true
}

// Reserve lets n jobs start in a queue whose record of starts has been stored.
func (s *State) Reserve(name string, n int) {
	if q := s.queues[name]; q != nil && q.unreserved {
		q.reserved, q.unreserved = n, false
		s.updateQueue(q)
	}
}
