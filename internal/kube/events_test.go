package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
)

// TestEventsFit: a message that is too long for the API server is cut, or the event would be lost.
func TestEventsFit(t *testing.T) {
	t.Parallel()
	recorder := events.NewFakeRecorder(2)
	c := Client{Events: recorder}
	c.Warn(&corev1.Pod{}, "Long", "Test", strings.Repeat("x", 1<<20))
	c.Note(&corev1.Pod{}, "Short", "Test", "100% done")
	if got := <-recorder.Events; len(got) != len("Warning Long ")+maxNote || !strings.HasSuffix(got, "...") {
		t.Errorf("an event of %d bytes: %.40s", len(got), got)
	}
	if got := <-recorder.Events; got != "Normal Short 100% done" {
		t.Errorf("got %q", got)
	}
}
