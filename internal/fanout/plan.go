package fanout

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Plan is what a fan-out does, sealed: nothing that happens later changes it.
type Plan struct {
	// FanOut is the UID of the TenantFanOut.
	FanOut types.UID
	// SealTime is when it was made, in whole seconds.
	SealTime time.Time
	// TemplateGeneration and Template are the TenantJobTemplate as it was. Every child runs this.
	TemplateGeneration int64
	Template           v1alpha1.TenantJobTemplateSpec
	// SpreadSeconds is the window that the entries' times are spread over.
	SpreadSeconds int32
	// Waves are their names, in order.
	Waves []string
	// Entries are sorted by tenant.
	Entries []Entry
}

// Entry is one planned tenant.
type Entry struct {
	Tenant string
	// UID of the Tenant. Empty for a name that no Tenant had.
	UID types.UID
	// Wave is an index into Plan.Waves, or their number for those in none, who come last.
	Wave int
	// NotBefore is when its run may start, in whole seconds. Zero means at once.
	NotBefore time.Time
	// Outcome, if it was decided when the plan was sealed. Such a tenant gets no TenantJob.
	Outcome Outcome
}

// Request is what a plan is made from.
type Request struct {
	FanOut *v1alpha1.TenantFanOut
	// Template that spec.templateRef names. Nil when there is none.
	Template *v1alpha1.TenantJobTemplate
	// Tenants are all there are.
	Tenants []Tenant
	// Source is the ledger of the fan-out that retryOf names. Nil when it, its plan or its ledger is gone.
	Source *Ledger
	// Start is what spreadSeconds counts from. Zero means now.
	Start time.Time
	// Deadline is how late a tenant may be that has a time of its own. Beyond it the tenant is Expired. Zero means however
	// late.
	Deadline time.Duration
	// Invalid is why the parameters don't fit the template. With it every tenant ends as InvalidParameters, and none of
	// them gets a TenantJob for it. Empty when they fit.
	Invalid string
}

// SealError is why there can be no plan yet: the reason and message of Planned=False.
type SealError struct {
	Reason, Message string
	// Passing says that nobody has to do anything about it.
	Passing bool
}

// Error is the message.
func (e *SealError) Error() string { return e.Message }

// Seal makes the plan of a fan-out. The error is always a SealError.
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
			c.entry.Outcome = tidy(c.entry.Outcome)
		}
		p.Entries = append(p.Entries, c.entry)
	}
	return p, nil
}

// Find returns the index of a tenant's entry.
func (p *Plan) Find(tenant string) (int, bool) {
	return slices.BinarySearchFunc(p.Entries, tenant, func(e Entry, name string) int { return strings.Compare(e.Tenant, name) })
}

// waveName names a wave as the status does: empty for those who are in none.
func (p *Plan) waveName(wave int) string {
	if wave < len(p.Waves) {
		return p.Waves[wave]
	}
	return ""
}

// templateUsable refuses a template that can't run: the plan would keep it as it is, and no edit could reach it.
func templateUsable(r Request) error {
	name := r.FanOut.Spec.TemplateRef.Name
	if r.Template == nil {
		return &SealError{Reason: v1alpha1.ReasonTemplateNotFound, Message: "there is no TenantJobTemplate " + name + ": create it"}
	}
	ready := meta.FindStatusCondition(r.Template.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready == nil, ready.ObservedGeneration != r.Template.Generation, ready.Status == metav1.ConditionUnknown:
		return &SealError{v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate " + name + " is being checked", true}
	case ready.Status != metav1.ConditionTrue:
		return &SealError{v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate " + name + " can't run: " + ready.Message, false}
	}
	return nil
}

// due is when a tenant's run may start. Zero means at once.
func due(c candidate, start time.Time, spreadSeconds int32) time.Time {
	if c.notBefore.IsZero() && spreadSeconds == 0 {
		return time.Time{}
	}
	at := cmp.Or(c.notBefore, start).Add(placeInWindow(c.entry, spreadSeconds))
	return at.UTC().Truncate(time.Second)
}

func spreadSeconds(fanOut *v1alpha1.TenantFanOut) int32 {
	if fanOut.Spec.SpreadSeconds == nil {
		return 0
	}
	return max(0, *fanOut.Spec.SpreadSeconds)
}
