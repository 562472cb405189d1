package fanouts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// FlushInterval is how often a ledger is stored on average, FlushBurst how many times without waiting, so that a small
	// fan-out starts at once.
	FlushInterval = 2 * time.Second
	FlushBurst    = 5
	// manyMade is how many children that were made are worth a write at any time, lastMade how many are when there are no
	// others to make for now.
	manyMade, lastMade = 500, 100
	// trustMade is how long the API server's word that a child is there stands, until the cache has it.
	trustMade = 5 * time.Second
	// staleAfter is when to look again after another leader was found to be at work, or a cache to be behind.
	staleAfter = 50 * time.Millisecond
)

// errStale says that what is in hand is not what is stored.
var errStale = errors.New("the stored ledger is another")

// inHand is what a controller remembers of a fan-out that is not complete. All of it can be read again.
type inHand struct {
	uid  types.UID
	plan *fanout.Plan
	// ledger is the stored one and version its resourceVersion, empty until it is first stored.
	ledger  atomic.Pointer[fanout.Ledger]
	version string
	pace    pace
	width   width

	mu sync.Mutex
	// answers of the API server about children that the cache does not have, by tenant.
	answers map[string]answer
	// tenants as the API server has them, in this turn.
	tenants map[string]*v1alpha1.Tenant
	// putOff are the tenants whose child the API server would not take when it was last asked.
	putOff map[string]putOff
}

// putOff says why a child can't be made for now, and when to try again.
type putOff struct {
	why string
	at  time.Time
}

// answer is what the API server has said of a child, and when.
type answer struct {
	child fanout.Child
	at    time.Time
}

// newTurn forgets what is only good for one turn.
func (h *inHand) newTurn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.tenants)
}

func (h *inHand) noteChild(tenant string, child fanout.Child, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[tenant] = answer{child, now}
	delete(h.putOff, tenant)
}

func (h *inHand) noteTenant(t *v1alpha1.Tenant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tenants[t.Name] = t
}

func (h *inHand) notePutOff(tenant, why string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.putOff[tenant] = putOff{why, at}
}

// nextLook is when the first of what is remembered has to be looked at again. Zero means never.
func (h *inHand) nextLook(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var t turn
	for _, a := range h.answers {
		t.wakeAt(a.at.Add(trustMade))
	}
	for _, p := range h.putOff {
		if p.at.After(now) {
			t.wakeAt(p.at)
		}
	}
	return t.wake
}

// isStored notes what is stored now. Answers from before may be to what another leader has done since, but for those that
// a child is there: who deletes it now is noticed a moment later.
func (h *inHand) isStored(ledger *fanout.Ledger, version string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ledger.Store(ledger)
	h.version = version
	maps.DeleteFunc(h.answers, func(_ string, a answer) bool { return a.child.Presence != fanout.Ours })
}

// store writes the ledger down if it has changed and it is time. It says whether it did. Whoever stored another one since
// this was read is the leader now: what is in hand is forgotten then.
func (r *Reconciler) store(
	ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand, d fanout.Decision, now time.Time,
) (bool, error) {
	first := h.version == ""
	if !first && (!d.Changed || !h.pace.take(now) && !d.Urgent && !isWorthAWrite(h.ledger.Load(), d)) {
		return false, nil
	}
	cm := d.Ledger.ConfigMap(fanOut, r.OperatorNamespace)
	var err error
	if first {
		err = r.Create(ctx, cm, client.FieldOwner(kube.FieldManager))
	} else {
		cm.ResourceVersion = h.version
		err = r.Update(ctx, cm, client.FieldOwner(kube.FieldManager))
	}
	if err != nil {
		// Without an answer it may be stored all the same.
		r.known.drop(fanOut.Name)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
			return false, errStale
		}
		return false, fmt.Errorf("storing the ledger of fan-out %s: %w", fanOut.Name, err)
	}
	h.isStored(d.Ledger, cm.ResourceVersion)
	return true, nil
}

// isWorthAWrite says whether the stored ledger lacks so many children that it is stored at once: none of them starts before
// it has them. Few are enough when nothing else is going on.
func isWorthAWrite(stored *fanout.Ledger, d fanout.Decision) bool {
	enough := manyMade
	if len(d.Create)+len(d.Announced) == 0 {
		enough = lastMade
	}
	return d.Ledger.Seen() >= stored.Seen()+enough
}

// confirm makes sure that the ledger in hand is still the stored one.
func (r *Reconciler) confirm(ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand) error {
	stored := &metav1.PartialObjectMetadata{}
	stored.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	key := types.NamespacedName{Namespace: r.OperatorNamespace, Name: fanout.LedgerName(fanOut.UID)}
	stored, err := kube.Find(ctx, r.Live, key, stored)
	if err != nil {
		return err
	}
	if stored == nil || stored.ResourceVersion != h.version {
		r.known.drop(fanOut.Name)
		return errStale
	}
	return nil
}

// pace lets a ledger be stored every FlushInterval on average.
type pace struct {
	// spent is how much of the burst is spent, at a time.
	spent float64
	at    time.Time
}

// take says whether it may be stored now, and counts it if so.
func (p *pace) take(now time.Time) bool {
	p.refill(now)
	if p.spent > FlushBurst-1 {
		return false
	}
	p.spent++
	return true
}

// next is when it may be stored again.
func (p *pace) next(now time.Time) time.Time {
	p.refill(now)
	return now.Add(time.Duration(max(0, p.spent-(FlushBurst-1)) * float64(FlushInterval)))
}

func (p *pace) refill(now time.Time) {
	if elapsed := now.Sub(p.at); elapsed > 0 {
		p.spent = max(0, p.spent-float64(elapsed)/float64(FlushInterval))
	}
	p.at = now
}

// fanOutsInHand are those that are not complete, by name.
type fanOutsInHand struct {
	mu     sync.Mutex
	byName map[string]*inHand
}

// get returns what is in hand of this very fan-out.
func (f *fanOutsInHand) get(fanOut *v1alpha1.TenantFanOut) *inHand {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.byName[fanOut.Name]; h != nil && h.uid == fanOut.UID {
		return h
	}
	return nil
}

func (f *fanOutsInHand) put(name string, h *inHand) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName == nil {
		f.byName = map[string]*inHand{}
	}
	f.byName[name] = h
}

func (f *fanOutsInHand) drop(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.byName, name)
}

// has says whether the fan-out with this name and UID is in hand.
func (f *fanOutsInHand) has(name string, uid types.UID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.byName[name]
	return h != nil && h.uid == uid
}

// size is how many tenants are planned.
func (f *fanOutsInHand) size(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.byName[name]; h != nil {
		return len(h.plan.Entries)
	}
	return 0
}

// waitingFor returns those in which a tenant is planned and has no outcome yet.
func (f *fanOutsInHand) waitingFor(tenant string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name, h := range f.byName {
		if i, planned := h.plan.Find(tenant); planned && !h.ledger.Load().Outcome(i).Decided() {
			names = append(names, name)
		}
	}
	return names
}
