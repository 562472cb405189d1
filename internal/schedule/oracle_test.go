package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// zones are of every kind: with and without daylight saving, north and south, with changes at midnight, by half an hour and
// by two hours, negative in winter, for Ramadan, with an offset of minutes, and across the date line.
var zones = []string{
	"UTC", "America/New_York", "America/Los_Angeles", "America/St_Johns", "America/Sao_Paulo", "America/Havana", "America/Nuuk",
	"America/Caracas", "America/Asuncion", "America/Santiago", "America/Scoresbysund", "Europe/London", "Europe/Dublin",
	"Europe/Berlin", "Europe/Moscow", "Europe/Istanbul", "Africa/Cairo", "Africa/Casablanca", "Africa/Khartoum", "Africa/Windhoek",
	"Asia/Amman", "Asia/Beirut", "Asia/Damascus", "Asia/Gaza", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Pyongyang", "Asia/Tehran",
	"Asia/Tokyo", "Antarctica/Troll", "Antarctica/Casey", "Atlantic/Azores", "Australia/Eucla", "Australia/Lord_Howe",
	"Australia/Sydney", "Pacific/Apia", "Pacific/Chatham", "Pacific/Easter", "Pacific/Fiji", "Pacific/Kiritimati",
	"Pacific/Kwajalein", "Pacific/Norfolk", "Pacific/Pago_Pago", "Etc/GMT+12",
}

// The ticks are those that a second implementation finds, which reads the clock every minute.
func TestAgainstOracle(t *testing.T) {
	windows := 120
	if testing.Short() {
		windows = 20
	}
	random := rand.New(rand.NewPCG(1, 2))
	gaps, folds, ticks := 0, 0, 0
	for range windows {
		w := watch(t, random)
		gaps, folds = gaps+w.gaps, folds+w.folds
		for range 12 {
			text, match := anyExpression(random)
			e, err := Parse(text)
			if err != nil {
				continue // The date never comes.
			}
			want := w.ticks(match)
			ticks += len(want)
			after := w.begin.Add(time.Duration(random.Int64N(int64(w.end.Sub(w.begin)))))
			until := after.Add(time.Duration(random.Int64N(int64(w.end.Sub(after)))))
			want = slices.DeleteFunc(want, func(tick time.Time) bool { return !tick.After(after) || tick.After(until) })
			n := 1 + random.IntN(5)
			newest := want[max(0, len(want)-n):]

			where := fmt.Sprintf("%s in %s after %s until %s", text, w.clock, after.UTC(), until.UTC())
			if got := countTicks(e, after, until, w.clock); got != int64(len(want)) {
				t.Errorf("%s: %d ticks, want %d", where, got, len(want))
			}
			if diff := cmp.Diff(texts(newest), texts(newestTicks(e, n, after, until, w.clock))); diff != "" {
				t.Errorf("%s: the newest %d (-want +got):\n%s", where, n, diff)
			}
			next := e.Next(after, w.clock)
			if len(want) > 0 && !next.Equal(want[0]) || len(want) == 0 && !next.After(until) {
				t.Errorf("%s: next is %s, want the first of %v", where, next, texts(want))
			}
		}
	}
	if gaps < windows/5 || folds < windows/5 || ticks < 1000*windows {
		t.Errorf("%d gaps, %d folds and %d ticks are too few", gaps, folds, ticks)
	}
}

// The same over more than a year, for few zones and expressions.
func TestCountOfYears(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, name := range []string{"Africa/Casablanca", "Pacific/Apia"} {
		w := watchFrom(time.Date(2011, 5, 1, 0, 0, 0, 0, time.UTC), 500, zone(t, name))
		for range 6 {
			text, match := anyExpression(random)
			if e, err := Parse(text); err == nil {
				if got, want := countTicks(e, w.begin.Add(-1), w.end, w.clock), int64(len(w.ticks(match))); got != want {
					t.Errorf("%s in %s: %d ticks, want %d", text, name, got, want)
				}
			}
		}
	}
}

// window has the civil times that a clock showed in each minute.
type window struct {
	clock *time.Location
	// begin and end are the first and the last instant in which ticks are searched. The minutes begin two days before, for
	// civil times that were shown before, and end two days after, for ticks within a gap's length after the gap.
	begin, end  time.Time
	minutes     []shown
	gaps, folds int
}

type shown struct {
	instant time.Time
	// civil time read as UTC.
	civil time.Time
}

// watch reads a random clock for a week, in most cases one in which it changes.
func watch(t *testing.T, random *rand.Rand) window {
	if random.IntN(4) == 0 {
		start := time.Date(2030, 5, 1, 0, 0, 0, 0, time.UTC)
		return watchFrom(start, 6, anyZone(t, random, start.AddDate(0, 0, -1)))
	}
	for try := random.IntN(10); ; try++ {
		clock := zone(t, zones[random.IntN(len(zones))])
		start := time.Date(1985+random.IntN(60), time.Month(1+random.IntN(12)), 1+random.IntN(31), random.IntN(24), 0, 0, 0, time.UTC)
		changes := changesIn(start.Year(), clock)
		if len(changes) > 0 {
			start = changes[random.IntN(len(changes))].Add(-time.Duration(random.IntN(5*24)) * time.Hour)
		}
		if len(changes) > 0 || try >= 9 {
			return watchFrom(start, 6, clock)
		}
	}
}

// anyZone invents a time zone whose clock changes a few times within a week.
func anyZone(t *testing.T, random *rand.Rand, start time.Time) *time.Location {
	offset := func() time.Duration {
		if random.IntN(2) == 0 {
			return time.Duration(random.IntN(3)) * time.Hour // near each other
		}
		return time.Duration(random.IntN(26*60)-12*60) * time.Minute
	}
	changes := []clockChange{}
	for range 1 + random.IntN(8) {
		start = start.Add(time.Duration(1+random.IntN([]int{5, 120, 1440, 4000}[random.IntN(4)])) * time.Minute)
		changes = append(changes, clockChange{start, offset()})
	}
	return inventedZone(t, offset(), changes...)
}

func watchFrom(begin time.Time, days int, clock *time.Location) window {
	w := window{clock: clock, begin: begin, end: begin.AddDate(0, 0, days)}
	for t := begin.AddDate(0, 0, -2); t.Before(w.end.AddDate(0, 0, 2)); t = t.Add(time.Minute) {
		local := t.In(clock)
		year, month, day := local.Date()
		w.minutes = append(w.minutes, shown{t, time.Date(year, month, day, local.Hour(), local.Minute(), 0, 0, time.UTC)})
	}
	for i, m := range w.minutes[1:] {
		switch step := m.civil.Sub(w.minutes[i].civil); {
		case step > time.Minute:
			w.gaps++
		case step < time.Minute:
			w.folds++
		}
	}
	return w
}

// changesIn returns the hours of a year in which a clock changes.
func changesIn(year int, clock *time.Location) []time.Time {
	var changes []time.Time
	_, before := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).In(clock).Zone()
	for t := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC); t.Year() == year; t = t.Add(time.Hour) {
		_, offset := t.In(clock).Zone()
		if offset != before {
			changes = append(changes, t)
		}
		before = offset
	}
	return changes
}

// ticks returns the ticks in a window. It does what the package's documentation says, and uses no code of the package.
func (w window) ticks(match matcher) []time.Time {
	found := map[time.Time]bool{}
	next := w.minutes[0].civil // the first civil time that the clock has not shown yet
	for i, m := range w.minutes {
		if m.civil.After(next) {
			lost := false
			for c := next; c.Before(m.civil); c = c.Add(time.Minute) {
				lost = lost || match.matches(c)
			}
			if lost && !(match.interval && w.firesWithin(m.civil.Sub(next), i, match)) {
				found[m.instant] = true
			}
		}
		if match.matches(m.civil) && (match.interval || !m.civil.Before(next)) {
			found[m.instant] = true
		}
		if !m.civil.Before(next) {
			next = m.civil.Add(time.Minute)
		}
	}
	var ticks []time.Time
	for tick := range found {
		if !tick.Before(w.begin) && !tick.After(w.end) {
			ticks = append(ticks, tick)
		}
	}
	slices.SortFunc(ticks, time.Time.Compare)
	return ticks
}

// firesWithin says whether the clock shows a matching time within a length from a minute on, before it changes again.
func (w window) firesWithin(length time.Duration, i int, match matcher) bool {
	for j := i; j < len(w.minutes) && w.minutes[j].instant.Before(w.minutes[i].instant.Add(length)); j++ {
		if w.minutes[j].civil.Sub(w.minutes[i].civil) != w.minutes[j].instant.Sub(w.minutes[i].instant) {
			return false
		}
		if match.matches(w.minutes[j].civil) {
			return true
		}
	}
	return false
}

// matcher is an expression as it was invented, not as it was parsed.
type matcher struct {
	minutes, hours, days, months, weekdays [60]bool
	anyDay, anyWeekday, interval           bool
}

func (m matcher) matches(civil time.Time) bool {
	if !m.minutes[civil.Minute()] || !m.hours[civil.Hour()] || !m.months[int(civil.Month())] {
		return false
	}
	day, weekday := m.days[civil.Day()], m.weekdays[int(civil.Weekday())]
	if m.anyDay || m.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

// anyExpression invents an expression with many ticks.
func anyExpression(random *rand.Rand) (string, matcher) {
	minutes, minuteSet, a := anyField(random, 0, 59, nil, 2)
	hours, hourSet, b := anyField(random, 0, 23, nil, 4)
	days, daySet, anyDay := anyField(random, 1, 31, nil, 7)
	months, monthSet, _ := anyField(random, 1, 12, monthNames, 9)
	weekdays, weekdaySet, anyWeekday := anyField(random, 0, 6, weekdayNames, 6)
	text := strings.Join([]string{minutes, hours, days, months, weekdays}, " ")
	interval := a || b || strings.Contains(minutes+hours, "/")
	return text, matcher{minuteSet, hourSet, daySet, monthSet, weekdaySet, anyDay, anyWeekday, interval}
}

// anyField invents a field. Wildcards is how many of ten entries are one. It returns the values in the field, and whether
// the field has a wildcard without a step.
func anyField(random *rand.Rand, low, top int, names []string, wildcards int) (text string, set [60]bool, unrestricted bool) {
	write := func(v int) string {
		if names != nil && random.IntN(2) == 0 {
			return names[v-low]
		}
		return strconv.Itoa(v)
	}
	entries := []string{}
	for range 1 + random.IntN(3)*random.IntN(2) {
		first, last, step := low, top, 1
		entry := "*"
		if wild := random.IntN(10) < wildcards; !wild {
			first = low + random.IntN(top-low+1)
			last = first
			entry = write(first)
			if random.IntN(3) == 0 {
				last = first + random.IntN(top-first+1)
				entry += "-" + write(last)
			}
		}
		if random.IntN(4) == 0 {
			if !strings.ContainsAny(entry, "*-") {
				last = top
			}
			step = 1 + random.IntN(top)
			entry += "/" + strconv.Itoa(step)
		}
		unrestricted = unrestricted || entry[0] == '*' && step == 1
		for v := first; v <= last; v += step {
			set[v] = true
		}
		entries = append(entries, entry)
	}
	return strings.Join(entries, ","), set, unrestricted
}
