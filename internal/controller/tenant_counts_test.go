package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestCountLine: who came first is counted first, once, and not before its time; those whose count is right cost nothing.
func TestCountLine(t *testing.T) {
	start := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var l countLine
	for i, tenant := range []string{"acme", "right", "globex", "acme", "initech", "right too", "umbrella"} {
		l.add(tenant, at(i))
	}
	wrong := func(tenant string) bool { return tenant != "right" && tenant != "right too" }
	for _, take := range []struct {
		before, most int
		want         []string
	}{
		{-1, 9, nil},
		{0, 9, []string{"acme"}},
		{5, 2, []string{"globex", "initech"}},
		{5, 2, nil},
		{9, 0, nil},
		{9, 9, []string{"umbrella"}},
		{9, 9, nil},
	} {
		if diff := cmp.Diff(take.want, l.take(at(take.before), take.most, wrong)); diff != "" {
			t.Errorf("taken before %d s (-want +got):\n%s", take.before, diff)
		}
	}
	if len(l.line)+len(l.known) > 0 {
		t.Errorf("still in line: %v, %v", l.line, l.known)
	}
	l.add("acme", at(20))
	if diff := cmp.Diff([]string{"acme"}, l.take(at(20), 1, wrong)); diff != "" {
		t.Errorf("in line again (-want +got):\n%s", diff)
	}
}
