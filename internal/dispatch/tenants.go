package dispatch

import (
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

const (
	// firstBackoff and lastBackoff are after how long a tenant starts again after one of its starts failed: the first time, and
	// at most.
	firstBackoff = 2 * time.Second
	lastBackoff  = 5 * time.Minute
	// tenantsUnanswered is how many tenants' starts get no answer, with no start that succeeds in between, when the API server is
	// in trouble and not the tenants: then none waits for longer than firstBackoff.
	tenantsUnanswered = 3
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
	// failures are of the tenants whose last start failed, and backoff how long each of them waits. Unanswered are those whose
	// starts got no answer since the last start that succeeded, whichever tenant's that was.
	failures   map[string]failure
	backoff    *flowcontrol.Backoff
	unanswered map[string]struct{}
	// generations are those of the Tenants that their namespaces show.
	generations map[string]int64
}

// failure is why a tenant's last start failed, and until when it starts nothing. After that one start at a time shows whether it
// can start again: a start that hangs keeps a worker from the starts of others.
type failure struct {
	why   string
	until time.Time
}

func newTenants(mu *sync.Mutex, c clock.Clock) tenants {
	backoff := flowcontrol.NewBackOff(firstBackoff, lastBackoff)
	backoff.Clock = c
	backoff.HasExpiredFunc = func(time.Time, time.Time, time.Duration) bool { return false } // only a start that succeeds ends it
	return tenants{
		limits: map[string]queue.Tenant{}, namespaces: map[string]v1alpha1.TenantNamespaceStatus{}, locked: map[string]bool{}, startsUnderWay: map[string]int{}, idle: sync.NewCond(mu),
		namespaceUID: func(string) types.UID { return "" }, jobsIn: func(string) []*batchv1.Job { return nil },
		failures: map[string]failure{}, backoff: backoff, unanswered: map[string]struct{}{}, generations: map[string]int64{},
	}
}

// startFinished counts a start that is no longer under way.
func (t *tenants) startFinished(tenant string) {
	if t.startsUnderWay[tenant]--; t.startsUnderWay[tenant] == 0 {
		delete(t.startsUnderWay, tenant)
	}
	t.idle.Broadcast()
}

// serverInTrouble says whether it is the API server that does not answer starts, and not their tenants that are to blame.
func (t *tenants) serverInTrouble() bool { return len(t.unanswered) >= tenantsUnanswered }

// forget forgets that starts of a tenant failed.
func (t *tenants) forget(tenant string) {
	delete(t.failures, tenant)
	t.backoff.DeleteEntry(tenant)
}

// forgive ends the back-off of a tenant, since a start has succeeded.
func (d *Dispatcher) forgive(tenant string) {
	clear(d.unanswered)
	if _, failed := d.failures[tenant]; failed {
		d.forget(tenant)
		d.state.BackOff(tenant, d.clock.Now(), "")
	}
}

// retry lets a tenant whose starts failed try again at once, and soon again if that fails, because there may be room now.
func (d *Dispatcher) retry(tenant string) {
	if f, failed := d.failures[tenant]; failed {
		d.backoff.DeleteEntry(tenant)
		d.failures[tenant] = failure{f.why, d.clock.Now()}
		d.endTrial(tenant)
	}
}

// beginTrial holds the other TenantJobs of a tenant whose last start failed, until it is known what comes of the start that was
// just admitted.
func (d *Dispatcher) beginTrial(tenant string) {
	if f, failed := d.failures[tenant]; failed {
		d.state.BackOff(tenant, d.clock.Now().Add(admissionLasts+WriteTimeout), f.why)
	}
}

// endTrial lets a tenant whose last start failed try the next, after its back-off.
func (d *Dispatcher) endTrial(tenant string) {
	if f, failed := d.failures[tenant]; failed {
		d.state.BackOff(tenant, f.until, f.why)
	}
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

// backOff keeps a tenant from starting for a while after a start that failed, the longer the more often in a row that happened.
// What of it is admitted is revoked.
func (d *Dispatcher) backOff(tenant, why string) {
	now := d.clock.Now()
	switch {
	case d.serverInTrouble():
		d.failures[tenant] = failure{why, now.Add(firstBackoff)}
	case now.Before(d.failures[tenant].until): // Another start that was under way failed a moment ago.
	default:
		d.backoff.Next(tenant, now)
		d.failures[tenant] = failure{why, now.Add(d.backoff.Get(tenant))}
	}
	d.endTrial(tenant)
	for uid := range d.admitted {
		if s := d.slot(uid); s.job.Tenant == tenant {
			d.revokeAdmission(uid)
		}
	}
}
