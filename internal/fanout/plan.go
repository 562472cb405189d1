package fanout

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Plan is what a fan-out does. It is sealed: nothing that happens later changes it.
type Plan struct {
	// FanOut is the UID of the TenantFanOut.
	FanOut types.UID
	// SealTime is when the plan was sealed, in whole seconds.
	SealTime time.Time
	// TemplateGeneration and Template are those of the TenantJobTemplate when the plan was sealed. Every child runs this
	// template.
	TemplateGeneration int64
	Template           v1alpha1.TenantJobTemplateSpec
	// SpreadSeconds is the length of the window over which the times of the entries are spread. Zero means no window.
	SpreadSeconds int32
	// Waves are the names of the waves, in order.
	Waves []string
	// Entries are the planned tenants, sorted by name.
	Entries []Entry
}

// Entry is one planned tenant.
type Entry struct {
	Tenant string
	// UID of the Tenant. It is empty for a name that no Tenant had.
	UID types.UID
	// Wave is the index of its wave in Plan.Waves. For a tenant that is in no wave it is len(Plan.Waves): these come last.
	Wave int
	// NotBefore is when its run may start, in whole seconds. Zero means at once.
	NotBefore time.Time
	// Outcome is the one that the tenant had when the plan was sealed, the zero value when it had none. A tenant with an
	// outcome gets no TenantJob.
	Outcome Outcome
}

// Request is what a plan is made from.
type Request struct {
	FanOut *v1alpha1.TenantFanOut
	// Template is the one that spec.templateRef names, nil when it does not exist.
	Template *v1alpha1.TenantJobTemplate
	// Tenants are all Tenants.
	Tenants []Tenant
	// Source is the ledger of the fan-out that retryOf names. It is nil when that fan-out, its plan or its ledger is gone, and
	// when it has no plan yet.
	Source *Ledger
	// Sources are the fan-out that retryOf names, the one that this one retries while it has no plan, and so on. A name that
	// is repeated is the last one.
	Sources []*v1alpha1.TenantFanOut
	// Start is where the window of spreadSeconds begins. Zero means now.
	Start time.Time
	// Deadline is how far in the past the own time of a tenant may be. A tenant beyond it is Expired. Zero means no
	// deadline.
	Deadline time.Duration
	// Invalid is the message why the parameters do not fit the template. Then every tenant has the outcome
	// InvalidParameters, and none gets a TenantJob. It is empty when they fit.
	Invalid string
}

// SealError says why a plan can't be sealed yet. It has the reason and the message of Planned=False.
type SealError struct {
	Reason, Message string
	// Transient says that the cause passes without a person's help.
	Transient bool
	// Final says that the fan-out ends without a plan.
	Final bool
}

// Error returns the message.
func (e *SealError) Error() string { return e.Message }

// Seal makes the plan of a fan-out. The error is always a *SealError.
func Seal(r Request, now time.Time) (*Plan, error) {
	if err := templateUsable(r); err != nil {
		return nil, err
	}
	selected, err := selectTenants(r)
	if err != nil {
		return nil, err
	}
	waves, err := assignWaves(r.FanOut, selected)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		FanOut:             r.FanOut.UID,
		SealTime:           now.UTC().Truncate(time.Second),
		TemplateGeneration: r.Template.Generation,
		Template:           *r.Template.Spec.DeepCopy(),
		SpreadSeconds:      spreadSeconds(r.FanOut),
		Waves:              waves,
		Entries:            make([]Entry, 0, len(selected)),
	}
	start := cmp.Or(r.Start, now)
	for _, c := range selected {
		c.entry.NotBefore = due(c, start, p.SpreadSeconds)
		switch {
		case c.entry.Outcome.Decided():
		case r.Invalid != "":
			c.entry.Outcome = Outcome{Failed, v1alpha1.ReasonInvalidParameters, r.Invalid}
		case !c.notBefore.IsZero() && r.Deadline > 0 && now.Sub(c.entry.NotBefore) > r.Deadline:
			c.entry.Outcome = late(r.Deadline)
		}
		if c.entry.Outcome.Decided() {
			c.entry.Outcome = normalized(c.entry.Outcome)
		}
		p.Entries = append(p.Entries, c.entry)
	}
	return p, nil
}

// Find returns the index of a tenant's entry. It returns false when the tenant is not planned.
func (p *Plan) Find(tenant string) (int, bool) {
	return slices.BinarySearchFunc(p.Entries, tenant, func(e Entry, name string) int { return strings.Compare(e.Tenant, name) })
}

// waveName returns the name of a wave as the status has it. It is empty for the tenants in no wave.
func (p *Plan) waveName(wave int) string {
	if wave < len(p.Waves) {
		return p.Waves[wave]
	}
	return ""
}

// templateUsable refuses a template that can't run. The plan would keep it, and an edit would not change the plan.
func templateUsable(r Request) error {
	name := r.FanOut.Spec.TemplateRef.Name
	if r.Template == nil {
		return &SealError{Reason: v1alpha1.ReasonTemplateNotFound, Message: "there is no TenantJobTemplate " + name + ": create it"}
	}
	ready := meta.FindStatusCondition(r.Template.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil, ready.ObservedGeneration != r.Template.Generation, ready.Status == metav1.ConditionUnknown:
		return &SealError{Reason: v1alpha1.ReasonTemplateNotReady, Message: "TenantJobTemplate " + name + " is being checked", Transient: true}
	case ready.Status != metav1.ConditionTrue:
		return &SealError{Reason: v1alpha1.ReasonTemplateNotReady, Message: "TenantJobTemplate " + name + " can't run: " + ready.Message}
	}
	return nil
}

// due returns when a tenant's run may start. Zero means at once.
func due(c candidate, start time.Time, spreadSeconds int32) time.Time {
	if c.notBefore.IsZero() && spreadSeconds == 0 {
		return time.Time{}
	}
	at := cmp.Or(c.notBefore, start).Add(placeInWindow(c.entry, spreadSeconds))
	return at.UTC().Truncate(time.Second)
}

// spreadSeconds is the length of the fan-out's window. Zero means no window.
func spreadSeconds(fanOut *v1alpha1.TenantFanOut) int32 {
	return max(0, ptr.Deref(fanOut.Spec.SpreadSeconds, 0))
}
