package tenants

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCountLine: who came first is counted first, once, and not before its time, which is later in a rush; few at once, and
// those whose count is right cost nothing.
func TestCountLine(t *testing.T) {
	start := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var l countLine
	for i, tenant := range []string{"acme", "right", "globex", "acme", "initech", "right too", "umbrella"} {
		l.add(tenant, at(i))
	}
	var many []string
	for i := range countsAtOnce + 2 {
		many = append(many, fmt.Sprintf("many-%d", i))
		l.add(many[i], at(30))
	}
	wrong := func(tenant string) bool { return tenant != "right" && tenant != "right too" }
	for _, take := range []struct {
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
		{now: 90, rush: true, want: many[:countsAtOnceInRush]},
		{now: 91, want: many[countsAtOnceInRush:]},
		{now: 999},
	} {
		if diff := cmp.Diff(take.want, l.take(at(take.now), take.rush, wrong)); diff != "" {
			t.Errorf("after %d s, in a rush: %v (-want +got):\n%s", take.now, take.rush, diff)
		}
	}
	if len(l.line)+len(l.known) > 0 {
		t.Errorf("still in line: %v, %v", l.line, l.known)
	}
	l.add("acme", at(1000))
	if diff := cmp.Diff([]string{"acme"}, l.take(at(1015), false, wrong)); diff != "" {
		t.Errorf("in line again (-want +got):\n%s", diff)
	}
}
