package postgres

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A thousand credentials leave nothing, and need no more connections than they are allowed.
func TestChurn(t *testing.T) {
	const runs, workers = 1000, 8
	database := newApplication(t)
	s := settings(database)
	s.MaxConnections = 3
	p := open(t, s)
	admin := server.Admin(t, database)
	issue(t, p, request(p, "first", acme)) // makes the group of those who may connect
	before := roles(t)
	errs := make(chan error, workers)
	for worker := range workers {
		go func() {
			for n := range runs / workers {
				r := request(p, fmt.Sprint(worker, "-", n), acme)
				if _, err := p.Issue(t.Context(), r); err != nil {
					errs <- err
					return
				}
				if err := p.Revoke(t.Context(), r.Handle); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if after := roles(t); after != before {
		t.Errorf("%s roles before, %s after", before, after)
	}
	left := "SELECT (SELECT count(*) FROM tenantry.runs) || ' ' || (SELECT count(*) FROM pg_shdescription WHERE classoid = 'pg_authid'::regclass) || ' ' || " +
		"(SELECT count(*) FROM pg_stat_activity WHERE usename = 'operator' AND datname = current_database()) || ' connections'"
	if got := queryText(t, admin, left); got > "1 1 3 connections" {
		t.Errorf("left: %s", got)
	}
	if stat := p.pool.Stat(); stat.MaxConns() != 3 || stat.TotalConns() > 3 {
		t.Errorf("%d connections of %d", stat.TotalConns(), stat.MaxConns())
	}
}

// BenchmarkIssueAndRevoke prints the medians, on a server that writes its log to the disk, beside no other credentials and a thousand.
func BenchmarkIssueAndRevoke(b *testing.B) {
	database := newApplication(b)
	exec(b, server.Config("postgres", "postgres", server.Password), "ALTER SYSTEM SET fsync = on")
	exec(b, server.Config("postgres", "postgres", server.Password), "SELECT pg_reload_conf()")
	b.Cleanup(func() {
		exec(b, server.Config("postgres", "postgres", server.Password), "ALTER SYSTEM SET fsync = off")
	})
	p := open(b, settings(database), func(*pgxpool.Config) {})
	for _, others := range []int{0, 1000} {
		for n := range others {
			issue(b, p, request(p, fmt.Sprint("other-", n), globex))
		}
		b.Run(fmt.Sprint("beside ", others), func(b *testing.B) {
			var issued, revoked []time.Duration
			for n := 0; b.Loop(); n++ {
				r := request(p, fmt.Sprint("run-", n), acme)
				start := time.Now()
				if _, err := p.Issue(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if err := p.Revoke(b.Context(), r.Handle); err != nil {
					b.Fatal(err)
				}
				issued, revoked = append(issued, middle.Sub(start)), append(revoked, time.Since(middle))
			}
			b.ReportMetric(milliseconds(issued), "ms/issue")
			b.ReportMetric(milliseconds(revoked), "ms/revoke")
		})
	}
}

// milliseconds returns the median.
func milliseconds(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2].Microseconds()) / 1000
}
