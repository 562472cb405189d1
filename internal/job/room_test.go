package job

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestRoom(t *testing.T) {
	endedAgo := func(name string, d time.Duration) *v1alpha1.TenantJob {
		return &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.TenantJobStatus{CompletionTime: agoPtr(d)}}
	}
	for name, tc := range map[string]struct {
		withJob []*v1alpha1.TenantJob
		oldest  string
		message string
	}{
		"none":                {nil, "", ""},
		"all ended lately":    {[]*v1alpha1.TenantJob{endedAgo("a", KeepJobFor-time.Second)}, "", "; Jobs of runs that have ended count too (1): delete TenantJobs that have ended, or raise `spec.quota.hard` of the Tenant; `failedTTLSecondsAfterFinished` of the template lets those that failed go by themselves"},
		"some ended long ago": {[]*v1alpha1.TenantJob{endedAgo("a", 0), endedAgo("b", KeepJobFor), endedAgo("c", 3*KeepJobFor), endedAgo("d", 2*KeepJobFor)}, "c", "; Jobs of runs that have ended count too (4): delete TenantJobs that have ended, or raise `spec.quota.hard` of the Tenant; `failedTTLSecondsAfterFinished` of the template lets those that failed go by themselves"},
		"does not say when":   {[]*v1alpha1.TenantJob{{}, endedAgo("b", 24*time.Hour)}, "b", "; Jobs of runs that have ended count too (2): delete TenantJobs that have ended, or raise `spec.quota.hard` of the Tenant; `failedTTLSecondsAfterFinished` of the template lets those that failed go by themselves"},
	} {
		t.Run(name, func(t *testing.T) {
			room := RoomOf(tc.withJob, now)
			oldest := ""
			if room.Oldest != nil {
				oldest = room.Oldest.Name
			}
			if oldest != tc.oldest || room.Message() != tc.message {
				t.Errorf("%q, %q", oldest, room.Message())
			}
		})
	}
}

// TestRefusalsNameNoOther: what one TenantJob says of a refusal, others of the tenant say too.
func TestRefusalsNameNoOther(t *testing.T) {
	tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: "failing-1"}}
	for says, want := range map[string]string{
		`jobs.batch "failing-1" is forbidden: exceeded quota: tenant-quota, used: count/jobs.batch=2`: "the API server refuses the Job: exceeded quota: tenant-quota, used: count/jobs.batch=2",
		`Internal error occurred: failed calling webhook "w.example.com": no route`:                   `the API server refuses the Job: Internal error occurred: failed calling webhook "w.example.com": no route`,
		`admission webhook "w.example.com" denied the request: "failing-1" has no label`:              `the API server refuses the Job: admission webhook "w.example.com" denied the request: it has no label`,
	} {
		if got := RefusedJob(tj, says); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
