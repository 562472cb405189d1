package schedule

import (
	"iter"
	"time"
)

const (
	// lookBack is further than two clocks of the world can be apart: what a clock showed longer ago than that it does not
	// show again.
	lookBack = 2 * secondsPerDay
	// horizon is how far the next tick is looked for. The longest way is from one 29 February to another over a year such
	// as 2100.
	horizon = 9 * 366 * secondsPerDay
)

// The instants that can be asked about, in seconds: the years that an API object can hold.
var (
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	latest   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// span is a stretch of time during which a zone keeps its offset. All is in seconds, instants from 1970 UTC and what the
// clock shows from 1970 on that clock.
type span struct {
	// start is its first instant.
	start int64
	// offset is what the clock shows more than UTC.
	offset int64
	// from and to are what the clock shows at its start and at its end, which is not in it any more.
	from, to int64
	// seen is how far the clock had come before: less than from over a gap, more in a fold.
	seen int64
}

// spans yields the spans of a zone that have an instant in [from, to), in order, and some before.
func spans(zone *time.Location, from, to int64) iter.Seq[span] {
	return func(yield func(span) bool) {
		start := from - lookBack
		var seen int64
		for first := true; start < to; first = false {
			offset, end := offsetAt(zone, start)
			s := span{start: start, offset: offset, from: start + offset, to: end + offset, seen: seen}
			if first {
				s.seen = s.from
			}
			if !yield(s) {
				return
			}
			seen = max(s.seen, s.to)
			start = end
		}
	}
}

// offsetAt returns the offset of a zone at an instant, and until when it certainly stays.
func offsetAt(zone *time.Location, instant int64) (offset, end int64) {
	t := time.Unix(instant, 0).In(zone)
	_, seconds := t.Zone()
	_, bound := t.ZoneBounds()
	end = bound.Unix()
	switch {
	case bound.IsZero():
		end = max(latest, instant) + horizon
	case end <= instant:
		// Past the transitions that a zone lists, ZoneBounds takes every year for 365 days long: on the last of a leap
		// year the end is over. Nothing changes until midnight.
		end = (floorDiv(instant, secondsPerDay) + 1) * secondsPerDay
	}
	return int64(seconds), end
}

// unix returns the first whole second that is not before t.
func unix(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return min(max(s, earliest), latest)
}

// unixAfter returns the first whole second that is after t.
func unixAfter(t time.Time) int64 {
	return min(max(t.Unix(), earliest-1), latest) + 1
}
