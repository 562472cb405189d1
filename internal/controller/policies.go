package controller

import (
	"context"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/enforcement"
	"github.com/tenantry/tenantry/internal/tenant"
)

// newEnforcer adds the Enforcer of the admission policies to the manager. The dispatcher starts nothing while they are not in force.
func newEnforcer(mgr manager.Manager, d *dispatch.Dispatcher, opts Options) (*enforcement.Enforcer, error) {
	set := opts.Policies
	if set == nil {
		own, err := enforcement.PoliciesFor(context.Background(), mgr.GetConfig(), opts.OperatorNamespace)
		if err != nil {
			return nil, err
		}
		set = &own
	}
	// The time is that of the API server that is asked, whatever the time is for schedules.
	enforcer := enforcement.New(mgr.GetLogger().WithName("enforcement"), clock.RealClock{}, *set, opts.ProbeInterval)
	hold := func(v enforcement.Verdict) {
		switch {
		case v.Open():
			d.HoldAll("")
		case v.Gap != "":
			d.HoldAll(v.Gap)
		default:
			d.HoldAll("the admission policies are being tried out")
		}
	}
	hold(enforcer.Verdict())
	enforcer.OnChange(func(_, after enforcement.Verdict) { hold(after) })
	return enforcer, enforcer.SetupWithManager(mgr, opts.OperatorNamespace)
}

// policies are what Tenants say of the admission policies.
type policies struct{ *enforcement.Enforcer }

// State is what is known.
func (p policies) State() tenant.Policies {
	v := p.Verdict()
	return tenant.Policies{Known: v.Known, Gap: v.Gap}
}

// OnChange has a function called when it becomes known that they are in force, or that they are not.
func (p policies) OnChange(f func()) {
	p.Enforcer.OnChange(func(before, after enforcement.Verdict) {
		if before.Open() != after.Open() || (before.Gap == "") != (after.Gap == "") {
			f()
		}
	})
}
