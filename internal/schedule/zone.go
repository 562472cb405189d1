package schedule

import (
	"iter"
	"time"
)

const (
	// lookback is how many seconds before the first instant the spans begin. It is more than the offsets of two zones can
	// differ: a clock shows no civil time again that it showed longer ago.
	lookback = 2 * secondsPerDay
	// horizon is how many seconds after an instant the next tick is at most. The longest distance is that from one
	// 29 February to the next over a year such as 2100.
	horizon = 9 * 366 * secondsPerDay
)

// The first and the last instant that callers can ask for, in seconds: those of the years that an API object can contain.
var (
	earliest = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	latest   = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// span is a time during which the offset of a zone does not change. All fields are in seconds: instants since 1970 in UTC,
// civil times since 1970 on the clock of the zone.
type span struct {
	// start is its first instant.
	start int64
	// offset is how much the clock is ahead of UTC.
	offset int64
	// from is the civil time at the start of the span, and to the first civil time after it.
	from, to int64
	// seen is the first civil time that the clock has not shown before the span: less than from after a gap, more in a fold.
	seen int64
}

// spans yields, in order, the spans of a zone that contain an instant in [from, to), and some before them.
func spans(zone *time.Location, from, to int64) iter.Seq[span] {
	return func(yield func(span) bool) {
		start := from - lookback
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

// offsetAt returns the offset of a zone at an instant, and a later instant until which the offset does not change.
func offsetAt(zone *time.Location, instant int64) (offset, end int64) {
	t := time.Unix(instant, 0).In(zone)
	_, seconds := t.Zone()
	_, bound := t.ZoneBounds()
	end = bound.Unix()
	switch {
	case bound.IsZero():
		end = max(latest, instant) + horizon
	case end <= instant:
		// After the transitions that a zone lists, ZoneBounds counts 365 days for every year. So on the last day of a leap
		// year the end that it returns has passed. The offset does not change before midnight.
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
