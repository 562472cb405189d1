package dispatch

import (
	"fmt"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

// tenants are what keeps all TenantJobs of a tenant from starting.
type tenants struct {
	// limits are what Tenants allow, by name.
	limits map[string]queue.Tenant
	// namespaces are those of the tenants that have one, by the name of the Tenant.
	namespaces map[string]v1alpha1.TenantNamespaceStatus
	// namespaceUID returns the UID of a namespace, and jobsIn the Jobs in one, as the caches have them: empty for none.
	namespaceUID func(name string) types.UID
	jobsIn       func(namespace string) []*batchv1.Job
	// locked are the tenants that start nothing. idle tells when a start under way has finished.
	locked         map[string]bool
	startsUnderWay map[string]int
	idle           *sync.Cond
	backOffs
	// generations are those of the Tenants that their namespaces show.
	generations map[string]int64
}

func newTenants(mu *sync.Mutex, c clock.Clock) tenants {
	return tenants{
		limits: map[string]queue.Tenant{}, namespaces: map[string]v1alpha1.TenantNamespaceStatus{}, locked: map[string]bool{}, startsUnderWay: map[string]int{}, idle: sync.NewCond(mu),
		namespaceUID: func(string) types.UID { return "" }, jobsIn: func(string) []*batchv1.Job { return nil },
		backOffs: newBackOffs(c), generations: map[string]int64{},
	}
}

// startFinished counts a start that is no longer under way.
func (t *tenants) startFinished(tenant string) {
	if t.startsUnderWay[tenant]--; t.startsUnderWay[tenant] == 0 {
		delete(t.startsUnderWay, tenant)
	}
	t.idle.Broadcast()
}

// LockTenant keeps a tenant from starting anything, and waits for its starts under way: when it returns, whoever lists the
// tenant's Jobs finds all there will be until UnlockTenant.
func (d *Dispatcher) LockTenant(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.locked[tenant] {
		d.log.V(2).Info("Locked", "tenant", klog.KRef("", tenant))
		d.locked[tenant] = true
		d.setTenant(d.limits[tenant])
	}
	for d.startsUnderWay[tenant] > 0 {
		d.idle.Wait()
	}
}

// UnlockTenant lets a tenant start again.
func (d *Dispatcher) UnlockTenant(tenant string) {
	defer d.lock()()
	if d.locked[tenant] {
		d.log.V(2).Info("Unlocked", "tenant", klog.KRef("", tenant))
		delete(d.locked, tenant)
		d.setTenant(d.limits[tenant])
		d.admit()
	}
}

// setTenant tells the queue what a tenant allows, and whether it is locked.
func (d *Dispatcher) setTenant(to queue.Tenant) {
	if to.Name == "" {
		return // The Tenant has not been seen, or is gone.
	}
	if d.locked[to.Name] {
		to.Held = fmt.Sprintf("tenant %s is suspended", to.Name)
	}
	d.state.SetTenant(to)
	if to.Held != "" {
		d.revokeAdmissions()
	}
}
