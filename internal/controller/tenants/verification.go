package tenants

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// minIntervals is how many intervals a round of the verifier takes at least, so that few Tenants are not verified all the time.
const minIntervals = 5

// verifier requests the verification of all Tenants, one after the other, round after round. It compares everything that is in
// a tenant's namespace and is not watched. A watch would hold all these objects in memory; policies prevent most drift, and the
// rest can wait.
type verifier struct {
	client.Reader
	clock clock.Clock
	// interval is the time from one Tenant to the next.
	interval time.Duration
	verify   func(context.Context, *v1alpha1.Tenant)
}

// Start runs until the context is done, on the leader only.
func (v *verifier) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		tenants := listTenants(ctx, v)
		for i := range tenants {
			v.verify(ctx, tenants[i].DeepCopy())
			v.wait(ctx, v.interval)
		}
		v.wait(ctx, v.interval*time.Duration(max(0, minIntervals-len(tenants))))
	}
	return nil
}

func (v *verifier) wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-v.clock.After(d):
	}
}

// requestVerification requests a reconciliation of a Tenant that compares also what is not watched.
func (r *Reconciler) requestVerification(ctx context.Context, t *v1alpha1.Tenant) {
	r.toVerify.Store(t.Name, true)
	r.request(ctx, t)
}

func listTenants(ctx context.Context, reader client.Reader) []v1alpha1.Tenant {
	var tenants v1alpha1.TenantList
	if err := reader.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "Listing Tenants from the cache")
	}
	return tenants.Items
}
