package schedule

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTicks(t *testing.T) {
	for name, tc := range map[string]struct {
		expression  string
		zone        string
		after, till string
		want        []string
	}{
		// Days.
		"day of month or day of week": {"0 0 13 * 5", "UTC", "2026-02-01 00:00", "2026-03-01 00:00",
			[]string{"2026-02-06 00:00", "2026-02-13 00:00", "2026-02-20 00:00", "2026-02-27 00:00"}},
		"day of month and any day of week": {"0 0 13 * *", "UTC", "2026-02-01 00:00", "2026-04-01 00:00",
			[]string{"2026-02-13 00:00", "2026-03-13 00:00"}},
		"a step restricts, as in CronJob": {"0 0 */15 * 0", "UTC", "2026-02-01 00:00", "2026-02-20 00:00",
			[]string{"2026-02-08 00:00", "2026-02-15 00:00", "2026-02-16 00:00"}},
		"29 February over a year that is not a leap year": {"0 0 29 2 *", "UTC", "2096-01-01 00:00", "2108-02-28 00:00",
			[]string{"2096-02-29 00:00", "2104-02-29 00:00"}},
		"from a tick on, that one left out": {"0 0 * * *", "UTC", "2026-01-01 00:00", "2026-01-02 00:00", []string{"2026-01-02 00:00"}},
		"up to just before a tick":          {"0 0 * * *", "UTC", "2026-01-01 00:00", "2026-01-01 23:59:59", nil},
		"before 1970": {"0 12 * * mon", "UTC", "1969-12-20 00:00", "1970-01-06 00:00",
			[]string{"1969-12-22 12:00", "1969-12-29 12:00", "1970-01-05 12:00"}},

		// New York: two o'clock is three on 2026-03-08, and again one on 2026-11-01.
		"fixed, in the gap": {"30 2 * * *", "America/New_York", "2026-03-07 00:00", "2026-03-09 12:00",
			[]string{"2026-03-07 07:30", "2026-03-08 07:00", "2026-03-09 06:30"}},
		"fixed, the gap's first minute": {"0 2 * * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 00:00", []string{"2026-03-08 07:00"}},
		"fixed, two in the gap and one after it are one instant": {"15,45 2 * * *", "America/New_York",
			"2026-03-08 00:00", "2026-03-09 00:00", []string{"2026-03-08 07:00"}},
		"fixed, in the gap and at its end": {"0 2,3 * * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 00:00", []string{"2026-03-08 07:00"}},
		"fixed, in the gap and soon after it": {"30 2,3 * * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 00:00",
			[]string{"2026-03-08 07:00", "2026-03-08 07:30"}},
		"fixed, a gap on another day": {"30 2 9 * *", "America/New_York", "2026-03-08 00:00", "2026-03-10 00:00", []string{"2026-03-09 06:30"}},
		"fixed, once a year and in the gap": {"30 2 8 3 *", "America/New_York", "2025-03-09 00:00", "2027-03-09 00:00",
			[]string{"2026-03-08 07:00", "2027-03-08 07:30"}},
		"fixed, in the fold": {"30 1 * * *", "America/New_York", "2026-10-31 12:00", "2026-11-02 12:00",
			[]string{"2026-11-01 05:30", "2026-11-02 06:30"}},
		"fixed, between the two occurrences":   {"30 1 * * *", "America/New_York", "2026-11-01 05:30", "2026-11-02 00:00", nil},
		"fixed, the fold's first minute":       {"0 1 * * *", "America/New_York", "2026-11-01 00:00", "2026-11-02 00:00", []string{"2026-11-01 05:00"}},
		"fixed, the first minute after a fold": {"0 2 * * *", "America/New_York", "2026-11-01 00:00", "2026-11-02 00:00", []string{"2026-11-01 07:00"}},
		"fixed, a list and a range in the fold": {"0,30 1-2 * * *", "America/New_York", "2026-11-01 00:00", "2026-11-02 00:00",
			[]string{"2026-11-01 05:00", "2026-11-01 05:30", "2026-11-01 07:00", "2026-11-01 07:30"}},
		"every half hour through the fold": {"*/30 * * * *", "America/New_York", "2026-11-01 04:59", "2026-11-01 06:59",
			[]string{"2026-11-01 05:00", "2026-11-01 05:30", "2026-11-01 06:00", "2026-11-01 06:30"}},
		"every half hour through the gap": {"*/30 * * * *", "America/New_York", "2026-03-08 05:59", "2026-03-08 08:00",
			[]string{"2026-03-08 06:00", "2026-03-08 06:30", "2026-03-08 07:00", "2026-03-08 07:30", "2026-03-08 08:00"}},
		"every hour through the fold": {"@hourly", "America/New_York", "2026-11-01 04:59", "2026-11-01 07:00",
			[]string{"2026-11-01 05:00", "2026-11-01 06:00", "2026-11-01 07:00"}},
		"every hour through the gap": {"5 * * * *", "America/New_York", "2026-03-08 05:59", "2026-03-08 09:00",
			[]string{"2026-03-08 06:05", "2026-03-08 07:05", "2026-03-08 08:05"}},
		"a step in one hour, that of the gap": {"*/15 2 * * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 06:20",
			[]string{"2026-03-08 07:00", "2026-03-09 06:00", "2026-03-09 06:15"}},
		"a step in the gap's hour and the next": {"5/30 2-3 * * *", "America/New_York", "2026-03-08 00:00", "2026-03-09 00:00",
			[]string{"2026-03-08 07:05", "2026-03-08 07:35"}},
		"a step in one hour, that of the fold": {"*/20 1 * * *", "America/New_York", "2026-11-01 00:00", "2026-11-02 00:00",
			[]string{"2026-11-01 05:00", "2026-11-01 05:20", "2026-11-01 05:40", "2026-11-01 06:00", "2026-11-01 06:20", "2026-11-01 06:40"}},
		"every second hour through the gap": {"0 */2 * * *", "America/New_York", "2026-03-08 04:59", "2026-03-08 10:00",
			[]string{"2026-03-08 05:00", "2026-03-08 07:00", "2026-03-08 08:00", "2026-03-08 10:00"}},

		// Changes of the clock at midnight.
		"Sao Paulo has no midnight": {"0 0 * * *", "America/Sao_Paulo", "2018-11-03 00:00", "2018-11-05 12:00",
			[]string{"2018-11-03 03:00", "2018-11-04 03:00", "2018-11-05 02:00"}},
		"Sao Paulo has 23:00 twice": {"0 0,23 * * *", "America/Sao_Paulo", "2018-02-17 12:00", "2018-02-18 12:00",
			[]string{"2018-02-18 01:00", "2018-02-18 03:00"}},
		"Beirut has no midnight": {"0 0 * * *", "Asia/Beirut", "2021-03-26 12:00", "2021-03-29 12:00",
			[]string{"2021-03-26 22:00", "2021-03-27 22:00", "2021-03-28 21:00"}},
		"Cairo has no midnight": {"0 0 * * *", "Africa/Cairo", "2024-04-24 12:00", "2024-04-26 22:00",
			[]string{"2024-04-24 22:00", "2024-04-25 22:00", "2024-04-26 21:00"}},
		"every six hours in Cairo": {"0 */6 * * *", "Africa/Cairo", "2024-04-25 12:00", "2024-04-26 12:00",
			[]string{"2024-04-25 16:00", "2024-04-25 22:00", "2024-04-26 03:00", "2024-04-26 09:00"}},
		"Havana has midnight twice": {"0 0 * * *", "America/Havana", "2024-11-02 12:00", "2024-11-04 12:00",
			[]string{"2024-11-03 04:00", "2024-11-04 05:00"}},

		// Changes of other lengths.
		"Lord Howe leaves half an hour out": {"15 2 * * *", "Australia/Lord_Howe", "2025-10-03 20:00", "2025-10-05 20:00",
			[]string{"2025-10-04 15:30", "2025-10-05 15:15"}},
		"Lord Howe has half an hour twice": {"45 1 * * *", "Australia/Lord_Howe", "2026-04-04 00:00", "2026-04-05 20:00",
			[]string{"2026-04-04 14:45", "2026-04-05 15:15"}},
		"every half hour on Lord Howe": {"*/30 * * * *", "Australia/Lord_Howe", "2025-10-04 14:00", "2025-10-04 16:00",
			[]string{"2025-10-04 14:30", "2025-10-04 15:00", "2025-10-04 15:30", "2025-10-04 16:00"}},
		"every hour on Lord Howe runs the hour that fell into the gap": {"@hourly", "Australia/Lord_Howe", "2025-10-04 14:00", "2025-10-04 17:00",
			[]string{"2025-10-04 14:30", "2025-10-04 15:30", "2025-10-04 16:00", "2025-10-04 17:00"}},
		"Apia leaves a day out": {"30 12 * * *", "Pacific/Apia", "2011-12-28 22:31", "2012-01-01 00:00",
			[]string{"2011-12-29 22:30", "2011-12-30 10:00", "2011-12-30 22:30", "2011-12-31 22:30"}},
		"the midnight of the day that Apia leaves out": {"0 0 * * *", "Pacific/Apia", "2011-12-28 12:00", "2011-12-31 12:00",
			[]string{"2011-12-29 10:00", "2011-12-30 10:00", "2011-12-31 10:00"}},
		"that date itself": {"0 8 30 12 *", "Pacific/Apia", "2011-01-01 00:00", "2012-12-31 00:00",
			[]string{"2011-12-30 10:00", "2012-12-29 18:00"}},
		"a step on that date itself": {"0 */8 30 12 *", "Pacific/Apia", "2011-01-01 00:00", "2012-01-01 00:00", []string{"2011-12-30 10:00"}},
		"every hour through that day": {"@hourly", "Pacific/Apia", "2011-12-30 07:59", "2011-12-30 11:00",
			[]string{"2011-12-30 08:00", "2011-12-30 09:00", "2011-12-30 10:00", "2011-12-30 11:00"}},
		"Kiritimati leaves the last of 1994 out": {"0 12 * * *", "Pacific/Kiritimati", "1994-12-30 00:00", "1995-01-01 12:00",
			[]string{"1994-12-30 22:00", "1994-12-31 10:00", "1994-12-31 22:00"}},
		"Chatham, 12:45 ahead": {"50 2 * * *", "Pacific/Chatham", "2025-09-26 20:00", "2025-09-28 20:00",
			[]string{"2025-09-27 14:00", "2025-09-28 13:05"}},
		"Monrovia, seconds off the minute": {"0 0 * * *", "Africa/Monrovia", "1972-01-05 12:00", "1972-01-08 00:00",
			[]string{"1972-01-06 00:44", "1972-01-07 00:44", "1972-01-08 00:00"}},
		"Troll moves by two hours": {"30 2 * * *", "Antarctica/Troll", "2026-03-28 12:00", "2026-03-30 12:00",
			[]string{"2026-03-29 01:00", "2026-03-30 00:30"}},

		// Where ZoneBounds is wrong.
		"the end of a leap year long ahead": {"0 */12 * * *", "America/New_York", "2072-12-30 12:00", "2073-01-01 12:00",
			[]string{"2072-12-30 17:00", "2072-12-31 05:00", "2072-12-31 17:00", "2073-01-01 05:00"}},
		"the end of a leap year in the south": {"0 12 * * *", "Australia/Sydney", "2096-12-30 12:00", "2097-01-01 12:00",
			[]string{"2096-12-31 01:00", "2097-01-01 01:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, clock := mustParse(t, tc.expression), zone(t, tc.zone)
			after, until := at(t, tc.after), at(t, tc.till)
			var nexts []time.Time
			next := e.Next(after, clock)
			for ; next.After(after) && !next.After(until); next = e.Next(next, clock) {
				nexts = append(nexts, next)
			}
			if !next.After(until) {
				t.Errorf("after %v the next is %s", texts(nexts), next)
			}
			if diff := cmp.Diff(tc.want, texts(nexts)); diff != "" {
				t.Errorf("Next (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, texts(newestTicks(e, 100, after, until, clock))); diff != "" {
				t.Errorf("newest (-want +got):\n%s", diff)
			}
			if got, want := countTicks(e, after, until, clock), int64(len(tc.want)); got != want {
				t.Errorf("count is %d, want %d", got, want)
			}
		})
	}
}

// Zones whose clock changes again while an earlier change still has an effect.
func TestTicksOfInventedZones(t *testing.T) {
	begin := at(t, "2030-05-03 00:00")
	for name, tc := range map[string]struct {
		expression string
		offset     time.Duration
		changes    []clockChange
		want       []string
	}{
		"two hours back, and one of them on again": {
			"45 3 * * *", 2 * time.Hour, []clockChange{{begin.Add(2 * time.Hour), 0}, {begin.Add(150 * time.Minute), time.Hour}},
			[]string{"2030-05-03 01:45"},
		},
		"back twice": {
			"30 2,3 * * *", 2 * time.Hour, []clockChange{{begin.Add(2 * time.Hour), time.Hour}, {begin.Add(150 * time.Minute), 0}},
			[]string{"2030-05-03 00:30", "2030-05-03 01:30"},
		},
		"two hours on, and back again before the next tick": {
			"0/59 2,5 * * *", 0, []clockChange{{begin.Add(2 * time.Hour), 2 * time.Hour}, {begin.Add(150 * time.Minute), 0}},
			[]string{"2030-05-03 02:00", "2030-05-03 02:59", "2030-05-03 05:00", "2030-05-03 05:59"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := inventedZone(t, tc.offset, tc.changes...)
			got := newestTicks(mustParse(t, tc.expression), 100, begin, begin.Add(12*time.Hour), clock)
			if diff := cmp.Diff(tc.want, texts(got)); diff != "" {
				t.Errorf("newest (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewest(t *testing.T) {
	e := mustParse(t, "0 * * * *")
	after, until := at(t, "2026-01-01 00:00"), at(t, "2026-01-01 03:30")
	for n, want := range map[int][]string{
		-1: nil, 0: nil, 1: {"2026-01-01 03:00"}, 2: {"2026-01-01 02:00", "2026-01-01 03:00"},
		3: {"2026-01-01 01:00", "2026-01-01 02:00", "2026-01-01 03:00"},
		4: {"2026-01-01 01:00", "2026-01-01 02:00", "2026-01-01 03:00"},
	} {
		if diff := cmp.Diff(want, texts(newestTicks(e, n, after, until, nil))); diff != "" {
			t.Errorf("the newest %d (-want +got):\n%s", n, diff)
		}
	}
	if got := newestTicks(e, 3, until, after, nil); got != nil {
		t.Errorf("in a time that ends before it begins there are %v", got)
	}
}

// Extreme times and zones have results, too, and without delay.
func TestExtremes(t *testing.T) {
	never, far := time.Time{}, time.Unix(math.MaxInt64-1<<36, 0)
	times := []time.Time{never, far, time.Unix(math.MinInt64, 0), at(t, "9999-12-31 23:59:59")}
	for _, expression := range []Expression{{}, mustParse(t, "* * * * *"), mustParse(t, "0 0 29 2 *")} {
		for _, clock := range []*time.Location{nil, time.FixedZone("odd", -99*3600+7)} {
			for _, a := range times {
				expression.Next(a, clock)
				TenantTime(a, clock)
				for _, b := range times {
					if n, newest := countTicks(expression, a, b, clock), newestTicks(expression, 3, a, b, clock); int64(len(newest)) != min(n, 3) {
						t.Errorf("from %s to %s there are %d ticks, the newest %v", a, b, n, newest)
					}
				}
			}
		}
	}
	if n := countTicks(mustParse(t, "* * * * *"), never, far, zone(t, "America/New_York")); n < 9998*365*24*60 {
		t.Errorf("in all time there are %d ticks", n)
	}
	if got := (Expression{}).Next(never, nil); !got.IsZero() {
		t.Errorf("the zero Expression has the tick %s", got)
	}
}

// There is one midnight a day for eighty years in every zone. A day that was left out at the date line has none of its
// own: it is the same instant as that of the next day.
func TestEveryDayOnce(t *testing.T) {
	leftOut := map[string]int64{"Pacific/Kwajalein": 1, "Pacific/Kiritimati": 1, "Pacific/Apia": 1}
	from, until := at(t, "1975-01-01 12:00"), at(t, "2055-01-01 12:00")
	for _, name := range zones {
		clock := zone(t, name)
		want := civilDay(until.In(clock)) - civilDay(from.In(clock)) - leftOut[name]
		if got := countTicks(mustParse(t, "0 0 * * *"), from, until, clock); got != want {
			t.Errorf("%s: %d midnights, want %d", name, got, want)
		}
	}
}

func civilDay(t time.Time) int64 {
	year, month, day := t.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / secondsPerDay
}
