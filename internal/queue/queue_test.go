package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// given is a State with a queue, a tenant, a fan-out, and a job of them that could start.
func given() *State {
	s := New(noon)
	s.SetQueue(Queue{Name: "checks"})
	s.SetTenant(Tenant{Name: "acme"})
	s.SetTenant(Tenant{Name: "globex"})
	s.SetFanOut(FanOut{Name: "nightly-1"})
	return s
}

func givenJob(changes ...func(*Job)) Job {
	j := Job{
		UID: "job", Key: types.NamespacedName{Namespace: "tenant-acme", Name: "report-8231"}, Queue: "checks", Tenant: "acme",
		Template: "report", FanOut: "nightly-1", Schedule: "nightly", Created: noon.Add(-time.Hour), MaxWait: time.Minute,
	}
	for _, change := range changes {
		change(&j)
	}
	return j
}

func uid(u types.UID) func(*Job) { return func(j *Job) { j.UID = u } }

// of another tenant, template, fan-out and schedule.
func other(j *Job) { j.Tenant, j.Template, j.FanOut, j.Schedule = "globex", "invoice", "", "" }

func TestHold(t *testing.T) {
	running := func(s *State, n int, changes ...func(*Job)) {
		for i := range n {
			j := givenJob(append(changes, uid(types.UID(fmt.Sprintf("running-%d", i))))...)
			j.Schedule = ""
			s.Run(j, noon.Add(-time.Hour))
		}
	}
	for name, tc := range map[string]struct {
		job func(*Job)
		// hold sets the limit that holds it, lift takes it away.
		hold, lift func(*State)
		message    string
		// uncounted means that the time does not count against maxWaitSeconds.
		uncounted bool
	}{
		"by itself": {
			job:     func(j *Job) { j.Held = "template report is not ready" },
			lift:    func(s *State) { s.Put(givenJob()) },
			message: "template report is not ready", uncounted: true,
		},
		"not due": {
			job:     func(j *Job) { j.NotBefore = noon.Add(time.Minute) },
			lift:    func(s *State) { s.Advance(noon.Add(time.Minute)) },
			message: "it is not due (`spec.notBeforeTime`)", uncounted: true,
		},
		"tenant suspended": {
			hold:    func(s *State) { s.SetTenant(Tenant{Name: "acme", Held: "tenant acme is suspended"}) },
			lift:    func(s *State) { s.SetTenant(Tenant{Name: "acme"}) },
			message: "tenant acme is suspended", uncounted: true,
		},
		"all held": {
			hold:    func(s *State) { s.HoldAll("policy tenant-run is not in force") },
			lift:    func(s *State) { s.HoldAll("") },
			message: "policy tenant-run is not in force", uncounted: true,
		},
		"no tenant": {
			hold:    func(s *State) { s.RemoveTenant("acme") },
			lift:    func(s *State) { s.SetTenant(Tenant{Name: "acme"}) },
			message: "there is no tenant acme", uncounted: true,
		},
		"fan-out paused": {
			hold:    func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", Held: "fan-out nightly-1 is paused"}) },
			lift:    func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1"}) },
			message: "fan-out nightly-1 is paused", uncounted: true,
		},
		"no fan-out": {
			hold:    func(s *State) { s.RemoveFanOut("nightly-1") },
			lift:    func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1"}) },
			message: "there is no fan-out nightly-1", uncounted: true,
		},
		"closed wave": {
			job:     func(j *Job) { j.Wave = 2 },
			hold:    func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", OpenWave: 1}) },
			lift:    func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", OpenWave: 2}) },
			message: "fan-out nightly-1 has not opened its wave", uncounted: true,
		},
		"fan-out full": {
			hold: func(s *State) {
				s.SetFanOut(FanOut{Name: "nightly-1", MaxConcurrent: 3})
				running(s, 3)
			},
			lift:    func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", MaxConcurrent: 4}) },
			message: "fan-out nightly-1 is full (`spec.strategy.maxConcurrent`: 3)", uncounted: true,
		},
		"no queue": {
			hold:    func(s *State) { s.RemoveQueue("checks") },
			lift:    func(s *State) { s.SetQueue(Queue{Name: "checks"}) },
			message: "there is no TenantQueue checks: create it", uncounted: true,
		},
		"queue suspended": {
			hold:    func(s *State) { s.SetQueue(Queue{Name: "checks", Suspended: true}) },
			lift:    func(s *State) { s.SetQueue(Queue{Name: "checks"}) },
			message: "queue checks is suspended (`spec.suspend`)", uncounted: true,
		},
		"template": {
			hold: func(s *State) {
				s.SetTemplate("report", 1)
				running(s, 1)
			},
			lift:    func(s *State) { s.SetTemplate("report", 0) },
			message: "template report runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)",
		},
		"tenant full": {
			hold: func(s *State) {
				s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 2})
				running(s, 2)
			},
			lift:    func(s *State) { s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 3}) },
			message: "tenant acme runs at most 2 at once (`spec.jobs.maxConcurrent`)",
		},
		"queue per tenant": {
			hold: func(s *State) {
				s.SetQueue(Queue{Name: "checks", MaxConcurrentPerTenant: 2})
				running(s, 2)
			},
			lift:    func(s *State) { s.SetQueue(Queue{Name: "checks", MaxConcurrentPerTenant: 3}) },
			message: "queue checks runs at most 2 at once for a tenant (`spec.maxConcurrentPerTenant`)",
		},
		"backoff": {
			hold:    func(s *State) { s.BackOff("acme", noon.Add(time.Second), "") },
			lift:    func(s *State) { s.BackOff("acme", time.Time{}, "") },
			message: "a start of tenant acme failed, its next one is tried soon",
		},
		"queue full of others": {
			hold: func(s *State) {
				s.SetQueue(Queue{Name: "checks", MaxConcurrent: 20})
				running(s, 20, other)
			},
			lift:    func(s *State) { s.SetQueue(Queue{Name: "checks", MaxConcurrent: 21}) },
			message: "queue checks is full (`spec.maxConcurrent`: 20)",
		},
		"rate": {
			hold: func(s *State) {
				s.SetQueue(Queue{Name: "checks", StartsPerMinute: 2})
				s.RecordStart("checks", noon.Add(-time.Second))
				s.RecordStart("checks", noon.Add(-59*time.Second))
			},
			lift:    func(s *State) { s.Advance(noon.Add(time.Second)) },
			message: "queue checks starts at most 2 a minute (`spec.startsPerMinute`)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := given()
			job := givenJob()
			if tc.job != nil {
				tc.job(&job)
			}
			s.Put(job)
			if tc.hold != nil {
				tc.hold(s)
			}
			if d := s.Next(noon); d.Action != ActionNone {
				t.Fatalf("decided %+v", d)
			}
			h, waits := s.holdOf("job")
			if !waits || h.Message() != tc.message || h.CountsAsWait() == tc.uncounted {
				t.Errorf("held by %+v, want %q", h, tc.message)
			}
			if early := s.Review(1, 1<<30, time.Second); len(early) > 0 {
				t.Errorf("stale before it has settled: %+v", early)
			}
			want := []StaleStatus{{job, h}}
			if h.Kind == HeldByItself {
				want = nil
			}
			if stale := s.Review(1, 1<<30, 0); !slices.Equal(stale, want) {
				t.Errorf("stale %+v, want %+v", stale, want)
			}
			if again := s.Review(100, 1<<30, 0); len(again) > 0 {
				t.Errorf("stale again: %+v", again)
			}
			tc.lift(s)
			if h, waits := s.holdOf("job"); !waits || h.Kind != "" {
				t.Errorf("lifted, and held by %+v", h)
			}
			if d := s.Next(s.now); d.Action != ActionStart || d.Job.UID != "job" {
				t.Errorf("lifted, and decided %+v", d)
			}
		})
	}
}

// TestOverlap has a run of the schedule that fills every limit of its tenant.
func TestOverlap(t *testing.T) {
	for name, tc := range map[string]struct {
		policy v1alpha1.ConcurrencyPolicy
		want   []Action
	}{
		"unset":   {"", []Action{ActionOverlapped, ActionNone}},
		"Forbid":  {v1alpha1.ConcurrencyForbid, []Action{ActionOverlapped, ActionNone}},
		"Replace": {v1alpha1.ConcurrencyReplace, []Action{ActionReplace, ActionStart}},
		"Allow":   {v1alpha1.ConcurrencyAllow, []Action{ActionNone, ActionStart}},
	} {
		t.Run(name, func(t *testing.T) {
			s := given()
			s.SetFanOut(FanOut{Name: "nightly-2"})
			s.SetTemplate("report", 1)
			s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 1})
			s.SetQueue(Queue{Name: "checks", MaxConcurrent: 20, MaxConcurrentPerTenant: 1})
			s.Run(givenJob(uid("earlier")), noon)
			s.Put(givenJob(func(j *Job) { j.FanOut, j.Overlap = "nightly-2", tc.policy }))
			d := s.Next(noon)
			got := []Action{d.Action}
			if d.Action != ActionNone {
				if diff := cmp.Diff([]types.UID{"earlier"}, d.Earlier); diff != "" {
					t.Error(diff)
				}
				if d := s.Next(noon); d.Action != ActionNone {
					t.Errorf("decided %+v before the earlier one was gone", d)
				}
			}
			s.Remove("earlier")
			if diff := cmp.Diff(tc.want, append(got, s.Next(noon).Action)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCaughtUp: runs of ticks that were caught up on together wait for each other, and overlap with those of other ticks.
func TestCaughtUp(t *testing.T) {
	tick := func(hour int) time.Time { return noon.Add(time.Duration(hour-12) * time.Hour) }
	for name, tc := range map[string]struct {
		policy v1alpha1.ConcurrencyPolicy
		// running is the tick of the run that holds a slot. Zero means that it is not known.
		running time.Time
		want    []Action
		hold    Kind
	}{
		"Forbid, the tick before":  {v1alpha1.ConcurrencyForbid, tick(9), []Action{ActionNone, ActionStart}, HeldByCaughtUp},
		"Forbid, the tick after":   {v1alpha1.ConcurrencyForbid, tick(11), []Action{ActionNone, ActionStart}, HeldByCaughtUp},
		"Replace, the tick before": {v1alpha1.ConcurrencyReplace, tick(9), []Action{ActionNone, ActionStart}, HeldByCaughtUp},
		"Allow":                    {v1alpha1.ConcurrencyAllow, tick(9), []Action{ActionStart, ActionNone}, ""},
		"Forbid, an earlier tick":  {v1alpha1.ConcurrencyForbid, tick(8), []Action{ActionOverlapped, ActionNone}, ""},
		"Replace, an earlier tick": {v1alpha1.ConcurrencyReplace, tick(8), []Action{ActionReplace, ActionStart}, ""},
		"Forbid, an unknown tick":  {v1alpha1.ConcurrencyForbid, time.Time{}, []Action{ActionOverlapped, ActionNone}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := given()
			s.SetFanOut(FanOut{Name: "nightly-2"})
			s.Run(givenJob(uid("other"), func(j *Job) { j.Tick = tc.running }), noon)
			s.Put(givenJob(func(j *Job) {
				j.FanOut, j.Overlap, j.Tick, j.CaughtUpFrom, j.CaughtUpTo = "nightly-2", tc.policy, tick(10), tick(9), tick(11)
			}))
			got := []Action{s.Next(noon).Action}
			if h, waits := s.holdOf("job"); tc.hold != "" && (!waits || h.Kind != tc.hold || h.CountsAsWait()) {
				t.Errorf("it is held by %+v", h)
			}
			s.Remove("other")
			if diff := cmp.Diff(tc.want, append(got, s.Next(noon).Action)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOverlappedIsPutBack: one that is not to overlap with an earlier run takes its place, if the caller wants that. It keeps its
// clock.
func TestOverlappedIsPutBack(t *testing.T) {
	s := given()
	s.SetFanOut(FanOut{Name: "nightly-2"})
	s.Run(givenJob(uid("earlier")), noon)
	s.Put(givenJob(func(j *Job) { j.FanOut, j.Overlap, j.Waited = "nightly-2", v1alpha1.ConcurrencyForbid, time.Second }))
	d := s.Next(noon)
	back := d.Job
	back.Overlap = v1alpha1.ConcurrencyReplace
	s.Put(back)
	got := []Action{d.Action, s.Next(noon).Action}
	s.Put(d.Job) // What the caller says of it again does not bring the run back that is being stopped.
	got = append(got, s.Next(noon).Action)
	if waited := s.Waited("job"); waited != time.Second {
		t.Errorf("it has waited for %v", waited)
	}
	s.Remove("earlier")
	want := []Action{ActionOverlapped, ActionReplace, ActionNone, ActionStart}
	if diff := cmp.Diff(want, append(got, s.Next(noon).Action)); diff != "" {
		t.Error(diff)
	}
}

// TestRate starts as many as it can for five minutes, with a limit of 7, and a restart in between.
func TestRate(t *testing.T) {
	s := given()
	s.SetQueue(Queue{Name: "checks", StartsPerMinute: 7})
	var starts []time.Time
	now, n := noon, 0
	for now.Before(noon.Add(5 * time.Minute)) {
		s.Put(givenJob(other, uid(types.UID(fmt.Sprint(n)))))
		n++
		if n == 20 {
			s = given()
			s.SetQueue(Queue{Name: "checks", StartsPerMinute: 7})
			for _, at := range starts {
				s.RecordStart("checks", at)
			}
			s.Put(givenJob(other, uid("19")))
		}
		d := s.Next(now)
		for d.Action == ActionNone {
			now = d.At
			d = s.Next(now)
		}
		if n%5 == 0 {
			// A start that is given back does not count.
			s.Requeue(d.Job.UID)
			s.Remove(d.Job.UID)
			continue
		}
		starts = append(starts, now)
		now = now.Add(time.Second)
	}
	for i := 7; i < len(starts); i++ {
		if took := starts[i].Sub(starts[i-7]); took != time.Minute && (took < time.Minute || i > 10) {
			t.Errorf("starts %d to %d took %v", i-7, i, took)
		}
	}
	if len(starts) < 35 {
		t.Errorf("%d starts in five minutes", len(starts))
	}
}

// TestKeepsSlots: only Requeue and Remove give slots back, and lowering a limit stops nothing.
func TestKeepsSlots(t *testing.T) {
	s := given()
	s.Put(givenJob())
	if d := s.Next(noon); d.Action != ActionStart {
		t.Fatalf("decided %+v", d)
	}
	s.Put(givenJob())
	s.Run(givenJob(), noon)
	s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1})
	s.Run(givenJob(uid("found"), other), noon)
	if diff := cmp.Diff(Counts{Running: 2}, s.Counts("checks")); diff != "" {
		t.Error(diff)
	}
	s.Requeue("job")
	s.Requeue("job")
	if diff := cmp.Diff(Counts{Waiting: 1, Running: 1, Oldest: noon.Add(-time.Hour)}, s.Counts("checks")); diff != "" {
		t.Error(diff)
	}
	if d := s.Next(noon); d.Action != ActionNone {
		t.Errorf("decided %+v", d)
	}
	s.Remove("found")
	s.Remove("found")
	if d := s.Next(noon); d.Action != ActionStart {
		t.Errorf("decided %+v", d)
	}
}

// TestMessagesHaveNoTimes: messages are stable.
func TestMessagesHaveNoTimes(t *testing.T) {
	for _, kind := range []Kind{HeldByTime, HeldByBackoff, HeldByRate} {
		if message := (Hold{Kind: kind, By: "x", Limit: 1}).Message(); strings.Contains(message, ":") {
			t.Errorf("%s: %q", kind, message)
		}
	}
}

// TestStatusHold: a status message stays as long as it is true, also one from before a restart.
func TestStatusHold(t *testing.T) {
	const settle = time.Second
	s := given()
	s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1})
	s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 1})
	running := givenJob()
	running.UID, running.FanOut, running.Schedule = "running", "", ""
	s.Run(running, noon)
	s.Put(givenJob())
	const byTenant, byQueue = "tenant acme runs at most 1 at once (`spec.jobs.maxConcurrent`)", "queue checks is full (`spec.maxConcurrent`: 1)"
	for _, step := range []struct {
		name, current, want string
		do                  func()
	}{
		{name: "young", want: ""},
		{name: "young, with a message", current: byQueue, want: byQueue},
		{name: "still true", current: byQueue, want: byQueue},
		{name: "no longer true", current: byQueue, want: byTenant, do: func() {
			s.Advance(noon.Add(settle))
			s.SetQueue(Queue{Name: "checks"})
		}},
		{name: "another message", current: "nonsense", want: byTenant},
		{name: "nothing holds it", current: byTenant, want: "", do: func() { s.SetTenant(Tenant{Name: "acme"}) }},
	} {
		if step.do != nil {
			step.do()
		}
		message := ""
		if h := s.StatusHold("job", step.current, settle); h.Kind != "" {
			message = h.Message()
		}
		if message != step.want {
			t.Errorf("%s: message %q, want %q", step.name, message, step.want)
		}
	}
}

// TestReviewReturnsAtMost: each call returns at most so many jobs, and no job is left out.
func TestReviewReturnsAtMost(t *testing.T) {
	s := given()
	s.SetQueue(Queue{Name: "checks", Suspended: true})
	for i := range 5 {
		s.Put(givenJob(uid(types.UID(fmt.Sprint(i)))))
	}
	stale := map[types.UID]bool{}
	for _, want := range []int{2, 2, 1, 0} {
		some := s.Review(100, 2, 0)
		if len(some) != want {
			t.Errorf("%d are stale, want %d", len(some), want)
		}
		for _, one := range some {
			stale[one.Job.UID] = true
		}
	}
	if len(stale) != 5 {
		t.Errorf("%d of 5 were returned", len(stale))
	}
}

// TestStartsRatherThanExpires: one whose maxWaitSeconds has passed, and that nothing holds, starts. Such are those that nobody was
// there to start.
func TestStartsRatherThanExpires(t *testing.T) {
	s := given()
	s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1})
	for _, name := range []types.UID{"first", "second"} {
		s.Put(givenJob(uid(name), other, func(j *Job) { j.Waited = time.Hour }))
	}
	if d := s.Next(noon); d.Action != ActionStart || d.Job.UID != "first" {
		t.Errorf("decided %+v", d)
	}
	if d := s.Next(noon); d.Action != ActionExpire || d.Job.UID != "second" || d.Hold.Kind != HeldByFullQueue {
		t.Errorf("decided %+v", d)
	}
}
