package fanouts

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

// liveChildTTL is how long an answer of the API server about a child is used while the cache does not have the child.
const liveChildTTL = 5 * time.Second

// activeFanOut is what the controller remembers of a fan-out that is not complete. All of it can be read again from the API
// server.
type activeFanOut struct {
	plan *fanout.Plan
	// ledger is the stored ledger. Watches read it while a reconcile replaces it.
	ledger atomic.Pointer[fanout.Ledger]
	// ledgerVersion is the resourceVersion of the stored ledger. It is empty until the ledger is first stored.
	ledgerVersion string
	writes        writeLimiter
	requests      slowStart

	mu sync.Mutex
	// liveChildren are the API server's answers about children that the cache does not have, by tenant.
	liveChildren map[string]liveChild
	// liveTenants are the Tenants that this reconcile has read from the API server, by name.
	liveTenants map[string]*v1alpha1.Tenant
	// delayed are the tenants whose child the API server does not accept for now.
	delayed map[string]*delay
	// failing are the tenants whose creations have failed, for reasons that may concern others as well, since the last one
	// that succeeded.
	failing map[string]bool
	// inFlight are the tenants whose child is being created. Some requests outlast the pass that has sent them.
	inFlight map[string]bool
	// slots limits how many requests are in flight.
	slots chan struct{}
}

// liveChild is what the API server has answered about a child, and when.
type liveChild struct {
	child  fanout.Child
	readAt time.Time
}

func newActiveFanOut(plan *fanout.Plan, ledger *fanout.Ledger, ledgerVersion string) *activeFanOut {
	a := &activeFanOut{
		plan: plan, ledgerVersion: ledgerVersion, writes: newWriteLimiter(),
		liveChildren: map[string]liveChild{}, liveTenants: map[string]*v1alpha1.Tenant{}, delayed: map[string]*delay{},
		failing: map[string]bool{}, inFlight: map[string]bool{}, slots: make(chan struct{}, maxParallel),
	}
	a.ledger.Store(ledger)
	return a
}

// setStored remembers the ledger that was just stored. Answers about children that are not there are forgotten: another
// leader may have created the child since. An answer that a child is there is kept: if somebody deletes the child now, the
// watch reports it.
func (a *activeFanOut) setStored(ledger *fanout.Ledger, version string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger.Store(ledger)
	a.ledgerVersion = version
	maps.DeleteFunc(a.liveChildren, func(_ string, c liveChild) bool { return c.child.Presence != fanout.Ours })
}

func (a *activeFanOut) setChild(tenant string, child fanout.Child, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.liveChildren[tenant] = liveChild{child, now}
	delete(a.delayed, tenant)
}

// addLiveChildren adds the children that only the API server has to those from the cache. It forgets the answers that are
// too old, and those about children that the cache has by now.
func (a *activeFanOut) addLiveChildren(cached map[string]fanout.Child, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for tenant, c := range a.liveChildren {
		if _, isCached := cached[tenant]; isCached || now.Sub(c.readAt) >= liveChildTTL {
			delete(a.liveChildren, tenant)
		} else {
			cached[tenant] = c.child
		}
	}
}

func (a *activeFanOut) setTenant(t *v1alpha1.Tenant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.liveTenants[t.Name] = t
}

func (a *activeFanOut) tenants() map[string]*v1alpha1.Tenant {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.liveTenants)
}

// forgetTenants lets the next reconcile read Tenants from the cache again.
func (a *activeFanOut) forgetTenants() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.liveTenants)
}

// requeueAt is when the first answer about a child gets too old, or the first delay ends. Zero means never.
func (a *activeFanOut) requeueAt(now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	var first time.Time
	for _, c := range a.liveChildren {
		first = earlier(first, c.readAt.Add(liveChildTTL))
	}
	for _, d := range a.delayed {
		if d.retryAt.After(now) {
			first = earlier(first, d.retryAt)
		}
	}
	if len(a.inFlight) > 0 {
		first = earlier(first, now.Add(lookAfter))
	}
	return first
}

// earlier returns the earlier of two times. Zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// activeFanOuts holds the fan-outs that are not complete, by name.
type activeFanOuts struct {
	mu     sync.Mutex
	byName map[string]*activeFanOut
}

// get returns the fan-out with this name and UID, or nil.
func (f *activeFanOuts) get(name string, uid types.UID) *activeFanOut {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.byName[name]; a != nil && a.plan.FanOut == uid {
		return a
	}
	return nil
}

func (f *activeFanOuts) set(name string, a *activeFanOut) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName == nil {
		f.byName = map[string]*activeFanOut{}
	}
	f.byName[name] = a
}

func (f *activeFanOuts) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byName, name)
}

// has says whether a TenantJob is a child of a fan-out: by its owner reference, or because the ledger knows it. Parent and child
// have the same name.
func (f *activeFanOuts) has(tj *v1alpha1.TenantJob) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.byName[tj.Name]
	if a == nil {
		return false
	}
	i, isPlanned := a.plan.Find(tj.Spec.TenantRef.Name)
	return kube.ControllerUID(tj, "TenantFanOut") == a.plan.FanOut || isPlanned && a.ledger.Load().Knows(i, tj.UID)
}

// planned is how many tenants are planned in the fan-out with this name.
func (f *activeFanOuts) planned(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.byName[name]; a != nil {
		return len(a.plan.Entries)
	}
	return 0
}

// undecidedFor returns the names of the fan-outs in which a tenant is planned and has no outcome yet.
func (f *activeFanOuts) undecidedFor(tenant string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name, a := range f.byName {
		if i, isPlanned := a.plan.Find(tenant); isPlanned && !a.ledger.Load().Outcome(i).Decided() {
			names = append(names, name)
		}
	}
	return names
}
