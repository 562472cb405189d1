package schedule

import (
	"testing"
	"time"
)

func TestTenantTime(t *testing.T) {
	for name, tc := range map[string]struct {
		// civil is the civil time of the tick.
		civil string
		zone  string
		want  string
	}{
		"the first clock":                   {"2026-03-08 02:00", "Pacific/Kiritimati", "2026-03-07 12:00"},
		"UTC":                               {"2026-03-08 02:00", "UTC", "2026-03-08 02:00"},
		"the last clock":                    {"2026-03-08 02:00", "Etc/GMT+12", "2026-03-08 14:00"},
		"a quarter of an hour":              {"2026-03-08 02:00", "Asia/Kathmandu", "2026-03-07 20:15"},
		"in the gap":                        {"2026-03-08 02:30", "America/New_York", "2026-03-08 07:00"},
		"the day after":                     {"2026-03-09 02:30", "America/New_York", "2026-03-09 06:30"},
		"in the fold":                       {"2026-11-01 01:30", "America/New_York", "2026-11-01 05:30"},
		"after the fold":                    {"2026-11-01 02:00", "America/New_York", "2026-11-01 07:00"},
		"a midnight in the gap":             {"2018-11-04 00:00", "America/Sao_Paulo", "2018-11-04 03:00"},
		"a midnight in the fold":            {"2024-11-03 00:00", "America/Havana", "2024-11-03 04:00"},
		"a day that was left out":           {"2011-12-30 15:00", "Pacific/Apia", "2011-12-30 10:00"},
		"the day after that":                {"2011-12-31 15:00", "Pacific/Apia", "2011-12-31 01:00"},
		"the day before that":               {"2011-12-29 15:00", "Pacific/Apia", "2011-12-30 01:00"},
		"the gap of Lord Howe":              {"2025-10-05 02:15", "Australia/Lord_Howe", "2025-10-04 15:30"},
		"no zone":                           {"2026-03-08 02:00", "", "2026-03-08 02:00"},
		"the end of a leap year long ahead": {"2072-12-31 12:00", "America/New_York", "2072-12-31 17:00"},
	} {
		t.Run(name, func(t *testing.T) {
			var clock *time.Location
			if tc.zone != "" {
				clock = zone(t, tc.zone)
			}
			tick := at(t, tc.civil).Add(-maxOffset)
			got := TenantTime(tick, clock)
			if want := at(t, tc.want); !got.Equal(want) {
				t.Errorf("it comes at %s, want %s", got, want)
			}
			if got.Before(tick) || got.After(tick.Add(MaxZoneDifference)) {
				t.Errorf("it comes at %s, the tick lasts from %s to %s", got, tick, tick.Add(MaxZoneDifference))
			}
		})
	}
}

// A tenant's clock shows the civil time of the tick, in every zone, and the expression has a tick in that zone then.
func TestTenantTimeIsTheCivilTime(t *testing.T) {
	for _, name := range zones {
		clock := zone(t, name)
		e := mustParse(t, "30 1 * * *")
		tick := at(t, "1990-01-01 00:00")
		for range 3000 {
			tick = e.Next(tick.Add(73*time.Hour), easternmost)
			got := TenantTime(tick, clock)
			if n := countTicks(e, got.Add(-time.Second), got, clock); n != 1 {
				t.Fatalf("%s: %s is not a tick there", name, got)
			}
			if got.Before(tick) || got.After(tick.Add(MaxZoneDifference)) {
				t.Fatalf("%s: %s comes at %s", name, tick, got)
			}
			civil, shown, before := wall(tick, easternmost), wall(got, clock), wall(got.Add(-time.Minute), clock)
			if shown != civil && (before >= civil || civil >= shown) {
				t.Fatalf("%s: %s comes when the clock shows %s, a minute after %s", name, civil, shown, before)
			}
		}
	}
}

func wall(t time.Time, clock *time.Location) string {
	return t.In(clock).Format("2006-01-02 15:04")
}

func TestTickName(t *testing.T) {
	tick := at(t, "2025-10-10 08:00")
	name := TickName("check", tick)
	if name != "check-29334720" {
		t.Errorf("the name is %s", name)
	}
	if got, ok := NamedTick("check", name); !ok || !got.Equal(tick) {
		t.Errorf("%s is of %s, %t", name, got, ok)
	}
	for _, other := range []string{
		"", "check", "check-", "other-29334720", "check-29334720-x", "check-029334720", "check-+29334720", "check-x",
		"check-9223372036854775807", "check-99999999999999999999",
	} {
		if got, ok := NamedTick("check", other); ok {
			t.Errorf("%q is the name of %s", other, got)
		}
	}
}
