package schedule

import (
	"time"
)

// Next returns the first tick after a time on the clock of a zone, UTC for none. It is zero only for the zero Expression.
func (e Expression) Next(after time.Time, zone *time.Location) time.Time {
	from := unixAfter(after)
	tick, ok := e.first(orUTC(zone), from, from+horizon)
	if !ok {
		return time.Time{}
	}
	return time.Unix(tick, 0).UTC()
}

// Count counts the ticks in (after, until], in time that grows with the months between and not with the ticks.
func (e Expression) Count(after, until time.Time, zone *time.Location) int64 {
	return e.count(orUTC(zone), unixAfter(after), unixAfter(until))
}

// Newest returns the last ticks in (after, until], at most n, oldest first.
func (e Expression) Newest(n int, after, until time.Time, zone *time.Location) []time.Time {
	return e.newest(orUTC(zone), n, unixAfter(after), unixAfter(until))
}

// count counts the ticks in [from, to).
func (e Expression) count(zone *time.Location, from, to int64) int64 {
	if from >= to {
		return 0
	}
	var n int64
	for s := range spans(zone, from, to) {
		if from <= s.start && e.makesUp(s) {
			n++
		}
		n += e.countMinutes(e.clip(s, from, to))
	}
	return n
}

// first returns the first tick in [from, to).
func (e Expression) first(zone *time.Location, from, to int64) (int64, bool) {
	for s := range spans(zone, from, to) {
		if from <= s.start && e.makesUp(s) {
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
	// Look back ever further until there are as many, or no more to look at; then for the latest start with as many.
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

// clip returns the civil minutes of a span whose instants are in [from, to) and that may be ticks: of a fixed expression
// only those that the clock had not shown before.
func (e Expression) clip(s span, from, to int64) (fromMinute, toMinute int64) {
	low, high := max(s.from, from+s.offset), min(s.to, to+s.offset)
	if !e.interval {
		low = max(low, s.seen)
	}
	return minuteFrom(low), minuteFrom(high)
}

// makesUp says whether the first instant of a span is a tick for what fell into the gap before it, and not one by itself.
func (e Expression) makesUp(s span) bool {
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

func orUTC(zone *time.Location) *time.Location {
	if zone == nil {
		return time.UTC
	}
	return zone
}
