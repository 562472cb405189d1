package queue

import (
	"slices"
	"time"
)

// window is the minute of startsPerMinute.
const window = time.Minute

// startLog has the starts of the last minute. A start is allowed when fewer than startsPerMinute of them lie in the
// minute before it, so that no minute ever has more. Starts are recorded without a limit, too, since a limit may be
// set later.
type startLog struct {
	times    []time.Time
	unsorted bool
}

func (l *startLog) add(t time.Time) {
	if n := len(l.times); n > 0 && t.Before(l.times[n-1]) {
		l.unsorted = true
	}
	l.times = append(l.times, t)
}

// remove removes a start that was given back.
func (l *startLog) remove(t time.Time) {
	for i, at := range slices.Backward(l.times) {
		if at.Equal(t) {
			l.times = slices.Delete(l.times, i, i+1)
			return
		}
	}
}

// prune sorts the starts and removes those that are older than the window. A start cannot be later than now, so a time
// that is ahead counts as now.
func (l *startLog) prune(now time.Time) {
	if l.unsorted {
		slices.SortFunc(l.times, time.Time.Compare)
		l.unsorted = false
	}
	for i := len(l.times) - 1; i >= 0 && l.times[i].After(now); i-- {
		l.times[i] = now
	}
	old := 0
	for old < len(l.times) && now.Sub(l.times[old]) >= window {
		old++
	}
	l.times = l.times[old:]
}

// next is when a start is allowed. It is not after now if a start is allowed now.
func (l *startLog) next(now time.Time, limit int32) time.Time {
	l.prune(now)
	over := len(l.times) - int(limit)
	if limit <= 0 || over < 0 {
		return now
	}
	return l.times[over].Add(window)
}
