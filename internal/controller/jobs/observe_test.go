package jobs

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// TestJob: a run's Job is the one that it controls, wherever that is, and never another one of the name.
func TestJob(t *testing.T) {
	t.Parallel()
	jobOf := func(owner string) *batchv1.Job {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "report", UID: types.UID("job of " + owner)}}
		if owner != "" {
			tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: "report", UID: types.UID(owner)}}
			j.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(tj, v1alpha1.GroupVersion.WithKind("TenantJob"))}
		}
		return j
	}
	for name, tc := range map[string]struct {
		cached, live *batchv1.Job
		started      bool
		jobRef       bool
		want         types.UID
	}{
		"none":                                   {},
		"in the cache":                           {cached: jobOf("this"), want: "job of this"},
		"in the cache, and another one there":    {cached: jobOf("this"), live: jobOf("earlier"), started: true, want: "job of this"},
		"not in the cache yet":                   {live: jobOf("this"), started: true, want: "job of this"},
		"not in the cache yet, after a restart":  {live: jobOf("this"), jobRef: true, want: "job of this"},
		"an earlier one in the cache":            {cached: jobOf("earlier"), live: jobOf("this"), started: true, want: "job of this"},
		"an earlier one in the cache, a restart": {cached: jobOf("earlier"), live: jobOf("this"), jobRef: true, want: "job of this"},
		"an earlier one, before the start":       {cached: jobOf("earlier"), live: jobOf("earlier")},
		"another one in its place":               {cached: jobOf("earlier"), live: jobOf("earlier"), started: true},
		"nobody's in its place":                  {cached: jobOf(""), live: jobOf(""), started: true},
		"gone":                                   {started: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, nil)
			live := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme)
			if tc.cached != nil {
				stripped, err := kube.StripJob(tc.cached)
				if err == nil {
					err = cache.Add(stripped)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if tc.live != nil {
				live = live.WithObjects(tc.live)
			}
			r := &Reconciler{Client: kube.Client{Live: live.Build()}, listers: listers{jobs: kube.JobListerOf(kube.ListerOf[*kube.CachedJob](cache))}}
			tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "report", UID: "this"}}
			if tc.jobRef {
				tj.Status.JobRef = &v1alpha1.LocalReference{Name: "report"}
			}
			got, err := r.job(t.Context(), tj, tc.started)
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				got = &batchv1.Job{}
			}
			if got.UID != tc.want {
				t.Errorf("got %q, want %q", got.UID, tc.want)
			}
		})
	}
}

// TestCountedFor: nobody can run up the failures of another tenant.
func TestCountedFor(t *testing.T) {
	t.Parallel()
	acme := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme", UID: "1"}}
	for name, tc := range map[string]struct {
		o    job.Observed
		want string
	}{
		"in its namespace":                {job.Observed{Tenant: acme, Namespace: &job.Namespace{Tenant: "acme", TenantUID: "1"}}, "acme"},
		"in another tenant's namespace":   {job.Observed{Tenant: acme, Namespace: &job.Namespace{Tenant: "globex", TenantUID: "2"}}, ""},
		"in one of an earlier Tenant":     {job.Observed{Tenant: acme, Namespace: &job.Namespace{Tenant: "acme", TenantUID: "0"}}, ""},
		"in a namespace that is nobody's": {job.Observed{Tenant: acme}, ""},
		"of a tenant that there is not":   {job.Observed{Namespace: &job.Namespace{Tenant: "acme", TenantUID: "1"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := countedFor(tc.o); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
