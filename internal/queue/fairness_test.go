package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// crowd is a State with one queue, in which jobs start and end by turns.
type crowd struct {
	t       *testing.T
	s       *State
	made    int
	running []Job
	started map[string]int
}

func newCrowd(t *testing.T, maxConcurrent int32) *crowd {
	c := &crowd{t: t, s: New(noon), started: map[string]int{}}
	c.s.SetQueue(Queue{Name: "checks", MaxConcurrent: maxConcurrent})
	return c
}

func (c *crowd) put(tenant string, changes ...func(*Job)) types.UID {
	c.made++
	j := Job{
		UID: types.UID(fmt.Sprintf("%08d", c.made)), Queue: "checks", Tenant: tenant, Template: "report",
		Created: noon.Add(time.Duration(c.made) * time.Millisecond),
	}
	for _, change := range changes {
		change(&j)
	}
	c.s.Put(j)
	return j.UID
}

// start starts the next job. If nothing can start, it first ends a running job.
func (c *crowd) start() Job {
	c.t.Helper()
	d := c.s.Next(noon)
	if d.Action == ActionNone && len(c.running) > 0 {
		c.s.Remove(c.running[0].UID)
		c.running = c.running[1:]
		d = c.s.Next(noon)
	}
	if d.Action != ActionStart {
		c.t.Fatalf("nothing starts: %+v", d)
	}
	c.running = append(c.running, d.Job)
	c.started[d.Job.Tenant]++
	return d.Job
}

// TestShares has tenants that always have waiting jobs. At no moment may the starts of two tenants, divided by their
// weights, differ by more than one start of each.
func TestShares(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	c := newCrowd(t, 20)
	const tenants = 60
	name := func(i int) string { return fmt.Sprintf("tenant-%02d", i) }
	weights := make([]int32, tenants)
	for range 3 {
		// Weights change while all tenants have waiting jobs. Starts are counted from then on.
		total := 0
		for i := range weights {
			weights[i] = int32(1 + r.IntN(100))
			if i < 2 {
				weights[i] = int32(1 + 2*i)
			}
			total += int(weights[i])
			c.s.SetTenant(Tenant{Name: name(i), Weight: weights[i]})
			for range 2 {
				c.put(name(i))
			}
		}
		c.started = map[string]int{}
		const rounds = 60
		for n := range rounds * total {
			tenant := c.start().Tenant
			c.put(tenant)
			if n%97 != 0 {
				continue
			}
			for i := range weights {
				a, b := i, r.IntN(tenants)
				apart := float64(c.started[name(a)])/float64(weights[a]) - float64(c.started[name(b)])/float64(weights[b])
				if most := 1/float64(weights[a]) + 1/float64(weights[b]); apart > most+1e-6 {
					t.Fatalf("after %d starts tenants of weight %d and %d are %f apart, want at most %f", n, weights[a], weights[b], apart, most)
				}
			}
		}
		for i, weight := range weights {
			if got, want := float64(c.started[name(i)]), float64(rounds*weight); got < 0.95*want || got > 1.05*want {
				t.Errorf("tenant of weight %d started %v, want about %v", weight, got, want)
			}
		}
	}
}

// TestWaitBound has tenants that come and go, some with many jobs at once, some with limits. While only the queue
// holds a tenant's next job, no other tenant may start more than 1 + w/w' jobs.
func TestWaitBound(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	c := newCrowd(t, 8)
	const tenants = 120
	name := func(i int) string { return fmt.Sprintf("tenant-%03d", i) }
	index := map[string]int{}
	weights, waiting := make([]int, tenants), make([]int, tenants)
	var passed [tenants][tenants]int
	for i := range weights {
		weights[i] = 1 + r.IntN(100)
		index[name(i)] = i
		limit := int32(0)
		if i%3 == 0 {
			limit = 1
		}
		c.s.SetTenant(Tenant{Name: name(i), Weight: int32(weights[i]), MaxConcurrent: limit})
	}
	most := 0
	for range 20_000 {
		if i := r.IntN(tenants); r.IntN(3) == 0 && waiting[i] == 0 {
			n := 1
			if r.IntN(10) == 0 {
				n = 400
			}
			for range n {
				c.put(name(i))
				waiting[i]++
			}
		}
		if sum(waiting) == 0 {
			continue
		}
		// If all slots are in use, one running job ends before the next start. Then see which tenants only the queue holds.
		if len(c.running) == 8 {
			c.s.Remove(c.running[0].UID)
			c.running = c.running[1:]
		}
		blocked := make([]bool, tenants)
		for i := range blocked {
			blocked[i] = waiting[i] == 0 || !c.s.tenants[name(i)].hasRoom()
		}
		d := c.s.Next(noon)
		if d.Action != ActionStart {
			// Limits of their tenants hold all waiting jobs.
			c.s.Remove(c.running[0].UID)
			c.running = c.running[1:]
			continue
		}
		c.running = append(c.running, d.Job)
		started := index[d.Job.Tenant]
		waiting[started]--
		for i := range tenants {
			if blocked[i] || i == started {
				passed[i] = [tenants]int{}
				continue
			}
			passed[i][started]++
			if got, bound := passed[i][started], 1+weights[started]/weights[i]; got > bound {
				t.Fatalf("%d starts of weight %d while one of weight %d waited, want at most %d", got, weights[started], weights[i], bound)
			}
			most = max(most, sum(passed[i][:]))
		}
	}
	t.Logf("longest wait: %d starts of others", most)
}

func sum(of []int) int {
	n := 0
	for _, v := range of {
		n += v
	}
	return n
}

// TestOneBehindThousands: a tenant with one job waits for one start of each of the others at most.
func TestOneBehindThousands(t *testing.T) {
	c := newCrowd(t, 5)
	for i := range 10 {
		tenant := fmt.Sprintf("flood-%d", i)
		c.s.SetTenant(Tenant{Name: tenant, Weight: 100})
		for range 1000 {
			c.put(tenant)
		}
	}
	for range 3000 {
		c.start()
	}
	c.s.SetTenant(Tenant{Name: "small"})
	uid := c.put("small")
	for n := 0; c.start().UID != uid; n++ {
		if n >= 10 {
			t.Fatal("waits for more than one start of each of the others")
		}
	}
}

// TestSplittingGainsNothing has one tenant that splits its many jobs and one that does not.
func TestSplittingGainsNothing(t *testing.T) {
	priorities := []v1alpha1.JobPriority{v1alpha1.PriorityHigh, v1alpha1.PriorityMedium, v1alpha1.PriorityLow}
	for name, split := range map[string]func(n int) func(*Job){
		"over templates":  func(n int) func(*Job) { return func(j *Job) { j.Template = fmt.Sprintf("template-%d", n%50) } },
		"over fan-outs":   func(n int) func(*Job) { return func(j *Job) { j.FanOut = fmt.Sprintf("fan-out-%d", n%50) } },
		"over waves":      func(n int) func(*Job) { return func(j *Job) { j.FanOut, j.Wave = "fan-out-0", n%5 } },
		"over priorities": func(n int) func(*Job) { return func(j *Job) { j.Priority = priorities[n%3] } },
		"over schedules": func(n int) func(*Job) {
			return func(j *Job) {
				j.FanOut, j.Schedule, j.Overlap = fmt.Sprintf("fan-out-%d", n%50), fmt.Sprintf("schedule-%d", n%7), v1alpha1.ConcurrencyAllow
			}
		},
		"all high":          func(int) func(*Job) { return func(j *Job) { j.Priority = v1alpha1.PriorityHigh } },
		"backdated":         func(int) func(*Job) { return func(j *Job) { j.Created = noon.Add(-time.Hour) } },
		"one at a time":     nil,
		"removed and again": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, 7)
			c.s.SetTenant(Tenant{Name: "splits"})
			c.s.SetTenant(Tenant{Name: "plain"})
			for i := range 50 {
				c.s.SetFanOut(FanOut{Name: fmt.Sprintf("fan-out-%d", i), OpenWave: 9})
			}
			for n := range 2000 {
				c.put("plain")
				if split != nil {
					c.put("splits", split(n))
				}
			}
			var last types.UID
			for range 2000 {
				if split == nil {
					_, waits := c.s.holdOf(last)
					if waits && name == "removed and again" {
						c.s.Remove(last)
						waits = false
					}
					if !waits {
						last = c.put("splits")
					}
				}
				c.start()
			}
			if got := c.started["splits"]; got > 1001 {
				t.Errorf("started %d of 2000", got)
			}
			if got := c.started["plain"]; split != nil && got > 1001 {
				t.Errorf("the plain one started %d of 2000", got)
			}
		})
	}
}

// TestRestartsKeepShares makes a new State every 40 starts: a restart forgets less than one start of each tenant.
func TestRestartsKeepShares(t *testing.T) {
	c := newCrowd(t, 4)
	tenants := map[string]int32{"one": 1, "also-one": 1, "two": 2}
	setUp := func(s *State) {
		s.SetQueue(Queue{Name: "checks", MaxConcurrent: 4})
		for name, weight := range tenants {
			s.SetTenant(Tenant{Name: name, Weight: weight})
		}
	}
	setUp(c.s)
	for range 900 {
		for name := range tenants {
			c.put(name)
		}
	}
	for n := range 800 {
		if n%40 == 39 {
			old := c.s
			c.s = New(noon)
			setUp(c.s)
			for _, j := range c.running {
				c.s.Run(j, noon)
			}
			for _, e := range old.review.waiting {
				c.s.Put(e.Job)
			}
		}
		c.start()
	}
	if c.started["two"] < 370 || c.started["two"] > 430 || c.started["one"] < 185 || c.started["one"] > 215 {
		t.Errorf("started %v", c.started)
	}
}

// TestRevokedStartKeepsItsTurn: a start that is taken back before it has begun does not cost its tenant its turn, however often
// that happens. One that has failed does, or a tenant whose starts all fail would have all of them tried before any other's.
func TestRevokedStartKeepsItsTurn(t *testing.T) {
	for name, tc := range map[string]struct {
		takeBack func(*State, types.UID)
		times    int
		next     string
	}{
		"revoked": {(*State).Revoke, 5, "acme"},
		"failed":  {(*State).Requeue, 1, "globex"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, jobs := range []int{1, 3} {
				c := newCrowd(t, 1)
				for _, tenant := range []string{"acme", "globex"} {
					c.s.SetTenant(Tenant{Name: tenant})
					for range jobs {
						c.put(tenant)
					}
				}
				for range tc.times {
					tc.takeBack(c.s, c.s.Next(noon).Job.UID)
				}
				if got := c.start().Tenant; got != tc.next {
					t.Errorf("with %d jobs each, %s is next, want %s", jobs, got, tc.next)
				}
			}
		})
	}
}

// TestRevokedStartsOfManyKeepTheirTurns: all that are admitted are taken back when a limit changes.
func TestRevokedStartsOfManyKeepTheirTurns(t *testing.T) {
	c := newCrowd(t, 3)
	for _, tenant := range []string{"acme", "globex", "hooli", "initech"} {
		c.s.SetTenant(Tenant{Name: tenant, Weight: 2})
		c.put(tenant)
		c.put(tenant)
	}
	for range 5 {
		var got []string
		for range 3 {
			got = append(got, c.start().Tenant)
		}
		if want := []string{"acme", "globex", "hooli"}; !slices.Equal(got, want) {
			t.Fatalf("%v start, want %v", got, want)
		}
		for _, j := range c.running {
			c.s.Revoke(j.UID)
		}
		c.running = nil
	}
}
