package dispatch

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
)

// How a leader is elected. These are the defaults of controller-runtime, spelt out since WriteTimeout goes by them.
const (
	LeaseDuration = 15 * time.Second
	RenewDeadline = 10 * time.Second
	RetryPeriod   = 2 * time.Second
	// leaseMargin is for two clocks that do not run equally fast.
	leaseMargin = time.Second
)

// Lease is the lock that leaders are elected with. It remembers when it was last renewed: leader election itself tells a
// process that was stopped for a while, and wakes up with its lease gone, only when it has tried to renew it in vain for
// RenewDeadline.
type Lease struct {
	resourcelock.Interface
	clock clock.PassiveClock
	start time.Time
	// heldUntil is for how long after start nobody else can have the lease.
	heldUntil atomic.Int64
	// othersRenewal is when another process last renewed or released it, as far as this one has seen.
	othersRenewal atomic.Pointer[time.Time]
}

// NewLease returns the lock of a manager. The config stays as it is.
func NewLease(config *rest.Config, namespace, name string) (*Lease, error) {
	config = rest.AddUserAgent(rest.CopyConfig(config), "leader-election")
	// One request that hangs must not cost the lease. A watch, with this timeout, would end every few seconds.
	config.Timeout = RenewDeadline / 2
	c, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client for leases: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("finding the host's name: %w", err)
	}
	return newLease(&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:     c,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}, clock.RealClock{}), nil
}

func newLease(lock resourcelock.Interface, c clock.PassiveClock) *Lease {
	return &Lease{Interface: lock, clock: c, start: c.Now()}
}

// Get implements resourcelock.Interface. Once another process holds the lease, this one does not lead, whatever its clock says: a
// clock that stood still while the machine was paused would say that it does.
func (l *Lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err == nil && record.HolderIdentity != l.Identity() {
		l.heldUntil.Store(0)
		l.othersRenewal.Store(&record.RenewTime.Time)
	}
	return record, raw, err
}

// OthersRenewal is when another process last renewed or released the lease, by that process's clock. Zero means that this process
// knows of no other.
func (l *Lease) OthersRenewal() time.Time {
	if at := l.othersRenewal.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Create implements resourcelock.Interface.
func (l *Lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.remember(record, func() error { return l.Interface.Create(ctx, record) })
}

// Update implements resourcelock.Interface.
func (l *Lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.remember(record, func() error { return l.Interface.Update(ctx, record) })
}

// remember keeps for how long the lease is held after a write of it. Others count from when they see it, which is later.
func (l *Lease) remember(record resourcelock.LeaderElectionRecord, write func() error) error {
	began := l.clock.Since(l.start)
	err := write()
	if err == nil && record.HolderIdentity == l.Identity() {
		l.heldUntil.Store(int64(began + LeaseDuration))
	} else if err == nil {
		l.heldUntil.Store(0)
	}
	return err
}

// Leads says whether this process will still have its lease when a write that begins now has ended or been given up.
func (l *Lease) Leads() bool {
	return l.clock.Since(l.start)+WriteTimeout+leaseMargin < time.Duration(l.heldUntil.Load())
}
