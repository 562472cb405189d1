package bench

import (
	"fmt"
	"testing"
)

// round has the figures of one round, in which each part is measured once.
type round struct {
	// before and after are the bare pairs before and after the other parts. cronJobs is set only for some numbers of
	// tenants.
	before, cronJobs, fanOut, queue, after, jobs figures
	// facts are rows about the fan-out that are not rates.
	facts [][]string
}

// comparison compares the parts over all rounds.
type comparison struct {
	rounds []round
	// rest has the figures that were measured only once.
	rest []figures
}

func (c *comparison) add(r round) { c.rounds = append(c.rounds, r) }

// median returns the median of the ratio of two rates over the rounds. It is zero if one was not measured.
func (c *comparison) median(ours, theirs func(round) float64) float64 {
	return medianRatio(c.rounds, ours, theirs)
}

// pairsOf returns the mean rate of the bare pairs of a round.
func pairsOf(r round) float64    { return (r.before.overall + r.after.overall) / 2 }
func cronJobsOf(r round) float64 { return r.cronJobs.overall }
func fanOutOf(r round) float64   { return r.fanOut.overall }
func queueOf(r round) float64    { return r.queue.overall }

// print prints the figures, the ratios of each round, and their medians.
func (c *comparison) print(n int) {
	var rows [][]string
	for i, r := range c.rounds {
		for _, f := range []figures{r.before, r.cronJobs, r.fanOut, r.queue, r.after, r.jobs} {
			if f.n > 0 {
				rows = append(rows, f.row(fmt.Sprintf("%d: %s", i+1, f.name), r))
			}
		}
	}
	for _, f := range c.rest {
		rows = append(rows, f.row(f.name, round{}))
	}
	table([]string{
		fmt.Sprintf("runs for %d tenants, by round", n), "first start", "median", "last", "overall", "of the bare pairs", "of CronJob",
		"CPU per run: API server + controller + benchmark", "calls per run until started", "until completed",
	}, rows)
	table([]string{fmt.Sprintf("%d tenants, median of the rounds", n), "of the bare pairs", "of CronJob, 50 workers"}, [][]string{
		{"TenantFanOut", times(c.median(fanOutOf, pairsOf)), times(c.median(fanOutOf, cronJobsOf))},
		{"TenantQueue, let go", times(c.median(queueOf, pairsOf)), times(c.median(queueOf, cronJobsOf))},
	})
	table([]string{fmt.Sprintf("fan-out over %d tenants, last round", n), ""}, c.rounds[len(c.rounds)-1].facts)
}

// report reports the medians as metrics of the benchmark.
func (c *comparison) report(b *testing.B) {
	b.Helper()
	last := c.rounds[len(c.rounds)-1].fanOut
	b.ReportMetric(c.median(fanOutOf, pairsOf), "starts/barePair")
	if ratio := c.median(fanOutOf, cronJobsOf); ratio > 0 {
		b.ReportMetric(ratio, "starts/cronJob")
	}
	b.ReportMetric(writes(last.whole)/float64(last.n), "writes/run")
}

// row returns a row of the table, with ratios to other parts of the same round.
func (f figures) row(name string, r round) []string {
	return []string{
		name, seconds(f.first), seconds(f.median), seconds(f.last), rate(f.overall),
		ratio(f.overall, pairsOf(r)), ratio(f.overall, cronJobsOf(r)), f.cpu.per(f.n), per(f.starting, f.n), per(f.whole, f.n),
	}
}
