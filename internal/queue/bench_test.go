package queue

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const manyJobs = 100_000

// shape is how the waiting jobs are spread.
type shape struct {
	tenants, templates, fanOuts int
	fanOutLimit, tenantLimit    int32
}

var shapes = map[string]shape{
	"10000tenants":            {tenants: 10_000, templates: 1},
	"oneTenant":               {tenants: 1, templates: 1},
	"tenantsAtTheirLimit":     {tenants: 100, templates: 1, tenantLimit: 3},
	"oneTenant100templates":   {tenants: 1, templates: 100},
	"10fanOutsOf10000":        {tenants: 10_000, templates: 1, fanOuts: 10},
	"10fanOutsOf10000limited": {tenants: 10_000, templates: 1, fanOuts: 10, fanOutLimit: 10},
	"1000fanOutsOf100":        {tenants: 100, templates: 1, fanOuts: 1000},
}

func (sh shape) fill() *State {
	s := New(noon)
	s.SetQueue(Queue{Name: "checks", MaxConcurrent: 200})
	for i := range sh.tenants {
		s.SetTenant(Tenant{Name: fmt.Sprintf("tenant-%05d", i), Weight: int32(1 + i%5), MaxConcurrent: sh.tenantLimit})
	}
	for i := range sh.fanOuts {
		s.SetFanOut(FanOut{Name: fmt.Sprintf("fan-out-%04d", i), MaxConcurrent: sh.fanOutLimit})
	}
	for i := range manyJobs {
		s.Put(sh.job(i))
	}
	return s
}

func (sh shape) job(i int) Job {
	j := Job{
		UID: types.UID(fmt.Sprintf("%08d", i)), Queue: "checks", Tenant: fmt.Sprintf("tenant-%05d", i%sh.tenants),
		Template: fmt.Sprintf("template-%02d", i%sh.templates), Created: noon.Add(time.Duration(i)), MaxWait: time.Hour,
	}
	if sh.fanOuts > 0 {
		j.FanOut = fmt.Sprintf("fan-out-%04d", i/sh.tenants%sh.fanOuts)
	}
	return j
}

// BenchmarkDecision puts, starts and removes one job while 100,000 wait.
func BenchmarkDecision(b *testing.B) {
	for name, sh := range shapes {
		b.Run(name, func(b *testing.B) {
			s := sh.fill()
			var running []types.UID
			for {
				d := s.Next(noon)
				if d.Action == ActionNone {
					break
				}
				running = append(running, d.Job.UID)
			}
			fresh := make([]types.UID, b.N)
			for i := range fresh {
				fresh[i] = types.UID(fmt.Sprintf("%08d", manyJobs+i))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				s.Remove(running[i%len(running)])
				d := s.Next(noon.Add(time.Duration(i)))
				if d.Action != ActionStart {
					b.Fatalf("nothing starts: %+v", d)
				}
				running[i%len(running)] = d.Job.UID
				j := d.Job
				j.UID = fresh[i]
				s.Put(j)
			}
		})
	}
}

// BenchmarkNothingStarts asks again while nothing can start.
func BenchmarkNothingStarts(b *testing.B) {
	s := shapes["10000tenants"].fill()
	for s.Next(noon).Action != ActionNone {
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Next(noon)
	}
}

// BenchmarkRebuild is a restart while 100,000 jobs wait.
func BenchmarkRebuild(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		shapes["10000tenants"].fill()
	}
}

// BenchmarkReview reviews the status messages of 1,000 of 100,000 waiting jobs.
func BenchmarkReview(b *testing.B) {
	s := shapes["10000tenants"].fill()
	for s.Next(noon).Action != ActionNone {
	}
	s.Review(manyJobs, 1<<30, 0)
	b.ReportAllocs()
	for b.Loop() {
		if stale := s.Review(1000, 1<<30, 0); len(stale) > 0 {
			b.Fatal(stale[0])
		}
	}
}
