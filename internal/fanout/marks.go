package fanout

import (
	"github.com/tenantry/tenantry/api/v1alpha1"
)

// outcomeKind is an outcome without its message: what a mark of the ledger stands for.
type outcomeKind struct {
	counter Counter
	reason  string
}

// The marks of tenants without an outcome.
const (
	markNone      = '.' // nothing has been done
	markAnnounced = ':' // its TenantJob is about to be created
	markCreated   = '+' // its TenantJob was observed
)

// The marks of outcomes whose reason has no mark of its own. The message begins with the reason.
const (
	markOtherFailed  = 'Z'
	markOtherSkipped = 'z'
)

// reasonOther is the reason of markOtherFailed and markOtherSkipped.
const reasonOther = "Other"

// alphabet has the mark of each reason that this version knows: a capital letter for one that counts as failed, a small
// letter for one that counts as skipped. A ledger stores the meaning of the marks that it uses. So a mark may be added
// here, but the meaning of a mark never changes.
var alphabet = map[byte]string{
	'0': v1alpha1.ReasonCompleted,

	'C': v1alpha1.ReasonCredentialsFailed,
	'D': v1alpha1.ReasonDeadlineExceeded,
	'E': v1alpha1.ReasonExpired,
	'F': v1alpha1.ReasonJobFailed,
	'I': v1alpha1.ReasonInvalidParameters,
	'M': v1alpha1.ReasonTenantMismatch,
	'N': v1alpha1.ReasonNameConflict,
	'P': v1alpha1.ReasonPodsRefused,
	'S': v1alpha1.ReasonStoppedBySuspension,
	'X': v1alpha1.ReasonDeleted,

	'c': v1alpha1.ReasonCancelled,
	'd': v1alpha1.ReasonTenantDeleted,
	'n': v1alpha1.ReasonTenantNotReady,
	'o': v1alpha1.ReasonOverlapped,
	'r': v1alpha1.ReasonReplaced,
	's': v1alpha1.ReasonTenantSuspended,
	'u': v1alpha1.ReasonSuperseded,
}

// knownMarks is what each mark stands for in this version. The counters are those of the API's reasons.
var knownMarks = marksOf(alphabet)

func marksOf(reasons map[byte]string) map[byte]outcomeKind {
	marks := map[byte]outcomeKind{
		markOtherFailed:  {Failed, reasonOther},
		markOtherSkipped: {Skipped, reasonOther},
	}
	for mark, reason := range reasons {
		counter, _ := v1alpha1.CounterOf(reason)
		marks[mark] = outcomeKind{counter, reason}
	}
	return marks
}

// spareMarks are for reasons that this version does not know.
const spareMarks = "123456789"

// validMark says whether a later version may use a character as the mark of an outcome: a letter or a digit.
func validMark(mark byte) bool {
	return mark >= '0' && mark <= '9' || mark >= 'A' && mark <= 'Z' || mark >= 'a' && mark <= 'z'
}
