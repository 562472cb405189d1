package queue

import (
	"testing"
	"time"
)

// TestClock has a job with a MaxWait of a minute behind a full queue.
func TestClock(t *testing.T) {
	for name, tc := range map[string]struct {
		stop, run func(*State)
	}{
		"queue suspended": {
			func(s *State) { s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1, Suspended: true}) },
			func(s *State) { s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1}) },
		},
		"tenant suspended": {
			func(s *State) { s.SetTenant(Tenant{Name: "acme", Held: "suspended"}) },
			func(s *State) { s.SetTenant(Tenant{Name: "acme"}) },
		},
		"fan-out paused": {
			func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", Held: "paused"}) },
			func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1"}) },
		},
		"fan-out full": {
			func(s *State) {
				s.SetFanOut(FanOut{Name: "nightly-1", MaxConcurrent: 1})
				s.Run(givenJob(uid("sibling"), func(j *Job) { j.Tenant, j.Schedule = "globex", "" }), noon)
			},
			func(s *State) { s.Remove("sibling") },
		},
		"wave closed": {
			func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1", OpenWave: -1}) },
			func(s *State) { s.SetFanOut(FanOut{Name: "nightly-1"}) },
		},
		"held by itself": {
			func(s *State) { s.Put(givenJob(func(j *Job) { j.Held = "policies are not in force" })) },
			func(s *State) { s.Put(givenJob()) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := given()
			s.SetQueue(Queue{Name: "checks", MaxConcurrent: 1})
			s.Run(givenJob(uid("running"), other), noon)
			s.Put(givenJob(func(j *Job) { j.Waited = 5 * time.Second }))
			at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
			s.Advance(at(20))
			tc.stop(s)
			if d := s.Next(at(1000)); d.Action != ActionNone || !d.At.IsZero() {
				t.Errorf("while stopped, decided %+v", d)
			}
			if got := s.Waited("job"); got != 25*time.Second {
				t.Errorf("waited %v", got)
			}
			tc.run(s)
			if d := s.Next(at(1000)); d.Action != ActionNone || !d.At.Equal(at(1035)) {
				t.Errorf("while running again, decided %+v", d)
			}
			if d := s.Next(at(1035)); d.Action != ActionExpire || d.Hold.Kind != HeldByFullQueue {
				t.Errorf("after MaxWait, decided %+v", d)
			}
		})
	}
}
