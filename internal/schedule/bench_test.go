package schedule

import (
	"math"
	"testing"
	"time"
)

// A controller that did not run for five years.
func BenchmarkFindTicksFiveYears(b *testing.B) {
	for name, in := range map[string]Input{
		"every minute":       {Expression: mustParse(b, "* * * * *")},
		"every minute, 100":  {Expression: mustParse(b, "* * * * *"), CatchUpLimit: new(int32(100)), StartingDeadlineSeconds: new(int32(86400))},
		"at two":             {Expression: mustParse(b, "0 2 * * *")},
		"two on every clock": {Expression: mustParse(b, "0 2 * * *"), TimeZoneFrom: "Tenant"},
		"29 February":        {Expression: mustParse(b, "0 0 29 2 *")},
	} {
		b.Run(name, func(b *testing.B) {
			in.Zone = zone(b, "America/New_York")
			in.LastRun, in.Now = at(b, "2026-08-03 09:00"), at(b, "2031-08-03 09:00")
			b.ReportAllocs()
			for b.Loop() {
				FindTicks(in)
			}
		})
	}
}

// A schedule that has no tick now.
func BenchmarkFindTicksNothing(b *testing.B) {
	in := Input{Expression: mustParse(b, "0 2 * * *"), Zone: zone(b, "America/New_York")}
	in.LastRun, in.Now = at(b, "2026-08-03 06:00"), at(b, "2026-08-03 09:00")
	b.ReportAllocs()
	for b.Loop() {
		FindTicks(in)
	}
}

func BenchmarkTenantTime(b *testing.B) {
	clock, tick := zone(b, "America/New_York"), at(b, "2026-08-03 06:00")
	b.ReportAllocs()
	for b.Loop() {
		TenantTime(tick, clock)
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("*/15 8-18 1,15 jan-jun mon-fri"); err != nil {
			b.Fatal(err)
		}
	}
}

// Finding the ticks of five years takes less than to step through a hundredth of them, on a fast machine as on a slow one.
func TestFiveYearsAreNotSteppedThrough(t *testing.T) {
	in := Input{Expression: mustParse(t, "* * * * *"), Zone: zone(t, "America/New_York"), CatchUpLimit: new(int32(100))}
	in.LastRun, in.Now = at(t, "2026-08-03 09:00"), at(t, "2031-08-03 09:00")
	minutes := int64(in.Now.Sub(in.LastRun) / time.Minute)
	var got Ticks
	found := bestOf(5, func() { got = FindTicks(in) })
	stepped := bestOf(5, func() {
		tick := in.LastRun
		for range minutes / 100 {
			tick = in.Expression.Next(tick, in.Zone)
		}
	})
	if len(got.Due) != 100 || got.Missed.Count != minutes-100 {
		t.Errorf("%d due and %d missed of %d", len(got.Due), got.Missed.Count, minutes)
	}
	if found > stepped {
		t.Errorf("it took %s, and %s to step through a hundredth", found, stepped)
	}
}

// bestOf returns how long something takes when nothing else is in its way.
func bestOf(n int, do func()) time.Duration {
	best := time.Duration(math.MaxInt64)
	for range n {
		begin := time.Now()
		do()
		best = min(best, time.Since(begin))
	}
	return best
}
