package controller

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/queue"
)

// Dispatcher decides which TenantJob starts next.
type Dispatcher struct{}

// NewDispatcher returns one that knows nothing yet.
func NewDispatcher() *Dispatcher { return &Dispatcher{} }

// OpenFanOut tells what a fan-out allows its children by now: after each decision about it whose ledger is stored. None
// of its children start before the first call. It keeps all that it is given, and changes nothing of it.
func (d *Dispatcher) OpenFanOut(fanOut *v1alpha1.TenantFanOut, ledger, stored *fanout.Ledger, end string) {
}

// CloseFanOut says that a fan-out is complete or gone: none of its children start any more.
func (d *Dispatcher) CloseFanOut(name string) {}

// Holding says whether a TenantJob holds a slot: its Job is being made, is live, or its pods have not ended.
func (d *Dispatcher) Holding(uid types.UID) bool { return false }

// Counts of every queue that there is, or in which something waits or runs, by name.
func (d *Dispatcher) Counts() map[string]queue.Counts { return nil }
