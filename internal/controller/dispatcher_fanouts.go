package controller

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

// openFanOut is what the dispatcher knows of a fan-out that is under way.
type openFanOut struct {
	fanOut *v1alpha1.TenantFanOut
	// template is the sealed one, which every child runs.
	template *v1alpha1.TenantJobTemplate
	// ledger is what is known, with the outcomes that came since; stored is what of it is written down.
	ledger, stored *fanout.Ledger
	// news are the outcomes that the ledger that was last given did not have.
	news map[int]fanout.Outcome
	end  string
	gate fanout.Gate
	// allowed is what the queue was told.
	allowed fanout.Allowance
}

// child is a fan-out's TenantJob that waits.
type child struct {
	key types.NamespacedName
	// held is what else it waits for, in words.
	held string
}

// ChildOutcome is what came of a fan-out's child.
type ChildOutcome struct {
	FanOut  string
	UID     types.UID
	Tenant  string
	Outcome fanout.Outcome
}

// OpenFanOut tells what a fan-out allows its children by now: after each decision about it whose ledger is stored. None
// of its children start before the first call. It keeps all that it is given, and changes nothing of it.
func (d *Dispatcher) OpenFanOut(fanOut *v1alpha1.TenantFanOut, ledger, stored *fanout.Ledger, end string) {
	defer d.lock()()
	f := d.fanOuts[fanOut.Name]
	if f == nil || f.fanOut.UID != fanOut.UID {
		f = &openFanOut{template: sealedTemplate(fanOut, ledger.Plan()), news: map[int]fanout.Outcome{}}
		d.fanOuts[fanOut.Name] = f
	}
	f.fanOut, f.ledger, f.stored, f.end = fanOut, ledger.Clone(), stored, end
	for i, o := range f.news {
		if !f.ledger.Record(i, o) {
			delete(f.news, i)
		}
	}
	d.showFanOut(f)
	for uid, c := range d.children[fanOut.Name] {
		j, waits := d.state.Job(uid)
		if !waits {
			d.call(c.key) // It could not say what it needs before its template was known.
			continue
		}
		before := j
		if end := d.join(&j, c.held); end != nil {
			d.call(c.key)
		} else if j != before {
			d.state.Put(j)
		}
	}
	d.dispatch()
}

// CloseFanOut says that a fan-out is complete or gone: none of its children start any more.
func (d *Dispatcher) CloseFanOut(name string) {
	defer d.lock()()
	if d.fanOuts[name] == nil {
		return
	}
	delete(d.fanOuts, name)
	d.state.RemoveFanOut(name)
	d.uncallAll()
	for _, c := range d.children[name] {
		d.call(c.key)
	}
	d.dispatch()
}

// Child is what a fan-out says of its child, and the template that the child runs. Both are nil while the fan-out is not
// open.
func (d *Dispatcher) Child(fanOut string, uid types.UID, tenant string) (*job.FanOut, *v1alpha1.TenantJobTemplate) {
	defer d.lock()()
	f := d.fanOuts[fanOut]
	if f == nil || f.fanOut.UID != uid {
		return nil, nil
	}
	i, planned := f.ledger.Plan().Find(tenant)
	if !planned {
		return &job.FanOut{
			Reason: v1alpha1.ReasonCancelled, Status: metav1.ConditionFalse, Skipped: true, Message: notPlanned(fanOut, tenant),
		}, f.template
	}
	end := f.gate.End(i)
	return &job.FanOut{
		Status: end.Status(), Reason: end.Reason, Message: end.Message, Skipped: end.Counter == fanout.Skipped,
		Recorded: f.stored.Outcome(i).Decided(),
	}, f.template
}

func notPlanned(fanOut, tenant string) string {
	return fmt.Sprintf("tenant %s is not in the plan of fan-out %s", tenant, fanOut)
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

// record an outcome of a child before its slot goes to another, so that the one that spends the budget is the last to start.
func (d *Dispatcher) record(c ChildOutcome) {
	f := d.fanOuts[c.FanOut]
	if f == nil || f.fanOut.UID != c.UID {
		return
	}
	if i, planned := f.ledger.Plan().Find(c.Tenant); planned && f.ledger.Record(i, c.Outcome) {
		f.news[i] = c.Outcome
		d.showFanOut(f)
	}
}

// showFanOut tells the queue what a fan-out allows.
func (d *Dispatcher) showFanOut(f *openFanOut) {
	f.gate = fanout.NewGate(f.fanOut, f.ledger, f.stored, f.end)
	allowed := f.gate.Allowance()
	d.state.SetFanOut(queue.FanOut{
		Name: f.fanOut.Name, MaxConcurrent: int32(allowed.MaxConcurrent), OpenWave: allowed.OpenWave, Held: allowed.Held,
	})
	if allowed != f.allowed {
		f.allowed = allowed
		d.uncallAll()
	}
}

// join puts a job that waits into its fan-out, if it has one: its wave, and what the fan-out's ledger holds it with unless
// it is held already. It returns the outcome with which it ends instead, if there is one.
func (d *Dispatcher) join(j *queue.Job, held string) *Verdict {
	if j.FanOut == "" {
		j.Held = held
		return nil
	}
	d.enlist(holderOf(*j))
	c := d.children[j.FanOut][j.UID]
	c.held = held
	d.children[j.FanOut][j.UID] = c
	f := d.fanOuts[j.FanOut]
	if f == nil {
		j.Held = fmt.Sprintf("fan-out %s has not been read yet", j.FanOut)
		return nil
	}
	i, planned := f.ledger.Plan().Find(j.Tenant)
	if !planned {
		return &Verdict{v1alpha1.ReasonCancelled, notPlanned(j.FanOut, j.Tenant)}
	}
	if end := f.gate.End(i); end.Decided() {
		return &Verdict{end.Reason, end.Message}
	}
	j.Wave = f.ledger.Plan().Entries[i].Wave
	if j.Held = held; held == "" && !f.gate.Written(i) {
		j.Held = fmt.Sprintf("fan-out %s is writing down that it was made", j.FanOut)
	}
	return nil
}

// enlist a child among those that wait.
func (d *Dispatcher) enlist(j holder) {
	if j.FanOut == "" {
		return
	}
	if d.children[j.FanOut] == nil {
		d.children[j.FanOut] = map[types.UID]child{}
	}
	if _, known := d.children[j.FanOut][j.UID]; !known {
		d.children[j.FanOut][j.UID] = child{key: j.NamespacedName}
	}
}

// leave says that a child waits no longer.
func (d *Dispatcher) leave(uid types.UID) {
	for name, children := range d.children {
		if _, there := children[uid]; there {
			if delete(children, uid); len(children) == 0 {
				delete(d.children, name)
			}
			return
		}
	}
}

// roundUp is a time of the API server, which has whole seconds, not earlier than it was.
func roundUp(t time.Time) time.Time { return t.Add(time.Second) }
