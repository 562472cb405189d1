package schedule

import (
	"time"
)

// Next returns the first tick after a time in a zone; nil means UTC. It is zero only for the zero Expression.
func (e Expression) Next(after time.Time, zone *time.Location) time.Time {
	from := unixAfter(after)
	tick, ok := e.first(orUTC(zone), from, from+horizon)
	if !ok {
		return time.Time{}
	}
	return time.Unix(tick, 0).UTC()
}

// count counts the ticks in [from, to). It takes time for each month in between, not for each tick.
func (e Expression) count(zone *time.Location, from, to int64) int64 {
	if from >= to {
		return 0
	}
	var n int64
	for s := range spans(zone, from, to) {
		if from <= s.start && e.firesAfterGap(s) {
			n++
		}
		n += e.countMinutes(e.clip(s, from, to))
	}
	return n
}

// first returns the first tick in [from, to).
func (e Expression) first(zone *time.Location, from, to int64) (int64, bool) {
	for s := range spans(zone, from, to) {
		if from <= s.start && e.firesAfterGap(s) {
			return s.start, true
		}
		if minute, ok := e.firstMinute(e.clip(s, from, to)); ok {
			return minute*60 - s.offset, true
		}
	}
	return 0, false
}

// newest returns the last ticks in [from, to), at most n, oldest first.
func (e Expression) newest(zone *time.Location, n int, from, to int64) []time.Time {
	if n <= 0 {
		return nil
	}
	// Go back in steps that double until there are n ticks, or until from. Then find the latest start with n ticks.
	start, end := to, to
	for width := int64(3600); start > from && e.count(zone, start, to) < int64(n); width *= 2 {
		start, end = max(from, to-width), start
	}
	for end-start > 1 {
		middle := start + (end-start)/2
		if e.count(zone, middle, to) >= int64(n) {
			start = middle
		} else {
			end = middle
		}
	}
	var ticks []time.Time
	for {
		tick, ok := e.first(zone, start, to)
		if !ok {
			return ticks
		}
		ticks = append(ticks, time.Unix(tick, 0).UTC())
		start = tick + 1
	}
}

// clip returns the civil minutes of a span whose instants are in [from, to) and that may be ticks. For a fixed expression
// these are only the ones that the clock has not shown before.
func (e Expression) clip(s span, from, to int64) (fromMinute, toMinute int64) {
	low, high := max(s.from, from+s.offset), min(s.to, to+s.offset)
	if !e.interval {
		low = max(low, s.seen)
	}
	return minuteFrom(low), minuteFrom(high)
}

// firesAfterGap says whether the first instant of a span is a tick because a matching civil time is in the gap before the
// span. It is false when that instant is a tick anyway.
func (e Expression) firesAfterGap(s span) bool {
	if s.seen >= s.from {
		return false
	}
	anyway := s.from + 1
	if e.interval {
		anyway = min(s.to, s.from+s.from-s.seen)
	}
	return e.countMinutes(minuteFrom(s.seen), minuteFrom(s.from)) > 0 &&
		e.countMinutes(minuteFrom(s.from), minuteFrom(anyway)) == 0
}

// orUTC returns a zone, or UTC for nil.
func orUTC(zone *time.Location) *time.Location {
	if zone == nil {
		return time.UTC
	}
	return zone
}
