package tenants

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCountQueue: the Tenants are counted in the order in which they were added, once, and after a delay that is longer in a rush.
// A batch is small. Tenants whose count is right are passed over.
func TestCountQueue(t *testing.T) {
	start := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var q countQueue
	for i, tenant := range []string{"acme", "right", "globex", "acme", "initech", "right too", "umbrella"} {
		q.add(tenant, at(i))
	}
	var many []string
	for i := range countBatch + 2 {
		many = append(many, fmt.Sprintf("many-%d", i))
		q.add(many[i], at(30))
	}
	isOutdated := func(tenant string) bool { return tenant != "right" && tenant != "right too" }
	for _, call := range []struct {
		now  int
		rush bool
		want []string
	}{
		{now: 14},
		{now: 15, want: []string{"acme"}},
		{now: 15},
		{now: 59, rush: true},
		{now: 64, rush: true, want: []string{"globex", "initech"}},
		{now: 40, want: []string{"umbrella"}},
		{now: 89, rush: true},
		{now: 90, rush: true, want: many[:countBatchInRush]},
		{now: 91, want: many[countBatchInRush:]},
		{now: 999},
	} {
		if diff := cmp.Diff(call.want, q.next(at(call.now), call.rush, isOutdated)); diff != "" {
			t.Errorf("after %d s, in a rush: %v (-want +got):\n%s", call.now, call.rush, diff)
		}
	}
	if len(q.entries)+len(q.queued) > 0 {
		t.Errorf("still in the queue: %v, %v", q.entries, q.queued)
	}
	q.add("acme", at(1000))
	if diff := cmp.Diff([]string{"acme"}, q.next(at(1015), false, isOutdated)); diff != "" {
		t.Errorf("in the queue again (-want +got):\n%s", diff)
	}
}
