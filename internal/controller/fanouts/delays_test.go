package fanouts

import (
	"testing"
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
)

var (
	fullQuota = delayCause{message: "quota", reason: v1alpha1.ReasonPodsRefused, longestRetry: lastRefusedRetry}
	noAnswer  = delayCause{message: "no answer", reason: v1alpha1.ReasonPodsRefused, unclear: true, longestRetry: lastFailedRetry}
)

func newTestFanOut(tenants ...string) *activeFanOut {
	plan := &fanout.Plan{FanOut: "uid"}
	for _, tenant := range tenants {
		plan.Entries = append(plan.Entries, fanout.Entry{Tenant: tenant})
	}
	return newActiveFanOut(plan, fanout.NewLedger(plan), "1")
}

// TestDelaysRetry: a creation is tried again later and later, another tenant's at once.
func TestDelaysRetry(t *testing.T) {
	for name, tc := range map[string]struct {
		cause delayCause
		want  []time.Duration
	}{
		"refused": {fullQuota, []time.Duration{2, 4, 8, 10, 10}},
		"failed":  {noAnswer, []time.Duration{2, 4, 8, 16, 30, 30}},
	} {
		a, now := newTestFanOut("acme", "globex"), time.Now()
		for i, want := range tc.want {
			a.setDelayed("acme", tc.cause, now)
			retryAt := now.Add(want * time.Second)
			if got := a.requeueAt(now); !got.Equal(retryAt) {
				t.Errorf("%s: after %d failures it is tried again after %v, want %v", name, i+1, got.Sub(now), want*time.Second)
			}
			if got := a.withoutDelayed([]int{0, 1}, retryAt.Add(-1)); len(got) != 1 || got[0] != 1 {
				t.Errorf("%s: before that %v are tried", name, got)
			}
			if got := a.withoutDelayed([]int{0, 1}, retryAt); len(got) != 2 {
				t.Errorf("%s: then %v are tried", name, got)
			}
			now = retryAt
		}
	}
}

// TestDelaysEnd: how long a tenant is waited for whose child can't be created, and whose fault that is.
func TestDelaysEnd(t *testing.T) {
	const never = -1
	for name, tc := range map[string]struct {
		cause delayCause
		// failing are other tenants whose creations have failed, succeeds says whether one succeeds each time.
		failing  []string
		succeeds bool
		// wanted says whether the child is to be created at a pass.
		wanted func(pass int) bool
		// passes is after how many passes of 30 seconds the tenant ends.
		passes int
	}{
		"refused": {cause: fullQuota, passes: 4},
		"refused, while creations of others fail": {cause: fullQuota, failing: []string{"b", "c", "d"}, passes: 4},
		"failed":                                       {cause: noAnswer, passes: 4},
		"of an earlier fan-out":                        {cause: delayCause{reason: v1alpha1.ReasonPodsRefused, takesLong: true, longestRetry: retryTakenAfter}, passes: 20},
		"failed, and another one":                      {cause: noAnswer, failing: []string{"b"}, passes: 4},
		"failed, and several others":                   {cause: noAnswer, failing: []string{"b", "c"}, passes: 20},
		"failed, and several others, and one succeeds": {cause: noAnswer, failing: []string{"b", "c"}, succeeds: true, passes: 4},
		"paused":             {cause: fullQuota, wanted: func(int) bool { return false }, passes: never},
		"paused for a while": {cause: fullQuota, wanted: func(pass int) bool { return pass < 2 || pass > 7 }, passes: 11},
	} {
		t.Run(name, func(t *testing.T) {
			a, now := newTestFanOut("acme"), time.Now()
			a.setDelayed("acme", tc.cause, now)
			if tc.cause.unclear {
				a.failed("acme")
			}
			for _, other := range tc.failing {
				a.failed(other)
			}
			ended := never
			for pass := range 30 {
				if tc.succeeds {
					a.succeeded()
				}
				wanted := []int{0}
				if tc.wanted != nil && !tc.wanted(pass) {
					wanted = nil
				}
				if a.limitDelays(wanted, now.Add(time.Duration(pass)*30*time.Second)) {
					ended = pass
					break
				}
			}
			if ended != tc.passes {
				t.Errorf("it ends after %d passes, want %d", ended, tc.passes)
			}
			children := map[string]fanout.Child{}
			a.addEnded(children)
			if c := children["acme"]; ended != never && (c.Presence != fanout.Refused || c.Reason != v1alpha1.ReasonPodsRefused || len(a.withoutDelayed([]int{0}, now.Add(time.Hour))) > 0) {
				t.Errorf("then it is %+v", c)
			}
		})
	}
}

// TestOverload: the failures of several tenants in a row are trouble of the API server, those of one tenant are not.
func TestOverload(t *testing.T) {
	a := newTestFanOut()
	for range 10 {
		if a.failed("acme") {
			t.Error("one tenant is taken for all")
		}
	}
	if a.failed("globex") {
		t.Error("two tenants are taken for all")
	}
	a.succeeded()
	if a.failed("globex") || a.failed("initech") || !a.failed("acme") {
		t.Error("a success in between does not count, or three failures do not")
	}
}
