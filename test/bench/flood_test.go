package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// floodTenants share the queue. The first of them floods it.
	floodTenants = 50
	// floodJobs is how many TenantJobs the first tenant has, singleJobs how many each of the others has.
	floodJobs, singleJobs = 2000, 4
	// floodSlots is how many Jobs the queue lets run at once, for runTime each.
	floodSlots, runTime = 20, 200 * time.Millisecond
	// singleEvery is the time from one single job to the next. Their rate is a fifth of what the queue allows.
	singleEvery = 50 * time.Millisecond
)

// benchFlood measures how long single jobs of many tenants wait in a queue that one tenant floods with thousands of jobs,
// and how long without the flood.
func benchFlood(b *testing.B, e *environment) {
	if e.tenants < floodTenants {
		b.Skipf("there are less than %d tenants", floodTenants)
	}
	queue := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: "flood"}, Spec: v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(floodSlots))}}
	if err := e.c.Create(b.Context(), queue); err != nil {
		b.Fatal(err)
	}
	flooded := *e
	flooded.template = makeTemplate(b, e.c, "flood", queue.Name)
	m := e.startManager(b)
	defer m.stop()
	awaitTemplate(b, e.c, flooded.template)

	alone := singles(b, &flooded, m, "alone", runJobs(b, e.jobController, false))

	// The status messages of the whole flood say that the queue is full before any Job completes.
	world := runJobs(b, e.jobController, true)
	flooded.flood(b)
	m.quiet(b)
	world.resume()
	waiting := singles(b, &flooded, m, "waiting", world)

	flooded.suspend(b, true)
	world = runJobs(b, e.jobController, false)
	flooded.flood(b)
	m.quiet(b)
	flooded.suspend(b, false)
	released := singles(b, &flooded, m, "released", world)

	world = runJobs(b, e.jobController, false)
	flooded.flood(b)
	arriving := singles(b, &flooded, m, "arriving", world)

	b.ReportMetric(float64(waiting.median().Milliseconds()), "ms/wait")
	row := func(name string, w waits) []string {
		return []string{name, seconds(w.median()), seconds(w.sorted[len(w.sorted)-1]), rate(w.perSecond), fmt.Sprint(w.most)}
	}
	table([]string{
		fmt.Sprintf("%d tenants' single jobs of %v in a queue with maxConcurrent %d", floodTenants-1, runTime, floodSlots),
		"median wait", "longest", "starts, with the flood's", "at most at once",
	}, [][]string{
		row("alone", alone),
		row(fmt.Sprintf("behind one tenant's %d that wait", floodJobs), waiting),
		row("right after those are let go", released),
		row("while those arrive", arriving),
	})
}

// flood creates the TenantJobs of the first tenant.
func (e *environment) flood(b *testing.B) {
	b.Helper()
	inParallel(b, 0, floodJobs, func(i int) error {
		return e.c.Create(b.Context(), newTenantJob(e.template, 0, fmt.Sprintf("flood-%d", i)))
	})
}

// waits are how long single jobs waited.
type waits struct {
	sorted    []time.Duration
	perSecond float64
	// most is how many Jobs ran at once, at most.
	most int
}

func (w waits) median() time.Duration { return w.sorted[len(w.sorted)/2] }

// singles creates single jobs for all tenants but the first, at a steady rate, and returns how long they waited.
func singles(b *testing.B, e *environment, m *process, name string, world *running) waits {
	b.Helper()
	const n = (floodTenants - 1) * singleJobs
	made := make([]time.Time, n)
	keys := make([]types.NamespacedName, n)
	before, began := world.seen.count(), time.Now()
	inParallel(b, 0, n, func(i int) error {
		tj := newTenantJob(e.template, 1+i%(floodTenants-1), fmt.Sprintf("%s-%d", name, i))
		time.Sleep(time.Until(began.Add(time.Duration(i) * singleEvery)))
		made[i], keys[i] = time.Now(), client.ObjectKeyFromObject(tj)
		return e.c.Create(b.Context(), tj)
	})
	var w waits
	for i, key := range keys {
		var at time.Time
		waitFor(b, fmt.Sprintf("TenantJob %s to start", key), func() (started bool) {
			at, started = world.seen.of(key)
			return started
		})
		w.sorted = append(w.sorted, at.Sub(made[i]))
	}
	slices.Sort(w.sorted)
	w.perSecond = float64(world.seen.count()-before) / time.Since(began).Seconds()
	if name != "alone" && world.seen.count() == floodJobs+n {
		b.Errorf("the flood was over before the others had their turn")
	}
	world.stop()
	w.most = world.most
	e.clear(b)
	m.quiet(b)
	return w
}

// running completes each Job after a while.
type running struct {
	seen *arrivals
	// stop means that no more Jobs are completed.
	stop func()
	// going is a channel that is closed unless the completions are paused.
	going chan struct{}

	mu         sync.Mutex
	live, most int
}

// runJobs completes each Job when its time is over. While it is paused, it completes none. It calls made for each before that.
func runJobs(b *testing.B, c client.WithWatch, paused bool, made ...func(*batchv1.Job)) *running {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	r := &running{going: make(chan struct{})}
	if !paused {
		r.resume()
	}
	var jobs sync.WaitGroup
	seen, stopWatch := watchJobs(b, c, append(made, func(j *batchv1.Job) {
		r.count(+1)
		key := client.ObjectKeyFromObject(j)
		jobs.Go(func() {
			if !r.runs(ctx) {
				return
			}
			// Before the request, since the operator may start the next Job before the response arrives.
			r.count(-1)
			if err := insist(func() error { return complete(ctx, c, key) }); err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		})
	})...)
	r.seen = seen
	r.stop = func() {
		stopWatch()
		cancel()
		jobs.Wait()
	}
	b.Cleanup(r.stop)
	return r
}

func (r *running) resume() { close(r.going) }

// runs returns true when a Job is to be completed, and false when the context ends before that.
func (r *running) runs(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(runTime):
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.going:
		return true
	}
}

func (r *running) count(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live += by
	r.most = max(r.most, r.live)
}
