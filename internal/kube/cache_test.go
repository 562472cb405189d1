package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// TestStripTenantJob: everything that is read stays.
func TestStripTenantJob(t *testing.T) {
	t.Parallel()
	given := func() *v1alpha1.TenantJob {
		return &v1alpha1.TenantJob{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "tenant-acme", Name: "report-1", UID: "1", ResourceVersion: "7", Generation: 3, Finalizers: []string{"a"},
				Labels:          map[string]string{v1alpha1.LabelTenant: "acme", "tag.tenantry.dev/ticket": "77"},
				Annotations:     map[string]string{v1alpha1.AnnotationScheduledTime: "2026-11-24T02:00:00Z"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "a/v1", Kind: "TenantFanOut", Name: "report-1", UID: "2", Controller: new(true), BlockOwnerDeletion: new(false)}},
			},
			Spec: v1alpha1.TenantJobSpec{
				TenantRef: v1alpha1.TenantReference{Name: "acme"}, TemplateRef: v1alpha1.LabelReference{Name: "report"},
				Parameters: map[string]v1alpha1.ParameterValue{"payment": "8231"}, Cancel: new(true),
			},
			Status: v1alpha1.TenantJobStatus{
				ObservedGeneration: 3, JobRef: &v1alpha1.LocalReference{Name: "report-1"}, TenantUID: "3",
				Conditions: []metav1.Condition{{Type: "Succeeded", Status: "Unknown", Reason: "Running", Message: "a pod is running"}},
			},
		}
	}
	obj := given()
	obj.Labels["team"], obj.Labels["tenantry.dev/other"] = "billing", "x"
	obj.OwnerReferences = append([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "4"}}, obj.OwnerReferences...)
	obj.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	obj.Annotations["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
	stripped, err := stripTenantJob(obj)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(given(), stripped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStripTemplate(t *testing.T) {
	t.Parallel()
	at := new(metav1.Unix(1_795_000_000, 0))
	managed := func(entries ...metav1.ManagedFieldsEntry) *v1alpha1.TenantJobTemplate {
		return &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: "report", ManagedFields: entries}, Spec: v1alpha1.TenantJobTemplateSpec{Description: "x"}}
	}
	fields := metav1.NewFieldsV1(`{"f:spec":{}}`)
	stripped, err := stripTemplate(managed(
		metav1.ManagedFieldsEntry{Manager: "kubectl", Time: at, FieldsV1: fields},
		metav1.ManagedFieldsEntry{Manager: "tenantry", Subresource: "status", Time: at, FieldsV1: fields},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := managed(metav1.ManagedFieldsEntry{Manager: "tenantry", Subresource: "status", Time: at})
	if diff := cmp.Diff(want, stripped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestStripTenantJobBounds: however much somebody writes into a TenantJob, the cache holds little, and the start knows that there
// is more.
func TestStripTenantJobBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantJob)
		cut    bool
	}{
		"nothing much":      {func(*v1alpha1.TenantJob) {}, false},
		"parameters":        {func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["payment"] = v1alpha1.ParameterValue(long) }, true},
		"parameters' names": {func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters[long] = "1" }, true},
		"tags": {func(tj *v1alpha1.TenantJob) {
			for i := range 10_000 {
				tj.Labels[fmt.Sprintf("tag.tenantry.dev/%d", i)] = "x"
			}
		}, true},
		"labels": {func(tj *v1alpha1.TenantJob) {
			for i := range 10_000 {
				tj.Labels[fmt.Sprintf("tenantry.dev/%d", i)] = "x"
			}
		}, false},
		"annotations": {func(tj *v1alpha1.TenantJob) {
			tj.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: long, "other": long, annotationCut: "true"}
		}, false},
		"finalizers": {func(tj *v1alpha1.TenantJob) {
			for i := range 10_000 {
				tj.Finalizers = append(tj.Finalizers, fmt.Sprintf("example.com/%d", i))
			}
		}, false},
		"owners": {func(tj *v1alpha1.TenantJob) {
			for range 10_000 {
				tj.OwnerReferences = append(tj.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "a", UID: "4"})
			}
		}, false},
		"a controller": {func(tj *v1alpha1.TenantJob) {
			tj.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: long, Name: "a", UID: "4", Controller: new(true)}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tj := &v1alpha1.TenantJob{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelTenant: "acme", "tag.tenantry.dev/ticket": "77"}},
				Spec:       v1alpha1.TenantJobSpec{Parameters: map[string]v1alpha1.ParameterValue{"payment": "8231"}},
			}
			tc.change(tj)
			stripped, err := stripTenantJob(tj)
			if err != nil {
				t.Fatal(err)
			}
			tj = stripped.(*v1alpha1.TenantJob)
			content, err := json.Marshal(tj)
			if err != nil || len(content) > 2*maxHeld {
				t.Errorf("%d bytes are held: %v", len(content), err)
			}
			if IsCut(tj) != tc.cut || tj.Labels[v1alpha1.LabelTenant] != "acme" {
				t.Errorf("cut: %v, want %v; labels %v", IsCut(tj), tc.cut, tj.Labels)
			}
			if kept := tj.Labels["tag.tenantry.dev/ticket"] == "77" && tj.Spec.Parameters["payment"] == "8231"; kept == tc.cut {
				t.Errorf("tag and parameter kept: %v", kept)
			}
		})
	}
}

func TestStripJob(t *testing.T) {
	t.Parallel()
	given := func() *batchv1.Job {
		return &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "tenant-acme", Name: "report-1", UID: "1",
				Labels:          map[string]string{v1alpha1.LabelTenant: "acme", v1alpha1.LabelQueue: "default"},
				Annotations:     map[string]string{v1alpha1.AnnotationTemplateGeneration: "4"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "TenantJob", Name: "report-1", UID: "2", Controller: new(true)}},
			},
			Status: batchv1.JobStatus{Active: 1, Ready: new(int32(1))},
		}
	}
	obj := given()
	obj.Labels["team"], obj.Annotations["why"] = "billing", "because"
	obj.Spec.Template.Spec.Containers = []corev1.Container{{Name: "main"}}
	for _, secret := range []string{"theirs", CopyPrefix + "stripe-1", "tenantry-credential-0123"} {
		volume := corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}
		obj.Spec.Template.Spec.Volumes = append(obj.Spec.Template.Spec.Volumes, corev1.Volume{Name: secret, VolumeSource: volume})
	}
	stripped, err := StripJob(obj)
	if err != nil {
		t.Fatal(err)
	}
	again, err := StripJob(stripped)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(given(), again.(*CachedJob).Job()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := again.(*CachedJob).Copies; !slices.Equal(got, []string{CopyPrefix + "stripe-1"}) {
		t.Errorf("it mounts the copies %v", got)
	}
}

func TestStripPassesTombstones(t *testing.T) {
	t.Parallel()
	for name, strip := range map[string]toolscache.TransformFunc{"TenantJob": stripTenantJob, "Job": StripJob} {
		mark := toolscache.DeletedFinalStateUnknown{Key: "a/b"}
		if got, err := strip(mark); err != nil || got != mark {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if _, err := strip(&corev1.Pod{}); err == nil {
			t.Errorf("%s: a Pod passes", name)
		}
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	var p pool[string]
	a := p.get(map[string]string{"a": "1", "b": "2"})
	b := p.get(map[string]string{"b": "2", "a": "1"})
	if a["c"] = "3"; b["c"] != "3" {
		t.Error("two maps with the same content are two")
	}
	delete(a, "c")
	for _, other := range []map[string]string{{"a": "1"}, {"a": "1b", "": "2"}, {"a": "2", "b": "1"}, nil} {
		if got := p.get(maps.Clone(other)); !maps.Equal(got, other) {
			t.Errorf("got %v for %v", got, other)
		}
	}
	large := map[string]string{"a": strings.Repeat("x", pooledBytes)}
	if p.get(large); len(p.maps) != 4 {
		t.Errorf("%d maps are remembered, want 4", len(p.maps))
	}
	for i := range 3 * poolSize {
		p.get(map[string]string{"a": fmt.Sprint(i)})
	}
	if len(p.maps) > poolSize {
		t.Errorf("%d maps are remembered", len(p.maps))
	}
}
