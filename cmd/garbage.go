package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// boundGarbage has the heap collected when it has grown by a set amount and not, as is the default, by as much as lives on
// it, which is mostly caches: ten thousand TenantJobs then cost what they weigh, and a small installation, whose heap
// would be collected several times a second while thousands of jobs start, has room for that. A GOMEMLIMIT holds beside
// it: the runtime collects earlier as the limit comes near, whatever the percentage.
func boundGarbage() {
	const (
		room  = 32 << 20
		least = 15
		most  = 400
	)
	live, set := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, uint64(100)
	for ; ; time.Sleep(time.Second) {
		metrics.Read(live)
		percent := min(max(room*100/max(1, live[0].Value.Uint64()), least), most)
		if percent*10 < set*9 || percent*10 > set*11 {
			debug.SetGCPercent(int(percent))
			set = percent
		}
	}
}
