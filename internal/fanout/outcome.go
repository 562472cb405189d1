package fanout

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Counter is the counter of a fan-out's status in which an outcome counts.
type Counter = v1alpha1.Counter

// The counters, under shorter names.
const (
	Succeeded = v1alpha1.CounterSucceeded
	Failed    = v1alpha1.CounterFailed
	Skipped   = v1alpha1.CounterSkipped
)

// Outcome is the result of a fan-out for one tenant. The zero value means that there is none yet.
type Outcome struct {
	// Counter in which the tenant counts. Empty means that there is no outcome yet.
	Counter Counter
	// Reason is that of the TenantJob's condition Succeeded.
	Reason string
	// Message explains the reason to a person. It may be empty.
	Message string
}

// Decided says whether there is an outcome.
func (o Outcome) Decided() bool { return o.Counter != "" }

// Status is that of the condition Succeeded of a TenantJob with this outcome. It is Unknown when there is none yet.
func (o Outcome) Status() metav1.ConditionStatus {
	switch o.Counter {
	case Succeeded:
		return metav1.ConditionTrue
	case Failed, Skipped:
		return metav1.ConditionFalse
	}
	return metav1.ConditionUnknown
}

// OutcomeOf returns the outcome that a TenantJob's condition Succeeded means. It is the zero value while the condition is
// Unknown. A run that ended without success counts as failed when its reason has no other counter.
func OutcomeOf(status metav1.ConditionStatus, reason, message string) Outcome {
	switch status {
	case metav1.ConditionTrue:
		return Outcome{Counter: Succeeded, Reason: v1alpha1.ReasonCompleted}
	case metav1.ConditionFalse:
		if counter, _ := v1alpha1.CounterOf(reason); counter == Skipped {
			return Outcome{Counter: Skipped, Reason: reason, Message: message}
		}
		return Outcome{Counter: Failed, Reason: reason, Message: message}
	}
	return Outcome{}
}

const (
	// maxReasonLength is the greatest length of a reason in a status, in bytes.
	maxReasonLength = 64
	// maxMessageLength is how many bytes of a message are kept.
	maxMessageLength = 200
)

// normalized returns an outcome as a ledger can store it: the reason is one word, the message one line.
func normalized(o Outcome) Outcome {
	if o.Counter == Succeeded {
		return Outcome{Counter: Succeeded, Reason: v1alpha1.ReasonCompleted}
	}
	if !validReason(o.Reason) {
		o.Message = o.Reason + ": " + o.Message
		o.Reason = reasonOther
	}
	o.Message = shorten(o.Message, maxMessageLength)
	return o
}

// validReason says whether a reason is one word of letters and digits that fits a status.
func validReason(reason string) bool {
	return reason != "" && len(reason) <= maxReasonLength && !strings.ContainsFunc(reason, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// shorten puts text on one line and cuts it to at most n bytes. It breaks no character.
func shorten(text string, n int) string {
	return conditions.Cut(conditions.Line(text), n)
}

func superseded() Outcome {
	return Outcome{Skipped, v1alpha1.ReasonSuperseded, "the next tick of the schedule came before it started"}
}

func cancelled() Outcome {
	return Outcome{Skipped, v1alpha1.ReasonCancelled, "the fan-out was cancelled before it started"}
}

func nameConflict(name string) Outcome {
	return Outcome{Failed, v1alpha1.ReasonNameConflict,
		fmt.Sprintf("there is a TenantJob %s in the tenant's namespace that is not this fan-out's: delete it, then retry", name)}
}

func deleted() Outcome {
	return Outcome{Failed, v1alpha1.ReasonDeleted, "its TenantJob was deleted before it had an outcome"}
}

// refusedFor is the outcome of a tenant whose TenantJob the API server does not accept. Without a reason it never will.
func refusedFor(reason, message string) Outcome {
	if reason != "" {
		return Outcome{Failed, reason, message}
	}
	return Outcome{Failed, v1alpha1.ReasonJobFailed, "the API server refused the TenantJob: " + message}
}

// late is the outcome of a tenant whose own time was further in the past than a deadline allows.
func late(deadline time.Duration) Outcome {
	return Outcome{Failed, v1alpha1.ReasonExpired,
		fmt.Sprintf("its own time was more than %s ago when the fan-out was planned", quantity(int64(deadline/time.Second), "second"))}
}

// quantity writes a number with its noun, in the singular for one.
func quantity[N int | int32 | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
