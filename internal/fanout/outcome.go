package fanout

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Counter is the counter of a fan-out's status that an outcome is in.
type Counter string

// The counters.
const (
	Succeeded Counter = "Succeeded"
	Failed    Counter = "Failed"
	Skipped   Counter = "Skipped"
)

// Outcome is what came of a fan-out for one tenant. The zero value means that nothing has yet.
type Outcome struct {
	Counter Counter
	// Reason as in the TenantJob's condition Succeeded.
	Reason  string
	Message string
}

// Decided says whether there is an outcome.
func (o Outcome) Decided() bool { return o.Counter != "" }

// Status is that of the condition Succeeded of a TenantJob with this outcome.
func (o Outcome) Status() metav1.ConditionStatus {
	switch o.Counter {
	case Succeeded:
		return metav1.ConditionTrue
	case Failed, Skipped:
		return metav1.ConditionFalse
	}
	return metav1.ConditionUnknown
}

// OutcomeOf is the outcome that a TenantJob's condition Succeeded stands for; the zero value while it is Unknown.
// Whatever ended without success and is not known to be nobody's failure has failed.
func OutcomeOf(status metav1.ConditionStatus, reason, message string) Outcome {
	switch {
	case status == metav1.ConditionTrue:
		return Outcome{Counter: Succeeded, Reason: v1alpha1.ReasonCompleted}
	case status != metav1.ConditionFalse:
		return Outcome{}
	case skips(reason):
		return Outcome{Counter: Skipped, Reason: reason, Message: message}
	}
	return Outcome{Counter: Failed, Reason: reason, Message: message}
}

// skips says whether a run that ended with the reason counts as skipped.
func skips(reason string) bool {
	for _, k := range alphabet {
		if k.reason == reason {
			return k.counter == Skipped
		}
	}
	return false
}

// kind is what an outcome is without its message.
type kind struct {
	counter Counter
	reason  string
}

// The marks of tenants without an outcome.
const (
	markNone      = '.' // nothing has been done
	markAnnounced = ':' // its TenantJob is about to be made
	markCreated   = '+' // its TenantJob has been seen
)

// reasonOther stands for a reason that can't be written down; the message starts with it.
const reasonOther = "Other"

// alphabet has the mark of each outcome that this version knows: capitals failed, small letters were skipped. A ledger
// says itself what its marks mean, so one may be added here, but none may change.
var alphabet = map[byte]kind{
	'0': {Succeeded, v1alpha1.ReasonCompleted},

	'C': {Failed, v1alpha1.ReasonCredentialsFailed},
	'D': {Failed, v1alpha1.ReasonDeadlineExceeded},
	'E': {Failed, v1alpha1.ReasonExpired},
	'F': {Failed, v1alpha1.ReasonJobFailed},
	'I': {Failed, v1alpha1.ReasonInvalidParameters},
	'M': {Failed, v1alpha1.ReasonTenantMismatch},
	'N': {Failed, v1alpha1.ReasonNameConflict},
	'P': {Failed, v1alpha1.ReasonPodsRefused},
	'S': {Failed, v1alpha1.ReasonStoppedBySuspension},
	'X': {Failed, v1alpha1.ReasonDeleted},
	'Z': {Failed, reasonOther},

	'c': {Skipped, v1alpha1.ReasonCancelled},
	'd': {Skipped, v1alpha1.ReasonTenantDeleted},
	'n': {Skipped, v1alpha1.ReasonTenantNotReady},
	'o': {Skipped, v1alpha1.ReasonOverlapped},
	'r': {Skipped, v1alpha1.ReasonReplaced},
	's': {Skipped, v1alpha1.ReasonTenantSuspended},
	'u': {Skipped, v1alpha1.ReasonSuperseded},
	'z': {Skipped, reasonOther},
}

// spare are the marks for reasons that this version does not know.
const spare = "123456789"

const (
	// maxReason is how long a reason is in a status at most.
	maxReason = 64
	// maxMessage is how many bytes of a message are kept.
	maxMessage = 200
)

// tidy makes an outcome fit to be written down: a reason that is one word, a message that is one line.
func tidy(o Outcome) Outcome {
	if o.Counter == Succeeded {
		return Outcome{Counter: Succeeded, Reason: v1alpha1.ReasonCompleted}
	}
	if !validReason(o.Reason) {
		o.Message = o.Reason + ": " + o.Message
		o.Reason = reasonOther
	}
	o.Message = shorten(o.Message, maxMessage)
	return o
}

func validReason(reason string) bool {
	return reason != "" && len(reason) <= maxReason && !strings.ContainsFunc(reason, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
}

// shorten puts text on one line and cuts it to at most n bytes without breaking a character.
func shorten(text string, n int) string {
	text = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	return conditions.Cut(text, n)
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

func refused(message string) Outcome {
	return Outcome{Failed, v1alpha1.ReasonJobFailed, "the API server refused the TenantJob: " + message}
}

func late(deadline time.Duration) Outcome {
	return Outcome{Failed, v1alpha1.ReasonExpired,
		fmt.Sprintf("its own time was more than %d seconds ago when the fan-out was planned", int64(deadline/time.Second))}
}
