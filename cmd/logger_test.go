package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
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

// TestLoggerCuts: whatever of a line a tenant's member may have written, the line stays short.
func TestLoggerCuts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 1<<20)
	refusal := fmt.Errorf("writing: %w", apierrors.NewBadRequest(long))
	for name, o := range map[string]zap.Options{"JSON": {}, "console": {Development: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o.DestWriter = &out
			log := newLogger(&o)
			log.WithValues("early", long).Info("started", "short", "all of it")
			log.Info(long)
			log.Info("text", "value", long)
			log.Info("list", "values", []string{long, long})
			log.Info("map", "values", map[string]string{long: long})
			log.Info("stringer", "value", bytes.NewBufferString(long))
			log.Info("an error as a value", "err", refusal)
			log.Info("object", "pod", &corev1.Pod{Spec: corev1.PodSpec{NodeName: "node-1"}}, "ref", klog.KRef("a", "b"))
			log.Error(refusal, "error")
			log.Error(errors.Join(refusal, refusal), "errors")
			lines := strings.SplitAfter(out.String(), "\n")
			for _, line := range lines {
				// Beside the value, a line of an error has a stack.
				if len(line) > maxLogged+1000 && !strings.Contains(line, "stacktrace") || len(line) > 3*maxLogged {
					t.Errorf("%d bytes: %.200s", len(line), line)
				}
			}
			if !strings.Contains(lines[0], "all of it") {
				t.Errorf("a short value is not in %.200s", lines[0][max(0, len(lines[0])-200):])
			}
		})
	}
}

// TestLoggerHeedsItsLevel: what is below the level stays out.
func TestLoggerHeedsItsLevel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	newLogger(&zap.Options{DestWriter: &out}).V(1).Info("not at this level")
	if out.Len() > 0 {
		t.Errorf("logged %s", out.String())
	}
}
