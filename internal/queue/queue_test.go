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
		words      string
		// uncounted means that the time does not count against maxWaitSeconds.
		uncounted bool
	}{
		"by itself": {
			job:   func(j *Job) { j.Held = "template report is not ready" },
			lift:  func(s *State) { s.Put(givenJob()) },
			words: "template report is not ready", uncounted: true,
		},
		"not due": {
			job:   func(j *Job) { j.NotBefore = noon.Add(time.Minute) },
			lift:  func(s *State) { s.Advance(noon.Add(time.Minute)) },
			words: "it is not due (`spec.notBeforeTime`)", uncounted: true,
		},
		"tenant suspended": {
			hold:  func(s *State) { s.SetTenant(Tenant{Name: "acme", Held: "tenant acme is suspended"}) },
			lift:  func(s *State) { s.SetTenant(Tenant{Name: "acme"}) },
			words: "tenant acme is suspended", uncounted: true,
		},
		"no tenant": {
			hold:  func(s *State) { s.RemoveTenant("acme") },
			lift:  func(s *State) { s.SetTenant(Tenant{Name: "acme"}) },
			words: "there is no tenant acme", uncounted: true,
		},
		"fan-out paused": {
			hold:  func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", Held: "fan-out nightly-1 is paused"}) },
			lift:  func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1"}) },
			words: "fan-out nightly-1 is paused", uncounted: true,
		},
		"no fan-out": {
			hold:  func(s *State) { s.RemoveFanOut("nightly-1") },
			lift:  func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1"}) },
			words: "there is no fan-out nightly-1", uncounted: true,
		},
		"closed wave": {
			job:   func(j *Job) { j.Wave = 2 },
			hold:  func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", OpenWave: 1}) },
			lift:  func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", OpenWave: 2}) },
			words: "fan-out nightly-1 has not come to its wave", uncounted: true,
		},
		"fan-out full": {
			hold: func(s *State) {
				s.SetFanOut(FanOut{Name: "nightly-1", MaxConcurrent: 3})
				running(s, 3)
			},
			lift:  func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", MaxConcurrent: 4}) },
			words: "fan-out nightly-1 is full (`spec.strategy.maxConcurrent`: 3)", uncounted: true,
		},
		"no queue": {
			hold:  func(s *State) { s.RemoveQueue("checks") },
			lift:  func(s *State) { s.SetQueue(Queue{Name: "checks"}) },
			words: "there is no TenantQueue checks: create it", uncounted: true,
		},
		"queue suspended": {
			hold:  func(s *State) { s.SetQueue(Queue{Name: "checks", Suspended: true}) },
			lift:  func(s *State) { s.SetQueue(Queue{Name: "checks"}) },
			words: "queue checks is suspended (`spec.suspend`)", uncounted: true,
		},
		"template": {
			hold: func(s *State) {
				s.SetTemplate("report", 1)
				running(s, 1)
			},
			lift:  func(s *State) { s.SetTemplate("report", 0) },
			words: "template report runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)",
		},
		"tenant full": {
			hold: func(s *State) {
				s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 2})
				running(s, 2)
			},
			lift:  func(s *State) { s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 3}) },
			words: "tenant acme runs at most 2 jobs at once (`spec.jobs.maxConcurrent`)",
		},
		"queue per tenant": {
			hold: func(s *State) {
				s.SetQueue(Queue{Name: "checks", MaxConcurrentPerTenant: 2})
				running(s, 2)
			},
			lift:  func(s *State) { s.SetQueue(Queue{Name: "checks", MaxConcurrentPerTenant: 3}) },
			words: "queue checks runs at most 2 at once for a tenant (`spec.maxConcurrentPerTenant`)",
		},
		"backoff": {
			hold:  func(s *State) { s.HoldBack("acme", noon.Add(time.Second), "") },
			lift:  func(s *State) { s.HoldBack("acme", time.Time{}, "") },
			words: "a start of tenant acme failed, its next one is tried soon",
		},
		"queue full of others": {
			hold: func(s *State) {
				s.SetQueue(Queue{Name: "checks", MaxConcurrent: 20})
				running(s, 20, other)
			},
			lift:  func(s *State) { s.SetQueue(Queue{Name: "checks", MaxConcurrent: 21}) },
			words: "queue checks is full (`spec.maxConcurrent`: 20)",
		},
		"rate": {
			hold: func(s *State) {
				s.SetQueue(Queue{Name: "checks", StartsPerMinute: 2})
				s.Started("checks", noon.Add(-time.Second))
				s.Started("checks", noon.Add(-59*time.Second))
			},
			lift:  func(s *State) { s.Advance(noon.Add(time.Second)) },
			words: "queue checks starts at most 2 a minute (`spec.startsPerMinute`)",
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
			h, waits := s.Hold("job")
			if !waits || h.Words() != tc.words || h.Counts() == tc.uncounted {
				t.Errorf("held by %+v, want %q", h, tc.words)
			}
			if early := s.Review(1, 1<<30, time.Second); len(early) > 0 {
				t.Errorf("told at once: %+v", early)
			}
			want := []Told{{job, h}}
			if h.Kind == HeldByItself {
				want = nil
			}
			if told := s.Review(1, 1<<30, 0); !slices.Equal(told, want) {
				t.Errorf("told %+v, want %+v", told, want)
			}
			if again := s.Review(100, 1<<30, 0); len(again) > 0 {
				t.Errorf("told again: %+v", again)
			}
			tc.lift(s)
			if h, waits := s.Hold("job"); !waits || h.Kind != "" {
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
				s.Started("checks", at)
			}
			s.Put(givenJob(other, uid("19")))
		}
		d := s.Next(now)
		for d.Action == ActionNone {
			now = d.At
			d = s.Next(now)
		}
		if n%5 == 0 {
			// It came to nothing, and does not count.
			s.Back(d.Job.UID)
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

// TestKeepsSlots: nothing but Back and Remove gives slots back, and a limit that is lowered stops nothing.
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
	s.Back("job")
	s.Back("job")
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

// TestWordsHaveNoTimes keeps messages stable.
func TestWordsHaveNoTimes(t *testing.T) {
	for _, kind := range []Kind{HeldByTime, HeldByBackoff, HeldByRate} {
		if words := (Hold{Kind: kind, By: "x", Limit: 1}).Words(); strings.Contains(words, ":") {
			t.Errorf("%s: %q", kind, words)
		}
	}
}

// What was said of a job stays for as long as it is true, also when somebody else had said it: the dispatcher before a
// restart.
func TestTell(t *testing.T) {
	const settle = time.Second
	s := given()
	s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1})
	s.SetTenant(Tenant{Name: "acme", MaxConcurrent: 1})
	running := givenJob()
	running.UID, running.FanOut, running.Schedule = "running", "", ""
	s.Run(running, noon)
	s.Put(givenJob())
	const byTenant, byQueue = "tenant acme runs at most 1 jobs at once (`spec.jobs.maxConcurrent`)", "queue checks is full (`spec.maxConcurrent`: 1)"
	for _, step := range []struct {
		name, said, want string
		do               func()
	}{
		{name: "young", want: ""},
		{name: "young, and said before", said: byQueue, want: byQueue},
		{name: "still true", said: byQueue, want: byQueue},
		{name: "no longer true", said: byQueue, want: byTenant, do: func() {
			s.Advance(noon.Add(settle))
			s.SetQueue(Queue{Name: "checks"})
		}},
		{name: "something else was said", said: "nonsense", want: byTenant},
		{name: "nothing holds it", said: byTenant, want: "", do: func() { s.SetTenant(Tenant{Name: "acme"}) }},
	} {
		if step.do != nil {
			step.do()
		}
		words := ""
		if h := s.Tell("job", step.said, settle); h.Kind != "" {
			words = h.Words()
		}
		if words != step.want {
			t.Errorf("%s: said %q, want %q", step.name, words, step.want)
		}
	}
}

// A flood is told of bit by bit, and nobody in it is passed over.
func TestReviewTellsSoManyAtOnce(t *testing.T) {
	s := given()
	s.SetQueue(Queue{Name: "checks", Suspended: true})
	for i := range 5 {
		s.Put(givenJob(uid(types.UID(fmt.Sprint(i)))))
	}
	told := map[types.UID]bool{}
	for _, want := range []int{2, 2, 1, 0} {
		some := s.Review(100, 2, 0)
		if len(some) != want {
			t.Errorf("told %d, want %d", len(some), want)
		}
		for _, one := range some {
			told[one.Job.UID] = true
		}
	}
	if len(told) != 5 {
		t.Errorf("%d of 5 were told", len(told))
	}
}
