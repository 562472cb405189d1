package job

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

const (
	// TroubleAfter is for how long its tenant's own trouble may keep a fan-out's TenantJob from starting: as long as a Job may be
	// without a pod. After that it ends, since later waves and the end of the fan-out wait for it.
	TroubleAfter = RefusedAfter
	// UnclearAfter is the same for trouble that may not be the tenant's own.
	UnclearAfter = 10 * time.Minute
	// troublePoll is how often a TenantJob in trouble is looked at, and longestTick how much of the time between two looks
	// counts: if more time has passed, the operator was away or busy, and nobody knows for how long the trouble has lasted.
	troublePoll = TroubleAfter / 4
	longestTick = troublePoll * 3 / 2
)

// Trouble says whose fault it is that a TenantJob, or a fan-out's child that is yet to be created, does not start.
type Trouble int

const (
	// NoTrouble means that it does not start for another reason: a limit, a pause, or because it is not due.
	NoTrouble Trouble = iota
	// TenantsTrouble means that something about this tenant alone is the cause.
	TenantsTrouble
	// UnclearTrouble means that the cause may concern other tenants as well, or may pass without anybody's help.
	UnclearTrouble
)

// TroubleClock measures for how long trouble has kept a TenantJob from starting. It does not measure other time. It is not
// stored: after a restart of the operator it begins again. The zero value has measured nothing.
type TroubleClock struct {
	// tenants is how long tenant's trouble has lasted, all is how long trouble of any kind has.
	tenants, all time.Duration
	// last is when the clock was last told of trouble, which was of kind trouble.
	last    time.Time
	trouble Trouble
}

// Tick tells the clock of the trouble that there is now. Time counts from one Tick with trouble to the next one. Tick returns
// for how long the TenantJob may wait for its start from now on; nothing is left when it is zero or less.
func (c *TroubleClock) Tick(trouble Trouble, now time.Time) (left time.Duration) {
	if trouble != NoTrouble && c.trouble != NoTrouble {
		passed := min(max(0, now.Sub(c.last)), longestTick)
		c.all += passed
		if trouble == TenantsTrouble && c.trouble == TenantsTrouble {
			c.tenants += passed
		}
	}
	c.last, c.trouble = now, trouble
	return c.left()
}

func (c *TroubleClock) left() time.Duration {
	left := UnclearAfter - c.all
	if c.trouble != UnclearTrouble {
		left = min(left, TroubleAfter-c.tenants)
	}
	return left
}

// Message says why something ends that trouble has kept from starting for as long as it may.
func (c *TroubleClock) Message(cause string) string {
	span := "ten minutes"
	if c.tenants >= TroubleAfter {
		span = "two minutes"
	}
	return "did not start for " + span + ": " + cause
}

// Limit returns a decision about a fan-out's TenantJob that waits: its end when trouble has kept it from starting for as long
// as it may, and otherwise the same decision, with a time for the next look. The reason of the end is that of the wait where that
// one can be an end.
func (c *TroubleClock) Limit(d Decision, trouble Trouble, now time.Time) Decision {
	if d.Reason == "" || Ends(d) {
		return d // It does not say why the TenantJob waits.
	}
	left := c.Tick(trouble, now)
	switch {
	case trouble == NoTrouble:
		return d
	case left > 0:
		if after := min(left, troublePoll); d.RequeueAfter == 0 || after < d.RequeueAfter {
			d.RequeueAfter = after
		}
		return d
	}
	reason, progress := v1alpha1.ReasonPodsRefused, conditions.Stalled
	switch d.Reason {
	case v1alpha1.ReasonPending:
		reason = v1alpha1.ReasonNameConflict
	case v1alpha1.ReasonIssuingCredentials:
		reason = v1alpha1.ReasonCredentialsFailed
	case v1alpha1.ReasonTenantNotReady, v1alpha1.ReasonTenantSuspended:
		reason, progress = d.Reason, conditions.Current
	}
	return *endsWith(reason, progress, c.Message(d.Message))
}

// TroubleOf says whose fault it is that a TenantJob waits with a decision.
func TroubleOf(o Observed, d Decision) Trouble {
	switch d.Reason {
	case v1alpha1.ReasonQueued, v1alpha1.ReasonIssuingCredentials:
		return d.Trouble
	case v1alpha1.ReasonPending, v1alpha1.ReasonTenantSuspended:
		return UnclearTrouble
	case v1alpha1.ReasonTenantNotReady:
		if o.Tenant == nil {
			return UnclearTrouble
		}
		ready := conditions.Ready(o.Tenant.Status.Conditions)
		if ready.Status == metav1.ConditionFalse && ready.ObservedGeneration == o.Tenant.Generation {
			return TenantsTrouble
		}
		return UnclearTrouble // The operator is making the tenant ready.
	}
	return NoTrouble
}
