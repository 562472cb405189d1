package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// environment is shared by the parts of BenchmarkFanOut.
type environment struct {
	kubeconfig, binary string
	c                  client.WithWatch
	// operator and jobController act as these users.
	operator, jobController client.WithWatch
	apiServer               endpoint
	// template of all runs except those of the flood. Its queue has no limits.
	template *v1alpha1.TenantJobTemplate
	// tenants is how many tenants exist.
	tenants int
}

// figures are the results of a part.
type figures struct {
	name string
	n    int
	starts
	// cpu is the CPU time from the beginning to the last start.
	cpu spent
	// starting are the requests until all n runs had started and all status about that was written, whole those until the
	// runs had ended, too.
	starting, whole map[string]float64
}

// BenchmarkFanOut compares several ways to start a run for each of many tenants, on one API server: creations by 32 clients
// without any controller, which nothing that creates both objects can beat; the built-in CronJob controller; a
// TenantFanOut; a TenantQueue that is resumed. There is no Job controller, since it would be the slowest part and the
// benchmark would measure it; the benchmark itself completes the Jobs. The speed of a machine changes over time, so
// everything is measured in rounds, with the bare creations before and after the other parts. The result is the median of
// the rounds' ratios.
//
// The numbers of tenants are TENANTRY_BENCH_FANOUT_TENANTS, by default 2000,10000, in ascending order. CronJobs and the
// flood are measured with the first of them. There are TENANTRY_BENCH_ROUNDS, by default five.
func BenchmarkFanOut(b *testing.B) {
	sizes := numbers(b, "TENANTRY_BENCH_FANOUT_TENANTS", 2000, 10000)
	rounds := numbers(b, "TENANTRY_BENCH_ROUNDS", 5)[0]
	e := &environment{binary: buildManager(b)}
	e.startControlPlane(b)
	e.template = makeTemplate(b, e.c, "bench", "bench")
	if err := e.c.Create(b.Context(), &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: "bench"}}); err != nil {
		b.Fatal(err)
	}
	for _, n := range sizes {
		measured := b.Run(fmt.Sprintf("tenants=%d", n), func(b *testing.B) {
			e.growTo(b, n)
			var all comparison
			for range rounds {
				all.add(benchRound(b, e, n, n == sizes[0]))
			}
			if n == sizes[0] {
				all.rest = append(all.rest, benchCronJobs(b, "CronJob, default limits", e, n))
			}
			all.print(n)
			all.report(b)
		})
		if !measured {
			return
		}
	}
	b.Run("flood", func(b *testing.B) { benchFlood(b, e) })
}

// benchRound measures each part once.
func benchRound(b *testing.B, e *environment, n int, withCronJobs bool) round {
	b.Helper()
	var r round
	if withCronJobs {
		r.cronJobs = told(benchCronJobs(b, "CronJob, 50 workers", e, n, unlimited...))
	}
	r.before = told(benchPairs(b, e, n))
	m := e.startManager(b)
	r.fanOut, r.facts = benchFanOut(b, e, m, n)
	told(r.fanOut)
	r.queue = told(benchQueue(b, e, m, n))
	m.stop()
	r.after, r.jobs = told(benchPairs(b, e, n)), told(benchJobs(b, e, n))
	return r
}

// told prints the rate of a part at once, since the table may take an hour, and returns the part.
func told(f figures) figures {
	fmt.Printf("%s: %d runs, %s\n", f.name, f.n, rate(f.overall))
	return f
}

// startManager starts the operator with as many workers, and the same request limits, as the CronJob controller.
func (e *environment) startManager(b *testing.B) *process {
	b.Helper()
	m := startManager(b, e.binary, e.kubeconfig, "--kube-api-qps=5000", "--kube-api-burst=10000", "--max-concurrent-reconciles=50")
	m.settle(b)
	return m
}

// growTo creates tenants until there are n, and waits until all are ready.
func (e *environment) growTo(b *testing.B, n int) {
	b.Helper()
	m := e.startManager(b)
	defer m.stop()
	makeTenants(b, e.c, e.tenants, n)
	e.tenants = max(e.tenants, n)
	waitFor(b, "all tenants to be ready", func() bool { return ready(b, e.c) == e.tenants })
	awaitTemplate(b, e.c, e.template)
	m.settle(b)
}

// benchPairs creates the TenantJobs and Jobs of a fan-out while no controller runs.
func benchPairs(b *testing.B, e *environment, n int) figures {
	b.Helper()
	return benchBare(b, e, n, "bare pair, 32 clients", "")
}

// benchJobs creates only the Jobs.
func benchJobs(b *testing.B, e *environment, n int) figures {
	b.Helper()
	return benchBare(b, e, n, "bare Job, 32 clients", "00000000-0000-4000-8000-000000000000")
}

// benchBare creates the Jobs of TenantJobs that have the UID. If the UID is empty, it first creates the TenantJobs.
func benchBare(b *testing.B, e *environment, n int, name string, uid types.UID) figures {
	b.Helper()
	runs := make([]job.Run, n)
	values := make([]job.Values, n)
	calls := 1
	if uid == "" {
		calls = 2
	}
	for i := range n {
		var err error
		if runs[i], values[i], err = newRun(e.template, i, "bare"); err != nil {
			b.Fatal(err)
		}
		runs[i].TenantJob.UID = uid
	}
	seen, stop := watchJobs(b, e.c)
	defer stop()
	cpu, began := e.spent(b, nil), time.Now()
	inParallel(b, 0, n, func(i int) error {
		if tj := runs[i].TenantJob; tj.UID == "" {
			if err := e.operator.Create(b.Context(), tj); err != nil {
				return err
			}
		}
		return e.operator.Create(b.Context(), job.Build(runs[i], values[i]))
	})
	seen.await(b, n)
	cpu = e.spent(b, nil).since(cpu)
	e.clear(b)
	return figures{name: name, n: n, starts: seen.after(began), cpu: cpu, starting: map[string]float64{http.MethodPost: float64(calls * n)}}
}

// benchFanOut measures a TenantFanOut over all tenants from its creation until it has succeeded.
func benchFanOut(b *testing.B, e *environment, m *process, n int) (figures, [][]string) {
	b.Helper()
	m.quiet(b)
	idle := m.residentMiB(b)
	m.forgetPeak(b)
	seen, stop := watchJobs(b, e.c)
	defer stop()
	fanOut := &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", n)},
		Spec: v1alpha1.TenantFanOutSpec{
			TemplateRef: v1alpha1.LabelReference{Name: e.template.Name},
			Parameters:  note,
			Tenants:     v1alpha1.TenantSelection{All: new(true)},
		},
	}
	served := e.apiServer.served(b)
	before, cpu, began := m.requests(b), e.spent(b, m), time.Now()
	if err := e.c.Create(b.Context(), fanOut); err != nil {
		b.Fatal(err)
	}
	seen.await(b, n)
	f := figures{name: "TenantFanOut", n: n, starts: seen.after(began), cpu: e.spent(b, m).since(cpu)}
	m.quiet(b)
	f.starting = since(before, m.requests(b))
	peakOfStarting := m.peakMiB(b)
	m.forgetPeak(b)

	completing := time.Now()
	seen.completeAll(b, e.jobController)
	completed := time.Since(completing)
	waitFor(b, "the fan-out to succeed", func() bool {
		if err := e.c.Get(b.Context(), client.ObjectKeyFromObject(fanOut), fanOut); err != nil {
			b.Fatal(err)
		}
		return meta.IsStatusConditionTrue(fanOut.Status.Conditions, v1alpha1.ConditionSucceeded)
	})
	succeeded := time.Since(completing)
	m.quiet(b)
	f.whole = since(before, m.requests(b))
	peakOfEnding := m.peakMiB(b)
	child := completedChildren(b, e.c, n)
	facts := [][]string{
		{"writes per run until started, with what was written down about it", fmt.Sprintf("%.2f", writes(f.starting)/float64(n))},
		{"writes per run until the fan-out has succeeded", fmt.Sprintf("%.2f", writes(f.whole)/float64(n))},
		{"all writes per run, the benchmark's own included", per(since(served, e.apiServer.served(b)), n)},
		{"all Jobs completed by 32 clients after", seconds(completed)},
		{"the fan-out has succeeded after", seconds(succeeded)},
		{"memory of the idle manager", mib(idle)},
		{"its peak while starting", mib(peakOfStarting) + ", " + mib(peakOfStarting-idle) + " more"},
		{"its peak while completing", mib(peakOfEnding) + ", " + mib(peakOfEnding-idle) + " more"},
		{"a TenantJob that has completed, as JSON", bytes(child)},
		{"the fan-out's status, as JSON", bytes(sizeAsJSON(b, fanOut.Status))},
	}
	facts = append(facts, storedSizes(b, e.c, fanOut)...)
	if err := e.c.Delete(b.Context(), fanOut); err != nil {
		b.Fatal(err)
	}
	e.clear(b)
	return f, facts
}

// completedChildren checks that each of n TenantJobs is Completed, and returns the size of one.
func completedChildren(b *testing.B, c client.Client, n int) int {
	b.Helper()
	count, size := 0, 0
	list := v1alpha1.TenantJobList{}
	for {
		if err := c.List(b.Context(), &list, client.Limit(1000), client.Continue(list.Continue)); err != nil {
			b.Fatal(err)
		}
		for i := range list.Items {
			if meta.IsStatusConditionTrue(list.Items[i].Status.Conditions, v1alpha1.ConditionSucceeded) {
				count++
			}
			if size == 0 {
				size = sizeAsJSON(b, &list.Items[i])
			}
		}
		if list.Continue == "" {
			break
		}
	}
	if count != n {
		b.Fatalf("%d of %d TenantJobs are Completed", count, n)
	}
	return size
}

// storedSizes returns the sizes of the ConfigMaps of a fan-out.
func storedSizes(b *testing.B, c client.Client, fanOut *v1alpha1.TenantFanOut) [][]string {
	b.Helper()
	var stored corev1.ConfigMapList
	if err := c.List(b.Context(), &stored, client.MatchingLabels{v1alpha1.LabelFanOut: fanOut.Name}); err != nil {
		b.Fatal(err)
	}
	var rows [][]string
	for i := range stored.Items {
		// Skip the ConfigMaps of earlier rounds, since there is no garbage collector.
		if !metav1.IsControlledBy(&stored.Items[i], fanOut) {
			continue
		}
		name := strings.ReplaceAll(stored.Items[i].Name, string(fanOut.UID), "<uid>")
		rows = append(rows, []string{"ConfigMap " + name, bytes(stored.Items[i].Size())})
	}
	if len(rows) == 0 {
		b.Fatalf("fan-out %s has no ConfigMaps", fanOut.Name)
	}
	return rows
}

func sizeAsJSON(b *testing.B, v any) int {
	b.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return len(text)
}

// benchQueue measures how fast the waiting TenantJobs of a suspended queue start when it is resumed.
func benchQueue(b *testing.B, e *environment, m *process, n int) figures {
	b.Helper()
	e.suspend(b, true)
	inParallel(b, 0, n, func(i int) error { return e.c.Create(b.Context(), newTenantJob(e.template, i, "queued")) })
	m.quiet(b)
	seen, stop := watchJobs(b, e.c)
	defer stop()
	before, cpu, began := m.requests(b), e.spent(b, m), time.Now()
	e.suspend(b, false)
	seen.await(b, n)
	f := figures{name: "TenantQueue, let go", n: n, starts: seen.after(began), cpu: e.spent(b, m).since(cpu)}
	m.quiet(b)
	f.starting = since(before, m.requests(b))
	e.clear(b)
	return f
}

// suspend suspends or resumes the queue of the template.
func (e *environment) suspend(b *testing.B, suspend bool) {
	b.Helper()
	queue := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: e.template.QueueName()}}
	patch := fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspend)
	if err := e.c.Patch(b.Context(), queue, client.RawPatch(types.MergePatchType, patch)); err != nil {
		b.Fatal(err)
	}
}

func (e *environment) startControlPlane(b *testing.B) {
	b.Helper()
	e.kubeconfig, e.c, e.apiServer = startControlPlane(b)
	e.operator = clientAs(b, e.kubeconfig, e.c.Scheme(), operator)
	e.jobController = clientAs(b, e.kubeconfig, e.c.Scheme(), jobController)
}

// clear deletes all runs. TenantJobs first: the operator would write the status of a TenantJob whose Job is deleted.
func (e *environment) clear(b *testing.B) {
	b.Helper()
	remove(b, e.c, &v1alpha1.TenantJobList{})
	remove(b, e.operator, &batchv1.JobList{})
}
