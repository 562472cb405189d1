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

// TestThousandsOfTenants has floods, fan-outs over all tenants, failing starts and limits that change. It checks
// every start against counters of its own, and every waiting job whenever nothing starts.
func TestThousandsOfTenants(t *testing.T) {
	const tenants = 2000
	r := rand.New(rand.NewPCG(3, 3))
	s, m := New(noon), newModel(noon)
	name := func(i int) string { return fmt.Sprintf("tenant-%04d", i) }
	queues := []string{v1alpha1.DefaultQueue, "checks", "mail"}
	setQueue := func(q Queue) { m.queues[q.Name] = q; s.SetQueue(q) }
	for _, q := range queues {
		setQueue(Queue{Name: q, MaxConcurrent: 60})
	}
	for i := range tenants {
		m.tenants[name(i)] = Tenant{Name: name(i), Weight: int32(1 + r.IntN(100)), MaxConcurrent: int32(r.IntN(4))}
		s.SetTenant(m.tenants[name(i)])
	}
	for i := range 3 {
		f := FanOut{Name: fmt.Sprintf("fan-out-%d", i), MaxConcurrent: int32(10 * i), OpenWave: 1}
		m.fanOuts[f.Name] = f
		s.SetFanOut(f)
	}
	put := func(j Job) {
		j.UID, j.Created = types.UID(fmt.Sprintf("%08d", len(m.jobs))), m.now
		m.jobs[j.UID] = &modelJob{Job: j, isDue: true}
		s.Put(j)
	}
	for i := range tenants {
		for f := range 3 {
			put(Job{Queue: "checks", Tenant: name(i), Template: "report", FanOut: fmt.Sprintf("fan-out-%d", f), Wave: i % 2})
		}
	}
	started, running := 0, map[types.UID]bool{}
	for round := range 120 {
		for q, starts := range m.starts {
			m.starts[q] = slices.DeleteFunc(starts, func(at time.Time) bool { return m.now.Sub(at) >= time.Minute })
		}
		m.now = m.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
		flood := 1
		if r.IntN(20) == 0 {
			flood = 500
		}
		who := r.IntN(tenants)
		for range flood {
			put(Job{Queue: queues[r.IntN(3)], Tenant: name(who), Template: fmt.Sprintf("template-%d", r.IntN(5))})
		}
		switch r.IntN(6) {
		case 0:
			setQueue(Queue{Name: queues[r.IntN(3)], MaxConcurrent: int32(1 + r.IntN(100)), MaxConcurrentPerTenant: int32(r.IntN(4)), StartsPerMinute: int32(r.IntN(3) * 300)})
		case 1:
			m.tenants[name(who)] = Tenant{Name: name(who), Weight: int32(1 + r.IntN(100)), MaxConcurrent: int32(r.IntN(4))}
			s.SetTenant(m.tenants[name(who)])
		case 2:
			template := fmt.Sprintf("template-%d", r.IntN(5))
			m.templateLimits[template] = int32(r.IntN(4))
			s.SetTemplate(template, m.templateLimits[template])
		}
		for _, uid := range slices.Sorted(maps.Keys(running)) {
			if r.IntN(3) == 0 {
				s.Remove(uid)
				m.release(m.jobs[uid], running)
				m.jobs[uid].Held = "over"
			}
		}
		for {
			d := s.Next(m.now)
			if d.Action == ActionNone {
				break
			}
			j := m.jobs[d.Job.UID]
			if held := m.held(j); j.holds || len(held) > 0 {
				t.Fatalf("round %d: started %+v, held by %v", round, j, held)
			}
			if r.IntN(50) == 0 {
				s.Requeue(j.UID)
				m.backoff[j.Tenant] = m.now.Add(time.Second)
				s.BackOff(j.Tenant, m.backoff[j.Tenant], "")
				continue
			}
			started++
			j.holds, running[j.UID] = true, true
			m.starts[j.Queue] = append(m.starts[j.Queue], m.now)
			for _, slot := range j.slots() {
				m.counts[slot]++
			}
		}
		if round%12 != 0 {
			continue
		}
		for uid, j := range m.jobs {
			if !j.holds && len(m.held(j)) == 0 {
				h, _ := s.holdOf(uid)
				t.Fatalf("round %d: nothing holds %+v, but State has %+v", round, j, h)
			}
		}
	}
	if started < 2000 {
		t.Errorf("only %d started", started)
	}
	t.Logf("%d of %d started", started, len(m.jobs))
}

func (m *model) release(j *modelJob, running map[types.UID]bool) {
	delete(running, j.UID)
	j.holds = false
	for _, slot := range j.slots() {
		m.counts[slot]--
	}
}
