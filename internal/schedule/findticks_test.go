package schedule

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// longAgo is when a schedule was created, where that does not matter.
const longAgo = "2000-01-01 00:00"

func TestFindTicks(t *testing.T) {
	type want struct {
		due    []string
		missed int64
		last   string
		reason string
		// next is the first of the next ticks. Empty when it does not matter.
		next  string
		after time.Duration
	}
	for name, tc := range map[string]struct {
		schedule   string
		zone       string
		perTenant  bool
		limit      *int32
		deadline   *int32
		notBefore  string
		lastRun    string
		lastMissed string
		created    []string
		now        string
		want       want
	}{
		// Case 1 of the design: an irregular schedule and no controller.
		"case 1, catchUpLimit 1": {
			schedule: "0 8,9 * * *", limit: new(int32(1)), lastRun: "2026-08-03 09:00", now: "2026-08-04 20:00",
			want: want{due: []string{"2026-08-04 09:00"}, missed: 1, last: "2026-08-04 08:00", reason: MissedCatchUpLimit, next: "2026-08-05 08:00"},
		},
		"case 1, catchUpLimit unset": {
			schedule: "0 8,9 * * *", lastRun: "2026-08-03 09:00", now: "2026-08-04 20:00",
			want: want{due: []string{"2026-08-04 09:00"}, missed: 1, last: "2026-08-04 08:00", reason: MissedCatchUpLimit},
		},
		"case 1, catchUpLimit 2": {
			schedule: "0 8,9 * * *", limit: new(int32(2)), lastRun: "2026-08-03 09:00", now: "2026-08-04 20:00",
			want: want{due: []string{"2026-08-04 08:00", "2026-08-04 09:00"}},
		},
		"case 1, catchUpLimit 0": {
			schedule: "0 8,9 * * *", limit: new(int32(0)), lastRun: "2026-08-03 09:00", now: "2026-08-04 20:00",
			want: want{missed: 2, last: "2026-08-04 09:00", reason: MissedCatchUpLimit},
		},
		"case 1, afterwards": {
			schedule: "0 8,9 * * *", lastRun: "2026-08-04 09:00", lastMissed: "2026-08-04 08:00", now: "2026-08-04 20:00",
			want: want{next: "2026-08-05 08:00"},
		},

		// Cases 2 and 3: daylight saving.
		"case 2": {
			schedule: "30 2 * * *", zone: "America/New_York", lastRun: "2026-03-07 07:30", now: "2026-03-08 07:00",
			want: want{due: []string{"2026-03-08 07:00"}, next: "2026-03-09 06:30"},
		},
		"case 2, afterwards": {
			schedule: "30 2 * * *", zone: "America/New_York", lastRun: "2026-03-08 07:00", now: "2026-03-08 07:30", want: want{next: "2026-03-09 06:30"},
		},
		"case 3": {
			schedule: "30 1 * * *", zone: "America/New_York", lastRun: "2026-10-31 05:30", now: "2026-11-01 05:30",
			want: want{due: []string{"2026-11-01 05:30"}, next: "2026-11-02 06:30"},
		},
		"case 3, the second half past one": {
			schedule: "30 1 * * *", zone: "America/New_York", lastRun: "2026-11-01 05:30", now: "2026-11-01 06:30", want: want{next: "2026-11-02 06:30"},
		},
		"case 3, every half hour": {
			schedule: "*/30 * * * *", zone: "America/New_York", limit: new(int32(10)), lastRun: "2026-11-01 04:30", now: "2026-11-01 06:40",
			want: want{due: []string{"2026-11-01 05:00", "2026-11-01 05:30", "2026-11-01 06:00", "2026-11-01 06:30"}, next: "2026-11-01 07:00"},
		},

		// Case 4: creating, editing and resuming never fire the past.
		"case 4": {
			schedule: "0 10 * * *", notBefore: "2026-08-03 15:00", lastRun: "2026-08-03 00:00", now: "2026-08-03 15:00", want: want{next: "2026-08-04 10:00"},
		},
		"case 4, the day after": {
			schedule: "0 10 * * *", notBefore: "2026-08-03 15:00", lastRun: "2026-08-03 00:00", now: "2026-08-04 10:00:01",
			want: want{due: []string{"2026-08-04 10:00"}, next: "2026-08-05 10:00"},
		},
		"created at the time of the tick": {
			schedule: "0 10 * * *", notBefore: "2026-08-03 10:00", now: "2026-08-03 10:00", want: want{next: "2026-08-04 10:00"},
		},
		"edited while late": {
			schedule: "0 * * * *", limit: new(int32(5)), notBefore: "2026-08-03 10:00", lastRun: "2026-08-03 07:00", now: "2026-08-03 12:30",
			want: want{due: []string{"2026-08-03 11:00", "2026-08-03 12:00"}},
		},
		"created by an API server whose clock is ahead": {
			schedule: "* * * * *", notBefore: "2026-08-03 10:05", now: "2026-08-03 10:00", want: want{next: "2026-08-03 10:06", after: time.Minute},
		},

		// A clock goes back. What was handled stays handled, until the time comes again.
		"the clock went back an hour, the fan-outs are gone": {
			schedule: "* * * * *", notBefore: longAgo, lastRun: "2026-08-03 12:00", now: "2026-08-03 11:00:07", want: want{next: "2026-08-03 12:01"},
		},
		"the clock went back an hour, the fan-outs are there": {
			schedule: "* * * * *", notBefore: longAgo, lastRun: "2026-08-03 12:00", created: []string{"2026-08-03 10:59", "2026-08-03 12:00"},
			now: "2026-08-03 11:00:07", want: want{next: "2026-08-03 12:01"},
		},
		"the clock went back, what was counted is not counted again": {
			schedule: "0 * * * *", limit: new(int32(0)), notBefore: longAgo, lastRun: "2026-08-03 09:00", lastMissed: "2026-08-03 12:00",
			now: "2026-08-03 11:00", want: want{next: "2026-08-03 13:00"},
		},
		"the clock went back, then the time has come again": {
			schedule: "0 * * * *", notBefore: longAgo, lastRun: "2026-08-03 12:00", now: "2026-08-03 13:00",
			want: want{due: []string{"2026-08-03 13:00"}, next: "2026-08-03 14:00"},
		},
		"a fan-out of the future is no reason to skip what is before it": {
			schedule: "0 * * * *", notBefore: longAgo, lastRun: "2026-08-03 09:00", created: []string{"2026-08-03 09:00", "2026-08-04 12:00"},
			now: "2026-08-03 10:00", want: want{due: []string{"2026-08-03 10:00"}, next: "2026-08-03 11:00"},
		},
		"the tick that was created too early comes": {
			schedule: "0 * * * *", notBefore: longAgo, lastRun: "2026-08-04 11:00", created: []string{"2026-08-04 11:00", "2026-08-04 12:00"},
			now: "2026-08-04 12:00", want: want{next: "2026-08-04 13:00"},
		},
		"a leader whose clock is a little behind the last one's": {
			schedule: "0 * * * *", notBefore: longAgo, lastRun: "2026-08-03 10:00", now: "2026-08-03 09:59:59", want: want{next: "2026-08-03 11:00"},
		},
		"a leader whose clock is a little behind, every minute": {
			schedule: "* * * * *", notBefore: longAgo, lastRun: "2026-08-03 10:00", now: "2026-08-03 09:59:59",
			want: want{next: "2026-08-03 10:01", after: time.Minute},
		},
		"never in the future": {
			schedule: "0 10 * * *", lastRun: "2026-08-02 10:00", now: "2026-08-03 09:59:59", want: want{next: "2026-08-03 10:00", after: time.Second},
		},

		// startingDeadlineSeconds.
		"just within the deadline": {
			schedule: "0 10 * * *", deadline: new(int32(3600)), lastRun: "2026-08-02 10:00", now: "2026-08-03 11:00", want: want{due: []string{"2026-08-03 10:00"}},
		},
		"just past the deadline": {
			schedule: "0 10 * * *", deadline: new(int32(3600)), lastRun: "2026-08-02 10:00", now: "2026-08-03 11:00:01",
			want: want{missed: 1, last: "2026-08-03 10:00", reason: MissedStartingDeadline},
		},
		"some past the deadline, some beyond the limit": {
			schedule: "0 * * * *", deadline: new(int32(3 * 3600)), lastRun: "2026-08-03 00:00", now: "2026-08-03 10:00",
			want: want{due: []string{"2026-08-03 10:00"}, missed: 9, last: "2026-08-03 09:00", reason: MissedCatchUpLimit},
		},
		"the deadline bounds all that catch up": {
			schedule: "0 * * * *", limit: new(int32(100)), deadline: new(int32(2 * 3600)), lastRun: "2026-08-03 00:00", now: "2026-08-03 10:00",
			want: want{due: []string{"2026-08-03 08:00", "2026-08-03 09:00", "2026-08-03 10:00"}, missed: 7, last: "2026-08-03 07:00", reason: MissedStartingDeadline},
		},
		"just within the deadline, and beyond the limit": {
			schedule: "0 * * * *", deadline: new(int32(3600)), lastRun: "2026-08-03 08:00", now: "2026-08-03 10:00",
			want: want{due: []string{"2026-08-03 10:00"}, missed: 1, last: "2026-08-03 09:00", reason: MissedCatchUpLimit},
		},
		"a deadline longer than the time": {
			schedule: "0 * * * *", deadline: new(int32(1 << 30)), lastRun: "2026-08-03 09:00", now: "2026-08-03 10:00", want: want{due: []string{"2026-08-03 10:00"}},
		},

		// catchUpLimit.
		"limit 0, on time": {
			schedule: "0 * * * *", limit: new(int32(0)), lastRun: "2026-08-03 08:00", now: "2026-08-03 10:00:59",
			want: want{due: []string{"2026-08-03 10:00"}, missed: 1, last: "2026-08-03 09:00", reason: MissedCatchUpLimit},
		},
		"limit 0, a minute late": {
			schedule: "0 * * * *", limit: new(int32(0)), lastRun: "2026-08-03 09:00", now: "2026-08-03 10:01",
			want: want{missed: 1, last: "2026-08-03 10:00", reason: MissedCatchUpLimit},
		},
		"limit 0, every minute": {
			schedule: "* * * * *", limit: new(int32(0)), lastRun: "2026-08-03 10:00", now: "2026-08-03 10:02",
			want: want{due: []string{"2026-08-03 10:02"}, missed: 1, last: "2026-08-03 10:01", reason: MissedCatchUpLimit},
		},
		"the one on time counts among those that catch up": {
			schedule: "* * * * *", limit: new(int32(2)), lastRun: "2026-08-03 10:00", now: "2026-08-03 10:05:30",
			want: want{due: []string{"2026-08-03 10:04", "2026-08-03 10:05"}, missed: 3, last: "2026-08-03 10:03", reason: MissedCatchUpLimit},
		},
		"five years of every minute": {
			schedule: "* * * * *", lastRun: "2026-08-03 10:00", now: "2031-08-03 10:00",
			want: want{due: []string{"2031-08-03 10:00"}, missed: 1826*24*60 - 1, last: "2031-08-03 09:59", reason: MissedCatchUpLimit},
		},

		// Fan-outs that were created, and a status that does not have them.
		"created, not in the status": {
			schedule: "0 * * * *", limit: new(int32(2)), lastRun: "2026-08-03 05:00", created: []string{"2026-08-03 05:00", "2026-08-03 09:00"},
			now: "2026-08-03 10:30", want: want{due: []string{"2026-08-03 10:00"}, missed: 3, last: "2026-08-03 08:00", reason: MissedCatchUpLimit},
		},
		"created, not in the status, and beyond the limit now": {
			schedule: "0 * * * *", limit: new(int32(1)), lastRun: "2026-08-03 05:00", created: []string{"2026-08-03 08:00", "2026-08-03 09:00"},
			now: "2026-08-03 10:30", want: want{due: []string{"2026-08-03 10:00"}, missed: 2, last: "2026-08-03 07:00", reason: MissedCatchUpLimit},
		},
		"all created, none in the status": {
			schedule: "0 * * * *", limit: new(int32(1)), lastRun: "2026-08-03 09:00", created: []string{"2026-08-03 10:00"}, now: "2026-08-03 10:30",
		},
		"created by another expression": {
			schedule: "0 * * * *", lastRun: "2026-08-03 08:00", created: []string{"2026-08-03 08:30"}, now: "2026-08-03 10:30",
			want: want{due: []string{"2026-08-03 10:00"}, missed: 1, last: "2026-08-03 09:00", reason: MissedCatchUpLimit},
		},

		// Each tenant's own clock.
		"the first clock shows it": {
			schedule: "0 2 * * *", perTenant: true, zone: "America/New_York", lastRun: "2026-03-06 12:00", now: "2026-03-07 12:00",
			want: want{due: []string{"2026-03-07 12:00"}, next: "2026-03-08 12:00"},
		},
		"a second before": {
			schedule: "0 2 * * *", perTenant: true, lastRun: "2026-03-06 12:00", now: "2026-03-07 11:59:59", want: want{next: "2026-03-07 12:00", after: time.Second},
		},
		"created when the tick had begun": {
			schedule: "0 2 * * *", perTenant: true, notBefore: "2026-03-07 13:00", now: "2026-03-07 13:00", want: want{next: "2026-03-08 12:00"},
		},
		"found late, and still to come for most tenants": {
			schedule: "0 2 * * *", perTenant: true, deadline: new(int32(3600)), limit: new(int32(0)), lastRun: "2026-03-06 12:00", now: "2026-03-07 20:00",
			want: want{due: []string{"2026-03-07 12:00"}},
		},
		"found past the deadline of the last clock": {
			schedule: "0 2 * * *", perTenant: true, deadline: new(int32(3600)), lastRun: "2026-03-06 12:00", now: "2026-03-08 15:00:01",
			want: want{due: []string{"2026-03-08 12:00"}, missed: 1, last: "2026-03-07 12:00", reason: MissedStartingDeadline},
		},
		"daylight saving does not move it": {
			schedule: "30 2 * * 0", perTenant: true, zone: "America/New_York", lastRun: "2026-03-01 12:30", now: "2026-03-07 12:30",
			want: want{due: []string{"2026-03-07 12:30"}, next: "2026-03-14 12:30"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{
				Expression: mustParse(t, tc.schedule), CatchUpLimit: tc.limit, StartingDeadlineSeconds: tc.deadline,
				NotBefore: at(t, tc.notBefore), LastRun: at(t, tc.lastRun), LastMissed: at(t, tc.lastMissed), Created: allAt(t, tc.created...), Now: at(t, tc.now),
			}
			if tc.zone != "" {
				in.Zone = zone(t, tc.zone)
			}
			if tc.perTenant {
				in.TimeZoneFrom = v1alpha1.TimeZoneFromTenant
			}
			got := FindTicks(in)
			if diff := cmp.Diff(allAt(t, tc.want.due...), got.Due, cmp.Transformer("set", func(ticks []time.Time) []string { return texts(ticks) })); diff != "" {
				t.Errorf("due (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(Missed{Count: tc.want.missed, Last: at(t, tc.want.last), Reason: tc.want.reason}, got.Missed); diff != "" {
				t.Errorf("missed (-want +got):\n%s", diff)
			}
			if len(got.Next) != 5 || got.RequeueAfter <= 0 || got.RequeueAfter > MaxRequeueAfter {
				t.Errorf("next are %v, after %s", got.Next, got.RequeueAfter)
			}
			if tc.want.next != "" && !got.Next[0].Equal(at(t, tc.want.next)) {
				t.Errorf("next is %s, want %s", got.Next[0], tc.want.next)
			}
			if tc.want.after != 0 && got.RequeueAfter != tc.want.after {
				t.Errorf("after is %s, want %s", got.RequeueAfter, tc.want.after)
			}
		})
	}
}

func TestNextFive(t *testing.T) {
	got := FindTicks(Input{Expression: mustParse(t, "30 2 * * *"), Zone: zone(t, "America/New_York"), NotBefore: at(t, longAgo), LastRun: at(t, "2026-03-06 07:30"), Now: at(t, "2026-03-06 12:00")})
	want := []string{"2026-03-07 07:30", "2026-03-08 07:00", "2026-03-09 06:30", "2026-03-10 06:30", "2026-03-11 06:30"}
	if diff := cmp.Diff(want, texts(got.Next)); diff != "" {
		t.Errorf("next (-want +got):\n%s", diff)
	}
	if got := FindTicks(Input{Now: at(t, "2026-03-06 12:00")}); len(got.Next)+len(got.Due) != 0 || got.RequeueAfter != 0 || got.Missed.Count != 0 {
		t.Errorf("the zero Expression has %+v", got)
	}
}

// Every tick since a schedule was created runs once or is counted as missed once, while the controller is started and
// stopped, and dies between creating fan-outs and writing the status.
func TestEveryTickRunsOrIsCounted(t *testing.T) {
	histories := 300
	if testing.Short() {
		histories = 50
	}
	random := rand.New(rand.NewPCG(5, 6))
	var ranAll, missedAll int64
	for range histories {
		ran, missed := runHistory(t, random)
		ranAll, missedAll = ranAll+ran, missedAll+missed
	}
	if ranAll < int64(histories) || missedAll < int64(histories) {
		t.Errorf("%d ran and %d were missed: these are too few", ranAll, missedAll)
	}
}

// controller has what a controller stores in objects.
type controller struct {
	fanOuts    map[time.Time]bool
	lastRun    time.Time
	lastMissed time.Time
	missed     int64
}

// runHistory runs a random schedule for a random time. It returns how many ticks ran and how many were missed.
func runHistory(t *testing.T, random *rand.Rand) (ran, missed int64) {
	text := []string{"* * * * *", "*/5 * * * *", "0 * * * *", "0 8,9 * * *", "30 2 * * *", "30 1 * * *", "0 0 * * 1", "@monthly"}[random.IntN(8)]
	e, clock := mustParse(t, text), zone(t, zones[random.IntN(len(zones))])
	created := time.Date(1990+random.IntN(40), time.Month(1+random.IntN(12)), 1, 0, 0, random.IntN(60), 0, time.UTC)
	in := Input{Expression: e, Zone: clock, NotBefore: created}
	if random.IntN(2) == 0 {
		in.CatchUpLimit = new(int32(random.IntN(6)))
	}
	if random.IntN(2) == 0 {
		in.StartingDeadlineSeconds = new(int32(1 + random.IntN(2*86400)))
	}
	c := controller{fanOuts: map[time.Time]bool{}}
	kept := random.IntN(4)
	for in.Now = created; ran+missed < 200 && in.Now.Sub(created) < 1000*24*time.Hour; {
		result := FindTicks(in)
		in.Now = in.Now.Add(result.RequeueAfter)
		if random.IntN(3) == 0 {
			in.Now = in.Now.Add(time.Duration(random.Int64N(int64(100 * time.Hour))))
		}
		if random.IntN(3) == 0 {
			in.Now = later(in.Now, e.Next(in.Now, clock))
		}

		in.LastRun, in.LastMissed, in.Created = c.lastRun, c.lastMissed, nil
		for tick := range c.fanOuts {
			in.Created = append(in.Created, tick)
		}
		result = FindTicks(in)
		if dies := random.IntN(4) == 0; dies {
			for _, tick := range result.Due[:random.IntN(len(result.Due)+1)] {
				ran += c.run(t, in, tick)
			}
			continue
		}
		for _, tick := range result.Due {
			ran += c.run(t, in, tick)
		}
		for tick := range c.fanOuts {
			c.lastRun = later(c.lastRun, tick)
		}
		c.missed += result.Missed.Count
		c.lastMissed = later(c.lastMissed, result.Missed.Last)
		missed = c.missed
		c.forget(kept)

		if want := countTicks(e, created, in.Now, clock); ran+missed != want {
			t.Fatalf("%s in %s, created %s: by %s %d ran and %d were missed of %d", text, clock, created, in.Now, ran, missed, want)
		}
	}
	return ran, missed
}

// run creates a fan-out.
func (c *controller) run(t *testing.T, in Input, tick time.Time) int64 {
	late := in.Now.Sub(tick)
	if c.fanOuts[tick] || !tick.After(c.lastRun) || late < 0 {
		t.Fatalf("%s runs at %s, after %s", tick, in.Now, c.lastRun)
	}
	if in.StartingDeadlineSeconds != nil && late > time.Duration(*in.StartingDeadlineSeconds)*time.Second {
		t.Fatalf("%s runs at %s, past its deadline", tick, in.Now)
	}
	c.fanOuts[tick] = true
	return 1
}

// forget removes all but the newest fan-outs.
func (c *controller) forget(kept int) {
	for len(c.fanOuts) > kept {
		oldest := c.lastRun
		for tick := range c.fanOuts {
			if tick.Before(oldest) {
				oldest = tick
			}
		}
		delete(c.fanOuts, oldest)
	}
}
