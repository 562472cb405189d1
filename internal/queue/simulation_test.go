package queue

import (
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// decide checks a decision of the State against the model. It returns whether there may be more.
func (w *world) decide() bool {
	w.t.Helper()
	d := w.s.Next(w.m.now)
	w.seen[d.Action]++
	j := w.m.jobs[d.Job.UID]
	want := w.m.next()
	expired := false
	for _, o := range w.m.jobs {
		expired = expired || want == nil && w.m.expired(o)
	}
	if expired != (d.Action == ActionExpire) {
		w.t.Fatalf("some expired: %v, decided: %+v", expired, d)
	}
	if expired {
		if !w.m.expired(j) {
			w.t.Fatalf("not expired: %+v", j)
		}
		w.m.remove(j.UID)
		return true
	}
	if want == nil {
		if d.Action != ActionNone {
			w.t.Fatalf("decided %+v, held by %v", d, w.m.held(j))
		}
		w.checkNextChange(d.At)
		return false
	}
	if want.UID != d.Job.UID {
		w.t.Fatalf("decided %s %+v,\n want %+v held by %v", d.Action, d.Job, want, w.m.held(want))
	}
	switch {
	case !w.m.overlaps(want):
		w.check(d, ActionStart, nil)
		w.m.start(want)
	case want.Overlap == v1alpha1.ConcurrencyReplace:
		w.check(d, ActionReplace, w.m.earlier(want))
		want.replacing = true
		w.m.settle()
	default:
		w.check(d, ActionOverlapped, w.m.earlier(want))
		w.m.remove(want.UID)
	}
	return true
}

func (w *world) check(d Decision, action Action, earlier []types.UID) {
	w.t.Helper()
	if d.Action != action || !slices.Equal(d.Earlier, earlier) {
		w.t.Fatalf("decided %+v, want %s %v", d, action, earlier)
	}
}

// checkNextChange checks that Next is to be called again when the passing of time lets something start.
func (w *world) checkNextChange(at time.Time) {
	w.t.Helper()
	notAfter := func(why string, t time.Time) {
		if at.IsZero() || at.After(t) {
			w.t.Fatalf("the next change is at %v, but a job %s at %v", at, why, t)
		}
	}
	if !at.IsZero() && !at.After(w.m.now) {
		w.t.Fatalf("the next change is not in the future: %v", at)
	}
	for _, j := range w.m.jobs {
		if j.holds {
			continue
		}
		held := w.m.held(j)
		switch {
		case slices.Equal(held, []Kind{HeldByTime}):
			notAfter("is due", j.NotBefore)
		case slices.Equal(held, []Kind{HeldByBackoff}):
			notAfter("ends its back-off", w.m.backoff[j.Tenant])
		case slices.Equal(held, []Kind{HeldByRate}):
			starts := slices.Clone(w.m.starts[j.Queue])
			slices.SortFunc(starts, time.Time.Compare)
			notAfter("is below the rate", starts[len(starts)-int(w.m.queues[j.Queue].StartsPerMinute)].Add(time.Minute))
		}
		if j.MaxWait > 0 && w.m.clockRuns(held) {
			notAfter("expires", w.m.now.Add(j.MaxWait-j.waited))
		}
	}
}

// checkAll compares all jobs and counts with the model.
func (w *world) checkAll(drained bool) {
	w.t.Helper()
	counts := map[string]Counts{}
	for uid, j := range w.m.jobs {
		c := counts[j.Queue]
		if j.holds {
			c.Running++
			counts[j.Queue] = c
			continue
		}
		if c.Waiting++; c.Oldest.IsZero() || j.Created.Before(c.Oldest) {
			c.Oldest = j.Created
		}
		counts[j.Queue] = c
		h, waits := w.s.holdOf(uid)
		held := w.m.held(j)
		if !waits || len(held) == 0 && h.Kind != "" || len(held) > 0 && h.Kind != held[0] {
			w.t.Fatalf("%+v is held by %+v, want %v", j, h, held)
		}
		if drained && len(held) == 0 {
			w.t.Fatalf("nothing holds %+v", j)
		}
		w.held[h.Kind]++
		if got := w.s.Waited(uid); got != j.waited {
			w.t.Fatalf("%+v waited %v, want %v", j, got, j.waited)
		}
		if ready := w.s.jobs[uid].isReady(); ready != j.isReady() {
			w.t.Fatalf("%+v is ready: %v", j, ready)
		}
	}
	for queue, want := range counts {
		if got := w.s.Counts(queue); got != want {
			w.t.Fatalf("queue %s counts %+v, want %+v", queue, got, want)
		}
	}
}

// holdOf is what holds a TenantJob. False means that it does not wait.
func (s *State) holdOf(uid types.UID) (Hold, bool) {
	e := s.jobs[uid]
	if e == nil || !e.waits() {
		return Hold{}, false
	}
	return s.firstHold(e), true
}

// TestAnythingHappens makes random changes and compares with the model after every step.
func TestAnythingHappens(t *testing.T) {
	seen, held := map[Action]int{}, map[Kind]int{}
	// In the last two a start fills other queues that are in the same heap as the queue of the start.
	for _, seed := range append(firstSeeds(t), 1042, 1049) {
		w := newWorld(t, seed)
		w.seen, w.held = seen, held
		for range 400 {
			w.step()
			more := true
			for n := w.IntN(12); more && n > 0; n-- {
				more = w.decide()
			}
			w.checkAll(!more)
			w.checkStatusHolds()
		}
		w.empty()
	}
	for _, a := range []Action{ActionNone, ActionStart, ActionOverlapped, ActionReplace, ActionExpire} {
		if seen[a] == 0 {
			t.Errorf("never %q", a)
		}
	}
	t.Log(seen, held)
}

func firstSeeds(t *testing.T) []uint64 {
	t.Helper()
	seeds := make([]uint64, 15)
	if testing.Short() {
		seeds = seeds[:5]
	}
	for i := range seeds {
		seeds[i] = uint64(i)
	}
	return seeds
}

// checkStatusHolds checks that each status message names something that holds the job, once all have been reviewed.
func (w *world) checkStatusHolds() {
	w.t.Helper()
	w.s.Review(2*len(w.m.jobs), 1<<30, 0)
	for uid, j := range w.m.jobs {
		if e := w.s.jobs[uid]; !j.holds && e.statusHold.Kind != "" && !slices.Contains(w.m.held(j), e.statusHold.Kind) && len(w.m.held(j)) > 0 {
			w.t.Fatalf("the status of %+v says %+v, held by %v", j, e.statusHold, w.m.held(j))
		}
	}
	if again := w.s.Review(2*len(w.m.jobs), 1<<30, 0); len(again) > 0 {
		w.t.Fatalf("stale again: %+v", again)
	}
}

// empty removes everything and checks that the State keeps nothing.
func (w *world) empty() {
	w.t.Helper()
	for uid := range w.m.jobs {
		w.s.Remove(uid)
	}
	for name := range w.m.tenants {
		w.s.RemoveTenant(name)
	}
	for name := range w.m.fanOuts {
		w.s.RemoveFanOut(name)
	}
	s := w.s
	for _, q := range s.queues {
		if len(q.waves)+q.running+q.waiting+len(q.byAge.items)+len(q.startable.items) > 0 || len(q.flows) != len(q.idle.items) {
			w.t.Fatalf("queue %s keeps %+v", q.Name, q)
		}
	}
	if len(s.jobs)+len(s.fanOuts)+len(s.startable.items)+len(s.notDue.items)+len(s.expiring.items)+len(s.review.waiting) > 0 {
		w.t.Fatalf("keeps %+v", s)
	}
	for _, tenant := range s.tenants {
		if tenant.running+tenant.usages.len()+len(tenant.schedules) > 0 {
			w.t.Fatalf("keeps %+v", tenant)
		}
	}
}
