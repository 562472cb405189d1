package queue

import (
	"cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// stride is what a start costs a tenant of weight 1 in virtual time. Others pay it divided by their weight. All
// weights up to 20 divide it, so that their shares are exact. The error for other weights is below 1 in 2,000,000.
const stride = 232_792_560

func costOf(weight int32) int64 { return stride / int64(max(1, weight)) }

// before is the order of one tenant's jobs: priority, then age.
func (e *entry) before(other *entry) bool {
	return cmp.Or(
		cmp.Compare(rank(e.Priority), rank(other.Priority)),
		e.Created.Compare(other.Created),
		cmp.Compare(e.sequence, other.sequence), // The API server's times have whole seconds.
	) < 0
}

func rank(p v1alpha1.JobPriority) int {
	switch p {
	case v1alpha1.PriorityHigh:
		return 0
	case v1alpha1.PriorityLow:
		return 2
	default:
		return 1
	}
}

// before is the order of flows: start tag, then sequence.
func (f *flow) before(other *flow) bool {
	return f.startTag < other.startTag || f.startTag == other.startTag && f.sequence < other.sequence
}

// before is the order of waveQueues: first that of their flows, then that of the jobs of one flow.
func (h head) before(other head) bool {
	switch {
	case h.startTag != other.startTag:
		return h.startTag < other.startTag
	case h.sequence != other.sequence:
		return h.sequence < other.sequence
	}
	return h.job.before(other.job)
}
