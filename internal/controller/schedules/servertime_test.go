package schedules

import (
	"testing"
	"time"
)

func TestServerTime(t *testing.T) {
	at := time.Date(2026, 8, 3, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		// local is what the operator's clock shows when the API server says that it is twelve.
		local time.Duration
		// later is what it shows when it is looked at.
		later time.Duration
		want  time.Duration
		known bool
	}{
		"the same time":                  {0, time.Minute, time.Minute, true},
		"a little ahead":                 {2 * time.Second, time.Minute, time.Minute, true},
		"a little behind":                {-2 * time.Second, time.Minute, time.Minute, true},
		"a day ahead":                    {24 * time.Hour, 24*time.Hour + time.Minute, time.Minute, true},
		"an hour behind":                 {-time.Hour, -time.Hour + time.Minute, time.Minute, true},
		"it was long ago":                {0, askAgainAfter, askAgainAfter, false},
		"the clock was set back since":   {0, -time.Hour, -time.Hour, false},
		"the clock was set ahead by far": {0, 26 * time.Hour, 26 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s serverTime
			if got, known := s.at(at); known || !got.Equal(at) {
				t.Errorf("before the API server was asked: %s, %t", got, known)
			}
			s.set(at, at.Add(tc.local))
			got, known := s.at(at.Add(tc.later))
			if !got.Equal(at.Add(tc.want)) || known != tc.known {
				t.Errorf("%s, %t; want %s, %t", got.Sub(at), known, tc.want, tc.known)
			}
		})
	}
}
