package queue

import (
	"slices"
	"time"
)

// window is the minute of startsPerMinute.
const window = time.Minute

// startLog knows the starts of the last minute, so that no minute ever has more of them than the limit: a start is allowed
// when fewer than startsPerMinute lie in the minute before it. It is kept without a limit too, since one may be set.
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

// forget a start that came to nothing.
func (l *startLog) forget(t time.Time) {
	for i, at := range slices.Backward(l.times) {
		if at.Equal(t) {
			l.times = slices.Delete(l.times, i, i+1)
			return
		}
	}
}

// settle forgets what is older than the window. What seems to lie ahead was started now at the latest.
func (l *startLog) settle(now time.Time) {
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

// next is when a start is allowed: not after now if it is allowed now.
func (l *startLog) next(now time.Time, limit int32) time.Time {
	l.settle(now)
	over := len(l.times) - int(limit)
	if limit <= 0 || over < 0 {
		return now
	}
	return l.times[over].Add(window)
}
