package schedule

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine
)

// mustParse parses an expression that is valid.
func mustParse(t testing.TB, expression string) Expression {
	t.Helper()
	e, err := Parse(expression)
	if err != nil {
		t.Fatalf("parsing %q: %v", expression, err)
	}
	return e
}

// zone loads a time zone.
func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loaded, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("loading %s: %v", name, err)
	}
	return loaded
}

// clockChange is when the clock of a zone is set, and how much it is ahead of UTC from then on.
type clockChange struct {
	at     time.Time
	offset time.Duration
}

// inventedZone returns a time zone that does not exist. It is written in the first version of the format of RFC 8536.
func inventedZone(t testing.TB, offset time.Duration, changes ...clockChange) *time.Location {
	t.Helper()
	var when, which, kinds []byte
	for i, c := range append([]clockChange{{offset: offset}}, changes...) {
		kinds = append(binary.BigEndian.AppendUint32(kinds, uint32(c.offset/time.Second)), 0, 0)
		if i > 0 {
			when = binary.BigEndian.AppendUint32(when, uint32(c.at.Unix()))
			which = append(which, byte(i))
		}
	}
	data := append([]byte("TZif"), make([]byte, 16)...)
	for _, count := range []int{0, 0, 0, len(changes), len(changes) + 1, 2} {
		data = binary.BigEndian.AppendUint32(data, uint32(count))
	}
	clock, err := time.LoadLocationFromTZData(fmt.Sprintf("invented: %s, then %v", offset, changes), slices.Concat(data, when, which, kinds, []byte("X\x00")))
	if err != nil {
		t.Fatal(err)
	}
	return clock
}

// at parses a time such as 2026-03-08 07:00, in UTC. Seconds may follow.
func at(t testing.TB, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	layout := "2006-01-02 15:04"
	if len(text) > len(layout) {
		layout += ":05"
	}
	read, err := time.Parse(layout, text)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// countTicks counts the ticks in (after, until].
func countTicks(e Expression, after, until time.Time, clock *time.Location) int64 {
	return e.count(orUTC(clock), unixAfter(after), unixAfter(until))
}

// newestTicks returns the last ticks in (after, until], at most n, oldest first.
func newestTicks(e Expression, n int, after, until time.Time, clock *time.Location) []time.Time {
	return e.newest(orUTC(clock), n, unixAfter(after), unixAfter(until))
}

func allAt(t testing.TB, texts ...string) []time.Time {
	t.Helper()
	var times []time.Time
	for _, text := range texts {
		times = append(times, at(t, text))
	}
	return times
}

func texts(times []time.Time) []string {
	var all []string
	for _, t := range times {
		all = append(all, t.Format("2006-01-02 15:04"))
	}
	return all
}
