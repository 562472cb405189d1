package controller

import (
	"testing"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestTenantReady(t *testing.T) {
	t.Parallel()
	newReadyTenant(t, v1alpha1.TenantSpec{})
}
