package credentials

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// TestLearn: a provider that was Ready stays so for a while when its server is busy, and not when it is wrong.
func TestLearn(t *testing.T) {
	t.Parallel()
	ready := outcome{status: metav1.ConditionTrue, reason: v1alpha1.ReasonReady}
	busy := failed(t.Context(), credential.Transientf(v1alpha1.ReasonServerError, "somebody holds a lock"))
	away := failed(t.Context(), credential.Transientf(v1alpha1.ReasonUnreachable, "nobody answers"))
	wrong := outcome{status: metav1.ConditionFalse, reason: v1alpha1.ReasonNotIsolated}
	type step struct {
		after time.Duration
		found outcome
		want  string
	}
	for name, steps := range map[string][]step{
		"busy for a while":        {{0, ready, v1alpha1.ReasonReady}, {time.Minute, busy, v1alpha1.ReasonReady}, {14 * time.Minute, ready, v1alpha1.ReasonReady}, {14 * time.Minute, busy, v1alpha1.ReasonReady}},
		"busy for too long":       {{0, ready, v1alpha1.ReasonReady}, {14 * time.Minute, busy, v1alpha1.ReasonReady}, {time.Minute, busy, v1alpha1.ReasonServerError}},
		"busy from the beginning": {{0, busy, v1alpha1.ReasonServerError}, {0, ready, v1alpha1.ReasonReady}},
		"away":                    {{0, ready, v1alpha1.ReasonReady}, {0, away, v1alpha1.ReasonUnreachable}, {0, busy, v1alpha1.ReasonServerError}},
		"not isolated":            {{0, ready, v1alpha1.ReasonReady}, {0, busy, v1alpha1.ReasonReady}, {0, wrong, v1alpha1.ReasonNotIsolated}, {0, busy, v1alpha1.ReasonServerError}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, now := &instance{}, time.Unix(1000, 0)
			for n, s := range steps {
				now = now.Add(s.after)
				if i.learn(s.found, now); i.found.reason != s.want {
					t.Errorf("step %d: got %s, want %s", n, i.found.reason, s.want)
				}
			}
		})
	}
}
