package jobs

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// TestIsOlder: a TenantJob in a cache that is behind still has the finalizer. Without this its credentials would be looked for at their
// sources, and revoked once more.
func TestIsOlder(t *testing.T) {
	for _, tc := range []struct {
		version, released string
		want              bool
	}{
		{"9", "10", true},
		{"10", "10", false},
		{"11", "10", false},
		{"9", "", false},
		{"", "10", false},
		{"not a number", "10", false},
	} {
		tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{ResourceVersion: tc.version}}
		if got := isOlder(tj, tc.released); got != tc.want {
			t.Errorf("version %q, released %q: %t", tc.version, tc.released, got)
		}
	}
}
