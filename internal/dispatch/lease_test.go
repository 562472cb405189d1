package dispatch

import (
	"context"
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	clocktesting "k8s.io/utils/clock/testing"
)

// lockOf is a lock whose writes take time and fail as the test says.
type lockOf struct {
	resourcelock.Interface
	write func() error
	// holder is who holds the lease, and renewed when it was renewed.
	holder  string
	renewed time.Time
}

func (l lockOf) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: l.holder, RenewTime: metav1.NewTime(l.renewed)}, nil, l.write()
}

func (l lockOf) Identity() string { return "me" }

func (l lockOf) Create(context.Context, resourcelock.LeaderElectionRecord) error { return l.write() }

func (l lockOf) Update(context.Context, resourcelock.LeaderElectionRecord) error { return l.write() }

// TestLeaseHasItsOwnConfig: its timeout is not the manager's, whose watches it would end again and again.
func TestLeaseHasItsOwnConfig(t *testing.T) {
	t.Parallel()
	config := &rest.Config{Host: "https://192.0.2.1"}
	if _, err := NewLease(config, "tenantry-system", "tenantry.dev"); err != nil {
		t.Fatal(err)
	}
	if config.Timeout != 0 || config.UserAgent != "" {
		t.Errorf("the manager's config has a timeout of %v and the user agent %q", config.Timeout, config.UserAgent)
	}
}

func TestLeaseLeads(t *testing.T) {
	t.Parallel()
	const safe = LeaseDuration - WriteTimeout - leaseMargin
	me, nobody := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}
	type step struct {
		wait   time.Duration
		update *resourcelock.LeaderElectionRecord
		takes  time.Duration
		fails  error
		want   bool
	}
	for name, steps := range map[string][]step{
		"before it has the lease":           {{want: false}},
		"just renewed":                      {{update: &me, want: true}},
		"as long as a write can be":         {{update: &me, want: true}, {wait: safe - 1, want: true}, {wait: 1, want: false}},
		"renewed in time":                   {{update: &me, want: true}, {wait: safe - 1, update: &me, want: true}, {wait: safe - 1, want: true}},
		"stopped for a day":                 {{update: &me, want: true}, {wait: 24 * time.Hour, want: false}},
		"in vain":                           {{update: &me, want: true}, {wait: safe, update: &me, fails: errors.New("conflict"), want: false}},
		"in vain, while it still has it":    {{update: &me, want: true}, {wait: 1, update: &me, fails: errors.New("conflict"), want: true}},
		"counted from when it was sent":     {{update: &me, takes: safe, want: false}},
		"released":                          {{update: &me, want: true}, {update: &nobody, want: false}},
		"released in vain: it still has it": {{update: &me, want: true}, {update: &nobody, fails: errors.New("timeout"), want: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := clocktesting.NewFakeClock(time.Now())
			lock := &lockOf{}
			lease := newLease(lock, clock)
			for i, s := range steps {
				clock.Step(s.wait)
				lock.write = func() error { clock.Step(s.takes); return s.fails }
				if s.update != nil {
					if err := lease.Update(t.Context(), *s.update); !errors.Is(err, s.fails) {
						t.Fatal(err)
					}
				}
				if got := lease.Leads(); got != s.want {
					t.Errorf("step %d: leads: %t, want %t", i, got, s.want)
				}
			}
		})
	}
}

// TestLeaseSeesAnotherHolder: a process whose clock stood still does not lead once it has read who holds the lease.
func TestLeaseSeesAnotherHolder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		holder string
		fails  error
		want   bool
		// others means that it takes the renewal for another process's.
		others bool
	}{
		"its own":          {holder: "me", want: true},
		"another's":        {holder: "another", want: false, others: true},
		"nobody's":         {holder: "", want: false, others: true},
		"it can't be read": {holder: "another", fails: errors.New("timeout"), want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lock := &lockOf{write: func() error { return nil }}
			lease := newLease(lock, clocktesting.NewFakeClock(time.Now()))
			if err := lease.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me"}); err != nil {
				t.Fatal(err)
			}
			lock.renewed = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
			lock.holder, lock.write = tc.holder, func() error { return tc.fails }
			if _, _, err := lease.Get(t.Context()); !errors.Is(err, tc.fails) {
				t.Fatal(err)
			}
			if got := lease.Leads(); got != tc.want {
				t.Errorf("leads: %t, want %t", got, tc.want)
			}
			if at := lease.OthersRenewal(); at.Equal(lock.renewed) != tc.others || at.IsZero() == tc.others {
				t.Errorf("another process has renewed it at %v", at)
			}
		})
	}
}
