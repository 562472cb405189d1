package bench

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

const (
	// credentialTenants have the runs in turn.
	credentialTenants = 50
	// credentialSlots is how many Jobs the queue lets run at once, for runTime each.
	credentialSlots = 50
)

// credentialPart is a way for runs to log in to a database.
type credentialPart struct {
	name     string
	template *v1alpha1.TenantJobTemplate
	// roles is how many roles are made for each run.
	roles int
}

// credentialFigures are the results of a part in one round.
type credentialFigures struct {
	figures
	// served are the writes of all clients.
	served map[string]float64
	// before is what the database server had before the runs, and most the most while they waited, ran and ended.
	before, most serverState
	// written is how many transactions have written there.
	written int
}

// credentialRound has the figures of one round.
type credentialRound struct {
	// without, perRun and byHand are those of the parts.
	without, perRun, byHand credentialFigures
	// issue and revoke are those of the source alone.
	issue, revoke latencies
}

func withoutOf(r credentialRound) credentialFigures { return r.without }
func perRunOf(r credentialRound) credentialFigures  { return r.perRun }
func byHandOf(r credentialRound) credentialFigures  { return r.byHand }

// BenchmarkCredentials compares runs without credentials, runs each of which gets a PostgreSQL role of its own, and what a person would
// build without the operator's help: a role for each tenant that lives on, whose password the template mounts as a Secret volume. All
// of them are TenantJobs in a queue that lets some run at once. The benchmark completes the Jobs, as in the other benchmarks. There
// is no kubelet, so nobody mounts the Secrets or logs in. All is measured in rounds after one that does not count, and each round
// begins with another part. The result is the median of the rounds' ratios.
//
// It fails when a run does not succeed or does not have a role of its own, when a role is left, and when the operator has more
// connections than are allowed.
//
// The number of runs is TENANTRY_BENCH_CREDENTIAL_RUNS, by default 1000. There are TENANTRY_BENCH_ROUNDS, by default five.
func BenchmarkCredentials(b *testing.B) {
	n := numbers(b, "TENANTRY_BENCH_CREDENTIAL_RUNS", 1000)[0]
	if n <= credentialSlots {
		b.Fatalf("there must be more than %d runs", credentialSlots)
	}
	d := startDatabase(b)
	e := &environment{binary: buildManager(b), tenants: credentialTenants}
	e.startControlPlane(b)
	queue := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: "bench"}, Spec: v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(credentialSlots))}}
	if err := e.c.Create(b.Context(), queue); err != nil {
		b.Fatal(err)
	}
	m := e.startManager(b)
	makeTenants(b, e.c, 0, e.tenants, d.makeProvider(b, e.c))
	waitFor(b, "all tenants to be ready", func() bool { return ready(b, e.c) == e.tenants })
	d.makeTenantRoles(b, e.c, e.tenants)

	without := credentialPart{"no credentials", makeTemplate(b, e.c, "without", queue.Name), 0}
	perRun := credentialPart{"a role for each run", makeTemplate(b, e.c, "per-run", queue.Name, func(t *v1alpha1.TenantJobTemplateSpec) {
		t.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
	}), 1}
	byHand := credentialPart{"a role for each tenant, by hand", makeTemplate(b, e.c, "by-hand", queue.Name, mountHandSecret), 0}
	for _, part := range []credentialPart{without, perRun, byHand} {
		awaitTemplate(b, e.c, part.template)
	}

	measure := func(first, n int) (r credentialRound) {
		parts := []func(){
			func() { r.without = benchRuns(b, e, m, d, without, n) },
			func() { r.perRun = benchRuns(b, e, m, d, perRun, n) },
			func() { r.byHand = benchRuns(b, e, m, d, byHand, n) },
		}
		for i := range parts {
			parts[(first+i)%len(parts)]()
		}
		r.issue, r.revoke = d.benchSource(b, n)
		return r
	}
	measure(0, 2*credentialSlots)
	var rounds []credentialRound
	for i := range numbers(b, "TENANTRY_BENCH_ROUNDS", 5)[0] {
		rounds = append(rounds, measure(i, n))
	}
	printCredentials(rounds)
	reportCredentials(b, rounds)
}

// benchRuns measures n runs from when the queue is full and all others wait until all are over. The Jobs that fill the queue do not
// count in the rate and in the CPU time.
func benchRuns(b *testing.B, e *environment, m *process, d *database, part credentialPart, n int) credentialFigures {
	b.Helper()
	m.quiet(b)
	before, stop := d.follow(b)
	roles := runRoles{}
	world := runJobs(b, e.jobController, true, func(j *batchv1.Job) { roles.add(b, d, j) })
	requests, served := m.requests(b), e.apiServer.served(b)
	inParallel(b, 0, n, func(i int) error {
		return e.c.Create(b.Context(), newTenantJob(part.template, i%e.tenants, fmt.Sprintf("%s-%d", part.template.Name, i)))
	})
	m.quiet(b)

	cpu, began := e.spent(b, m), time.Now()
	world.resume()
	world.seen.await(b, n)
	// Lists of all TenantJobs would slow the last of them down.
	waitFor(b, "the operator to be done", func() bool { return m.done(b) })
	f := figures{name: part.name, n: n - credentialSlots, starts: starts{last: time.Since(began)}, cpu: e.spent(b, m).since(cpu)}
	f.overall = float64(f.n) / f.last.Seconds()
	waitFor(b, "all runs to be over", func() bool { return over(b, e.c) == n })
	f.whole = since(requests, m.requests(b))
	served = since(served, e.apiServer.served(b))
	world.stop()
	most := stop()
	after, err := d.state(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	completedChildren(b, e.c, n)
	roles.verify(b, n, part.roles)
	if after.roles != before.roles {
		b.Fatalf("%s: there were %d roles before the runs, and are %d after them", part.name, before.roles, after.roles)
	}
	if most.connections > sourceWorkers {
		b.Fatalf("%s: the operator had %d connections, more than %d", part.name, most.connections, sourceWorkers)
	}
	e.clear(b)
	return credentialFigures{told(f), served, before, most, after.transactions - before.transactions}
}

// over counts the TenantJobs that have ended and of which no credential is left, page by page.
func over(b *testing.B, c client.Client) int {
	count := 0
	list := v1alpha1.TenantJobList{}
	for {
		if err := c.List(b.Context(), &list, client.Limit(1000), client.Continue(list.Continue)); err != nil {
			b.Fatal(err)
		}
		for i := range list.Items {
			if job.IsOver(&list.Items[i]) && len(list.Items[i].Finalizers) == 0 {
				count++
			}
		}
		if list.Continue == "" {
			return count
		}
	}
}

// printCredentials prints the figures of each round, and their medians.
func printCredentials(rounds []credentialRound) {
	var rows [][]string
	for i, r := range rounds {
		for _, f := range []credentialFigures{r.without, r.perRun, r.byHand} {
			rows = append(rows, []string{
				fmt.Sprintf("%d: %s", i+1, f.name), rate(f.overall), ratio(f.overall, r.without.overall), ratio(f.overall, r.byHand.overall),
				f.cpu.per(f.n), per(f.whole, f.runs()),
			})
		}
	}
	last := rounds[len(rounds)-1]
	table([]string{
		fmt.Sprintf("%d runs of %d tenants, %d at once for %v each, by round", last.perRun.runs(), credentialTenants, credentialSlots, runTime),
		"runs a second", "of those without", "of those by hand", "CPU per run: API server + operator + benchmark", "calls of the operator per run",
	}, rows)

	rows = nil
	for _, of := range []func(credentialRound) credentialFigures{withoutOf, perRunOf, byHandOf} {
		figure := func(f func(credentialFigures) float64) float64 {
			return median(rounds, func(r credentialRound) float64 { return f(of(r)) })
		}
		rows = append(rows, []string{
			of(last).name, rate(figure(func(f credentialFigures) float64 { return f.overall })), times(rateRatio(rounds, of, withoutOf)), times(rateRatio(rounds, of, byHandOf)),
			fmt.Sprintf("%.2f ms", figure(credentialFigures.operatorMilliseconds)), fmt.Sprintf("%.2f", figure(credentialFigures.reads)),
			fmt.Sprintf("%.2f", figure(credentialFigures.writes)), per(of(last).served, of(last).runs()),
		})
	}
	table([]string{
		fmt.Sprintf("median of %d rounds", len(rounds)), "runs a second", "of those without", "of those by hand", "CPU of the operator per run",
		"its reads per run", "its writes per run", "writes of all clients per run, last round",
	}, rows)

	perRun := func(f func(credentialFigures) float64) float64 {
		return median(rounds, func(r credentialRound) float64 { return f(r.perRun) })
	}
	latency := func(of func(credentialRound) latencies) string {
		return fmt.Sprintf("%.1f ms, %.1f ms", latencyOf(rounds, of, 50), latencyOf(rounds, of, 99))
	}
	most := func(f func(credentialFigures) int) (most int) {
		for _, r := range rounds {
			most = max(most, f(r.perRun))
		}
		return most
	}
	table([]string{"a role for each run: the database", ""}, [][]string{
		{fmt.Sprintf("issuing a credential, %d at once: median, 99th percentile", sourceWorkers), latency(issueOf)},
		{fmt.Sprintf("revoking one, %d at once: median, 99th percentile", sourceWorkers), latency(revokeOf)},
		{"roles before and after, at most meanwhile", fmt.Sprintf("%d, %d", last.perRun.before.roles, most(func(f credentialFigures) int { return f.most.roles }))},
		{"connections of the operator, at most", fmt.Sprint(most(func(f credentialFigures) int { return f.most.connections }))},
		{"transactions that write, per run", fmt.Sprintf("%.1f", perRun(credentialFigures.transactions))},
	})
}

// reportCredentials reports the medians as metrics of the benchmark.
func reportCredentials(b *testing.B, rounds []credentialRound) {
	b.Helper()
	b.ReportMetric(rateRatio(rounds, perRunOf, withoutOf), "runs/without")
	b.ReportMetric(rateRatio(rounds, perRunOf, byHandOf), "runs/byHand")
	b.ReportMetric(latencyOf(rounds, issueOf, 50), "ms/issue")
	b.ReportMetric(latencyOf(rounds, revokeOf, 50), "ms/revoke")
	b.ReportMetric(median(rounds, func(r credentialRound) float64 { return r.perRun.writes() - r.without.writes() }), "writes/credential")
}

// rateRatio returns the median of the ratio of two parts' rates.
func rateRatio(rounds []credentialRound, ours, theirs func(credentialRound) credentialFigures) float64 {
	return medianRatio(rounds,
		func(r credentialRound) float64 { return ours(r).overall }, func(r credentialRound) float64 { return theirs(r).overall })
}

func issueOf(r credentialRound) latencies  { return r.issue }
func revokeOf(r credentialRound) latencies { return r.revoke }

// latencyOf returns the median of a percentile, in milliseconds.
func latencyOf(rounds []credentialRound, of func(credentialRound) latencies, percentile int) float64 {
	return median(rounds, func(r credentialRound) float64 { return of(r).milliseconds(percentile) })
}

// runs is how many there were, with those that filled the queue.
func (f credentialFigures) runs() int { return f.n + credentialSlots }

// These are per run.
func (f credentialFigures) operatorMilliseconds() float64 {
	return f.cpu.controller * 1000 / float64(f.n)
}
func (f credentialFigures) reads() float64        { return f.whole[http.MethodGet] / float64(f.runs()) }
func (f credentialFigures) writes() float64       { return writes(f.whole) / float64(f.runs()) }
func (f credentialFigures) transactions() float64 { return float64(f.written) / float64(f.runs()) }
