package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// counted counts how often it is encoded.
type counted struct{ times *int }

func (c counted) String() string {
	*c.times++
	return "acme"
}

// TestLoggerIsLazy checks that a logger's values are encoded only when the logger logs something, and that all of them are.
func TestLoggerIsLazy(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var times int
	log := newLogger(&zap.Options{DestWriter: &out}).WithValues("tenant", counted{&times}).WithValues("run", "nightly")
	log.V(1).Info("not at this level")
	if times != 0 {
		t.Errorf("it was encoded %d times, and nothing was logged", times)
	}
	log.WithValues("step", 1).Info("started")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"tenant": "acme", "run": "nightly", "step": 1.0, "msg": "started"} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
}
