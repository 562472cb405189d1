package queue

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// world is a State and the model beside it.
type world struct {
	t *testing.T
	*rand.Rand
	s    *State
	m    *model
	made int
	// seen and held count the decisions and holds of each kind, so that a test can check that it met all of them.
	seen map[Action]int
	held map[Kind]int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, Rand: rand.New(rand.NewPCG(seed, 4)), s: New(noon), m: newModel(noon), seen: map[Action]int{}, held: map[Kind]int{}}
	for i := range 8 {
		w.setTenant(Tenant{Name: fmt.Sprintf("tenant-%d", i), Weight: int32(w.IntN(5))})
	}
	for _, name := range []string{"checks", "mail"} {
		w.setQueue(Queue{Name: name, MaxConcurrent: 8})
	}
	w.setFanOut(FanOut{Name: "fan-out-0", MaxConcurrent: 2})
	w.setFanOut(FanOut{Name: "fan-out-1", OpenWave: 1})
	return w
}

func (w *world) setTenant(t Tenant) { w.m.setWeight(t); w.s.SetTenant(t) }

func (w *world) setQueue(q Queue) { w.m.queues[q.Name] = q; _ = w.s.SetQueue(q) }

func (w *world) setFanOut(f FanOut) { w.m.fanOuts[f.Name] = f; w.s.SetFanOut(f) }

func (w *world) oneIn(n int) bool { return w.IntN(n) == 0 }

func (w *world) some(holds bool) *modelJob {
	var uids []types.UID
	for uid, j := range w.m.jobs {
		if j.holds == holds {
			uids = append(uids, uid)
		}
	}
	if len(uids) == 0 {
		return nil
	}
	slices.Sort(uids)
	return w.m.jobs[uids[w.IntN(len(uids))]]
}

func (w *world) limit(n int) int32 {
	if w.oneIn(3) {
		return 0
	}
	return int32(1 + w.IntN(n))
}

func (w *world) job() Job {
	w.made++
	j := Job{
		UID:      types.UID(fmt.Sprintf("%05d", w.made)),
		Queue:    []string{v1alpha1.DefaultQueue, "checks", "mail"}[w.IntN(3)],
		Tenant:   fmt.Sprintf("tenant-%d", w.IntN(9)),
		Template: fmt.Sprintf("template-%d", w.IntN(4)),
		Priority: []v1alpha1.JobPriority{v1alpha1.PriorityHigh, v1alpha1.PriorityMedium, v1alpha1.PriorityLow}[w.IntN(3)],
		Created:  w.m.now.Add(-time.Duration(w.IntN(100)) * time.Second),
	}
	if n := w.IntN(6); n < 3 {
		j.FanOut, j.Wave, j.Template = fmt.Sprintf("fan-out-%d", n), w.IntN(2), "template-1"
		j.Schedule = []string{"nightly", "hourly", ""}[n]
		j.Overlap = []v1alpha1.ConcurrencyPolicy{v1alpha1.ConcurrencyReplace, "", v1alpha1.ConcurrencyAllow}[n]
	}
	if w.oneIn(6) {
		j.NotBefore = w.m.now.Add(time.Duration(w.IntN(60)) * time.Second)
	}
	if w.oneIn(3) {
		j.MaxWait = time.Duration(1+w.IntN(200)) * time.Second
	}
	return j
}

func (w *world) step() {
	now := w.m.now
	switch w.IntN(20) {
	case 0, 1, 2, 3:
		now = now.Add(time.Duration(w.IntN(5000)) * time.Millisecond)
		w.m.advance(now)
		w.s.Advance(now)
	case 4, 5, 6, 7:
		for range 1 + w.IntN(6) {
			j := w.job()
			w.m.put(j)
			w.s.Put(j)
		}
	case 8, 9, 10, 11, 12:
		if j := w.some(true); j != nil {
			w.m.remove(j.UID)
			w.s.Remove(j.UID)
		}
	case 13:
		if j := w.some(true); j != nil && j.started.Equal(now) && w.oneIn(2) {
			w.m.revoke(j.UID)
			w.s.Revoke(j.UID)
		} else if j != nil && j.started.Equal(now) {
			w.m.backoff[j.Tenant] = now.Add(time.Duration(w.IntN(10)) * time.Second)
			w.s.BackOff(j.Tenant, w.m.backoff[j.Tenant], "")
			w.m.requeue(j.UID)
			w.s.Requeue(j.UID)
		}
	case 14:
		if j := w.some(false); j != nil && w.oneIn(2) {
			w.m.remove(j.UID)
			w.s.Remove(j.UID)
		} else if j != nil {
			to := j.Job
			to.Held = []string{"", "template is not ready"}[w.IntN(2)]
			to.Priority, to.MaxWait = v1alpha1.PriorityHigh, time.Minute
			w.m.put(to)
			w.s.Put(to)
		}
	case 15:
		q := Queue{Name: []string{v1alpha1.DefaultQueue, "checks", "mail"}[w.IntN(3)], MaxConcurrent: w.limit(10),
			MaxConcurrentPerTenant: w.limit(4), StartsPerMinute: w.limit(20), Suspended: w.oneIn(5)}
		if q.Name != v1alpha1.DefaultQueue && w.oneIn(6) {
			delete(w.m.queues, q.Name)
			w.s.RemoveQueue(q.Name)
		} else {
			w.setQueue(q)
		}
	case 16:
		w.setTenant(Tenant{Name: fmt.Sprintf("tenant-%d", w.IntN(8)), MaxConcurrent: w.limit(4), Weight: int32(w.IntN(101)),
			Held: []string{"tenant is suspended", ""}[min(1, w.IntN(8))]})
	case 17:
		name, limit := fmt.Sprintf("template-%d", w.IntN(4)), w.limit(3)
		w.m.templateLimits[name] = limit
		w.s.SetTemplate(name, limit)
	case 18:
		w.setFanOut(FanOut{Name: fmt.Sprintf("fan-out-%d", w.IntN(3)), MaxConcurrent: w.limit(4), OpenWave: w.IntN(2),
			Held: []string{"", "", "", "fan-out is paused"}[w.IntN(4)]})
	case 19:
		if w.oneIn(5) {
			w.restart()
		}
	}
}

// restart makes a new State from the values of the model, in the order of a list from the API server.
func (w *world) restart() {
	w.m.forget()
	w.s = New(w.m.now)
	for _, q := range w.m.queues {
		w.s.SetQueue(q)
	}
	for _, t := range w.m.tenants {
		w.s.SetTenant(t)
	}
	for _, f := range w.m.fanOuts {
		w.s.SetFanOut(f)
	}
	for name, limit := range w.m.templateLimits {
		w.s.SetTemplate(name, limit)
	}
	for name, until := range w.m.backoff {
		w.s.BackOff(name, until, "")
	}
	for _, queue := range slices.Sorted(maps.Keys(w.m.starts)) {
		starts := w.m.starts[queue]
		w.Shuffle(len(starts), func(i, j int) { starts[i], starts[j] = starts[j], starts[i] })
		for _, at := range starts {
			w.s.RecordStart(queue, at)
		}
	}
	jobs := w.m.jobs
	w.m.jobs = map[types.UID]*modelJob{}
	for _, uid := range slices.Sorted(maps.Keys(jobs)) {
		j := jobs[uid]
		w.m.jobs[uid] = j
		if j.holds {
			// RecordStart has counted its start already.
			j.started = noon.Add(-time.Hour)
			w.s.Run(j.Job, j.started)
			continue
		}
		j.isDue = !j.NotBefore.After(w.m.now)
		w.m.settle()
		given := j.Job
		given.Waited = j.waited
		w.s.Put(given)
	}
	w.m.settle()
}
