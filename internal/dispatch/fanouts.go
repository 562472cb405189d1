package dispatch

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

// fanOuts are what is known of the fan-outs under way, and of their children.
type fanOuts struct {
	fanOutsByName map[string]*fanOutState
	// waiting are the children that wait, by fan-out.
	waiting map[string]map[types.UID]child
}

// fanOutState is what is known of a fan-out under way.
type fanOutState struct {
	fanOut *v1alpha1.TenantFanOut
	// template is the sealed one, which every child runs.
	template *v1alpha1.TenantJobTemplate
	// ledger is what is known, with the outcomes that came since; stored is what of it is stored.
	ledger, stored *fanout.Ledger
	// recorded are the outcomes that the ledger that SetFanOut gave last did not have.
	recorded map[int]recordedOutcome
	end      string
	gate     fanout.Gate
	// allowed is what the queue was told.
	allowed fanout.Allowance
}

// recordedOutcome is what came of a child, and when that was reported.
type recordedOutcome struct {
	fanout.Outcome
	at time.Time
}

// child is a fan-out's TenantJob that waits.
type child struct {
	key types.NamespacedName
	// held is what else it waits for, as a message.
	held string
}

// ChildOutcome is what came of a fan-out's child.
type ChildOutcome struct {
	FanOut string
	// UID of the fan-out.
	UID types.UID
	// TenantJob is the UID of the child.
	TenantJob types.UID
	Tenant    string
	Outcome   fanout.Outcome
}

func newFanOuts() fanOuts {
	return fanOuts{fanOutsByName: map[string]*fanOutState{}, waiting: map[string]map[types.UID]child{}}
}

// fanOut is what is known of one by its name. Nil means nothing.
func (f *fanOuts) fanOut(name string) *fanOutState { return f.fanOutsByName[name] }

// child is what a fan-out says of a TenantJob that is its child, or claims to be, and the template that the child runs. Both are
// nil for any other TenantJob, and while nothing is known of the fan-out.
func (f *fanOuts) child(tj *v1alpha1.TenantJob) (*job.FanOut, *v1alpha1.TenantJobTemplate) {
	state := f.fanOutsByName[tj.Name] // A child has the name of its fan-out.
	if state == nil {
		return nil, nil
	}
	tenant, plan := tj.Spec.TenantRef.Name, state.ledger.Plan()
	owner := job.FanOutOf(tj)
	owned := owner != nil && owner.UID == state.fanOut.UID
	i, planned := plan.Find(tenant)
	says := &job.FanOut{Name: tj.Name, UID: state.fanOut.UID, Status: metav1.ConditionFalse}
	switch {
	case !owned && !(planned && state.ledger.Knows(i, tj.UID)):
		return nil, nil
	case !planned:
		says.Reason, says.Skipped, says.Message = v1alpha1.ReasonCancelled, true, notPlanned(tj.Name, tenant)
		return says, state.template
	case !state.ledger.IsChild(i, tj.UID):
		says.Reason, says.Message = v1alpha1.ReasonDeleted, notTheChild(tj.Name)
		return says, state.template
	}
	end := state.gate.End(i)
	return &job.FanOut{
		Name: tj.Name, UID: state.fanOut.UID, Status: end.Status(), Reason: end.Reason, Message: end.Message, Skipped: end.Counter == fanout.Skipped,
		Paused:   state.allowed.Held != "" || plan.Entries[i].Wave > state.allowed.OpenWave,
		Disowned: !owned, Changed: plan.ChangeOf(state.fanOut, i, tj),
		Recorded: state.stored.Outcome(i).Decided(),
	}, state.template
}

func notTheChild(fanOut string) string {
	return fmt.Sprintf("it is not the TenantJob that fan-out %s has created, which was deleted: create one without an owner reference", fanOut)
}

func notPlanned(fanOut, tenant string) string {
	return fmt.Sprintf("tenant %s is not in the plan of fan-out %s", tenant, fanOut)
}

// addChild adds a TenantJob to the children that wait, if it is one.
func (f *fanOuts) addChild(j holder) {
	if j.FanOut == "" {
		return
	}
	if f.waiting[j.FanOut] == nil {
		f.waiting[j.FanOut] = map[types.UID]child{}
	}
	if _, known := f.waiting[j.FanOut][j.UID]; !known {
		f.waiting[j.FanOut][j.UID] = child{key: j.NamespacedName}
	}
}

// removeChild removes a TenantJob from the children that wait.
func (f *fanOuts) removeChild(uid types.UID) {
	for name, children := range f.waiting {
		if _, there := children[uid]; there {
			if delete(children, uid); len(children) == 0 {
				delete(f.waiting, name)
			}
			return
		}
	}
}

// SetFanOut tells what a fan-out allows its children by now: after each decision about it whose ledger is stored. None of
// its children start before the first call. It keeps all that it is given, and changes nothing of it.
func (d *Dispatcher) SetFanOut(fanOut *v1alpha1.TenantFanOut, ledger, stored *fanout.Ledger, end string) {
	defer d.lock()()
	f := d.fanOut(fanOut.Name)
	if f == nil || f.fanOut.UID != fanOut.UID {
		f = &fanOutState{template: sealedTemplate(fanOut, ledger.Plan()), recorded: map[int]recordedOutcome{}}
		d.fanOutsByName[fanOut.Name] = f
	}
	f.fanOut, f.ledger, f.stored, f.end = fanOut, ledger.Clone(), stored, end
	for i, o := range f.recorded {
		if !f.ledger.Record(i, o.Outcome) {
			delete(f.recorded, i)
		}
	}
	d.updateFanOut(f)
	for uid, c := range d.waiting[fanOut.Name] {
		j, waits := d.state.Job(uid)
		if !waits {
			d.requestFirst(c.key) // It could not say what it needs before its template was known.
			continue
		}
		before := j
		if end := d.applyFanOut(&j, c.held); end != nil {
			d.requestFirst(c.key)
		} else if j != before {
			d.state.Put(j)
		}
	}
	d.admit()
}

// RemoveFanOut says that a fan-out is complete or gone: none of its children start any more.
func (d *Dispatcher) RemoveFanOut(name string) {
	defer d.lock()()
	if d.fanOut(name) == nil {
		return
	}
	delete(d.fanOutsByName, name)
	d.state.RemoveFanOut(name)
	d.revokeAdmissions()
	for _, c := range d.waiting[name] {
		d.requestFirst(c.key)
	}
	d.admit()
}

// sealedTemplate is the template as the plan has it, under the name that it had.
func sealedTemplate(fanOut *v1alpha1.TenantFanOut, plan *fanout.Plan) *v1alpha1.TenantJobTemplate {
	return &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: fanOut.Spec.TemplateRef.Name, Generation: plan.TemplateGeneration},
		Spec:       plan.Template,
		Status: v1alpha1.TenantJobTemplateStatus{Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, ObservedGeneration: plan.TemplateGeneration,
		}}},
	}
}

// recordOutcome records the outcome of a child before its slot goes to another, so that the one that spends the budget is
// the last to start.
func (d *Dispatcher) recordOutcome(c ChildOutcome) {
	f := d.fanOut(c.FanOut)
	if f == nil || f.fanOut.UID != c.UID {
		return
	}
	if i, planned := f.ledger.Plan().Find(c.Tenant); planned && f.ledger.IsChild(i, c.TenantJob) && f.ledger.Record(i, c.Outcome) {
		f.recorded[i] = recordedOutcome{c.Outcome, d.clock.Now()}
		d.updateFanOut(f)
	}
}

// Unrecorded returns the outcomes of a fan-out's children, by the index in the plan, that were reported at or before a time and
// that the ledger did not have when SetFanOut was called last: the API server refuses to write them into the children's statuses.
// Next is when the first of the others was reported. Zero means that there are no others.
func (d *Dispatcher) Unrecorded(name string, until time.Time) (outcomes map[int]fanout.Outcome, next time.Time) {
	defer d.lock()()
	f := d.fanOut(name)
	if f == nil {
		return nil, time.Time{}
	}
	outcomes = map[int]fanout.Outcome{}
	for i, o := range f.recorded {
		switch {
		case !o.at.After(until):
			outcomes[i] = o.Outcome
		case next.IsZero() || o.at.Before(next):
			next = o.at
		}
	}
	return outcomes, next
}

// updateFanOut tells the queue what a fan-out allows.
func (d *Dispatcher) updateFanOut(f *fanOutState) {
	f.gate = fanout.NewGate(f.fanOut, f.ledger, f.stored, f.end)
	allowed := f.gate.Allowance()
	d.state.SetFanOut(queue.FanOut{
		Name: f.fanOut.Name, MaxConcurrent: int32(allowed.MaxConcurrent), OpenWave: allowed.OpenWave, Held: allowed.Held,
	})
	if allowed != f.allowed {
		d.log.V(2).Info("Fan-out allows", "tenantFanOut", klog.KObj(f.fanOut),
			"openWave", allowed.OpenWave, "maxConcurrent", allowed.MaxConcurrent, "held", allowed.Held)
		f.allowed = allowed
		d.revokeAdmissions()
	}
}

// applyFanOut completes what is known of a TenantJob that waits, if it is a child, by its fan-out: its wave, and what the
// fan-out's ledger holds it with unless it is held already. It returns the end of one that is not to start any more.
func (d *Dispatcher) applyFanOut(j *queue.Job, held string) *End {
	if j.FanOut == "" {
		j.Held = held
		return nil
	}
	d.addChild(holderOf(*j))
	c := d.waiting[j.FanOut][j.UID]
	c.held = held
	d.waiting[j.FanOut][j.UID] = c
	f := d.fanOut(j.FanOut)
	if f == nil {
		j.Held = fmt.Sprintf("fan-out %s has not been read yet", j.FanOut)
		return nil
	}
	i, planned := f.ledger.Plan().Find(j.Tenant)
	if !planned {
		return &End{v1alpha1.ReasonCancelled, notPlanned(j.FanOut, j.Tenant)}
	}
	if end := f.gate.End(i); end.Decided() {
		return &End{end.Reason, end.Message}
	}
	if !f.ledger.IsChild(i, j.UID) {
		return &End{v1alpha1.ReasonDeleted, notTheChild(j.FanOut)}
	}
	j.Wave = f.ledger.Plan().Entries[i].Wave
	if j.Held = held; held == "" && !f.gate.Written(i, j.UID) {
		j.Held = fmt.Sprintf("the ledger of fan-out %s does not have it yet", j.FanOut)
	}
	return nil
}
