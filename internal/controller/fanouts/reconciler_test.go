package fanouts

import (
	"testing"
	"time"
)

// TestCreatePeriod: the first children may start soon, and the passes over a large plan are fewer, but not few.
func TestCreatePeriod(t *testing.T) {
	for _, tc := range []struct {
		planned, seen int
		want          time.Duration
	}{
		{planned: 10, want: 500 * time.Millisecond},
		{planned: 10, seen: 1, want: 500500 * time.Microsecond},
		{planned: 10_000, want: 500 * time.Millisecond},
		{planned: 10_000, seen: 1, want: time.Second},
		{planned: 1_000_000, seen: 1, want: 2 * time.Second},
	} {
		if got := createPeriod(tc.planned, tc.seen); got != tc.want {
			t.Errorf("with %d planned and %d seen: %v, want %v", tc.planned, tc.seen, got, tc.want)
		}
	}
}
