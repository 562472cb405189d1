package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unique"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// CacheOptions bound what the manager keeps in memory: of namespaces and Jobs only those that are tenants', and of Jobs
// and TenantJobs only what somebody reads.
func CacheOptions() cache.Options {
	tenants := client.HasLabels{v1alpha1.LabelTenant}
	selector := client.ListOptions{}
	tenants.ApplyToList(&selector)
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Namespace{}:   {Label: selector.LabelSelector},
			&batchv1.Job{}:        {Label: selector.LabelSelector, Transform: StripJob},
			&v1alpha1.TenantJob{}: {Transform: stripTenantJob},
			// Package job reads when the status of a template was written.
			&v1alpha1.TenantJobTemplate{}: {Transform: stripTemplate},
		},
	}
}

// ClientOptions keep the client from starting a watch for what is read seldom.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{
		&corev1.Pod{}, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.Event{}, &corev1.ServiceAccount{}, &corev1.ResourceQuota{},
		&corev1.LimitRange{},
		&networkingv1.NetworkPolicy{}, &rbacv1.RoleBinding{},
	}}}
}

const (
	// maxHeld is how many bytes of a TenantJob's tags and parameters the cache holds. Who may create TenantJobs can make them as
	// large as the API server accepts.
	maxHeld = 4 << 10
	// MaxFinalizers is how many finalizers of a TenantJob the cache holds, at most.
	MaxFinalizers = 16
	// maxOwner and maxTime are how long an owner reference, and a time in an annotation, are that the cache holds. The operator's own
	// are shorter.
	maxOwner, maxTime = 1 << 10, 64
	// annotationCut is on a TenantJob in the cache of which tags and parameters were left out. It is never written.
	annotationCut = "tenantry.dev/cut-in-cache"
)

// IsCut says whether tags and parameters of a TenantJob were left out when it was put into the cache, because they are large.
func IsCut(tj *v1alpha1.TenantJob) bool { return tj.Annotations[annotationCut] != "" }

// operatorLabels are the labels of TenantJobs that the operator sets and reads.
var operatorLabels = []string{
	v1alpha1.LabelTenant, v1alpha1.LabelTemplate, v1alpha1.LabelQueue, v1alpha1.LabelFanOut, v1alpha1.LabelSchedule,
}

// stripTenantJob takes off a TenantJob what the cache need not hold, and lets it share what it has in common with others:
// ten thousand children of a fan-out differ in little. It can be patched and deleted, never updated.
func stripTenantJob(obj any) (any, error) {
	tj, ok := obj.(*v1alpha1.TenantJob)
	if !ok {
		return tombstone(obj)
	}
	isTag := func(key, _ string) bool { return strings.HasPrefix(key, v1alpha1.TagPrefix) }
	maps.DeleteFunc(tj.Labels, func(key, _ string) bool { return !isTag(key, "") && !slices.Contains(operatorLabels, key) })
	maps.DeleteFunc(tj.Annotations, func(key, value string) bool { return key != v1alpha1.AnnotationScheduledTime || len(value) > maxTime })
	if held(tj) > maxHeld {
		maps.DeleteFunc(tj.Labels, isTag)
		tj.Spec.Parameters = nil
		metav1.SetMetaDataAnnotation(&tj.ObjectMeta, annotationCut, "true")
	}
	tj.Finalizers = slices.Clone(tj.Finalizers[:min(len(tj.Finalizers), MaxFinalizers)])
	tj.OwnerReferences = slices.DeleteFunc(tj.OwnerReferences, func(o metav1.OwnerReference) bool {
		return o.Controller == nil || !*o.Controller || len(o.APIVersion)+len(o.Kind)+len(o.Name)+len(o.UID) > maxOwner
	})
	slim(&tj.ObjectMeta, func(string) bool { return true })
	tj.TypeMeta = metav1.TypeMeta{Kind: shared(tj.Kind), APIVersion: shared(tj.APIVersion)}
	tj.Spec.TenantRef.Name = shared(tj.Spec.TenantRef.Name)
	tj.Spec.TemplateRef.Name = shared(tj.Spec.TemplateRef.Name)
	tj.Spec.Parameters = sharedParameters.get(tj.Spec.Parameters)
	tj.Status.TenantUID = types.UID(shared(string(tj.Status.TenantUID)))
	if ref := tj.Status.JobRef; ref != nil {
		ref.Name = shared(ref.Name)
	}
	tj.Status.Conditions = slices.Clone(tj.Status.Conditions)
	for i := range tj.Status.Conditions {
		c := &tj.Status.Conditions[i]
		c.Type, c.Status, c.Reason, c.Message = shared(c.Type), metav1.ConditionStatus(shared(string(c.Status))), shared(c.Reason), shared(c.Message)
	}
	return tj, nil
}

// stripTemplate takes the managed fields off a template, but for the times at which its status was written.
func stripTemplate(obj any) (any, error) {
	t, ok := obj.(*v1alpha1.TenantJobTemplate)
	if !ok {
		return tombstone(obj)
	}
	t.ManagedFields = slices.DeleteFunc(t.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Subresource != "status" })
	for i := range t.ManagedFields {
		t.ManagedFields[i].FieldsV1 = nil
	}
	return t, nil
}

// held is how many bytes of a TenantJob's tags and parameters the cache would hold.
func held(tj *v1alpha1.TenantJob) int {
	n := 0
	for key, value := range tj.Labels {
		if strings.HasPrefix(key, v1alpha1.TagPrefix) {
			n += len(key) + len(value)
		}
	}
	for key, value := range tj.Spec.Parameters {
		n += len(key) + len(value)
	}
	return n
}

// StripJob returns what the cache holds of a Job: a CachedJob. It passes tombstones, and refuses everything else.
func StripJob(obj any) (any, error) {
	switch o := obj.(type) {
	case *CachedJob:
		return o, nil
	case *batchv1.Job:
		maps.DeleteFunc(o.Labels, func(key, _ string) bool { return !strings.HasPrefix(key, "tenantry.dev/") })
		slim(&o.ObjectMeta, func(key string) bool { return key == v1alpha1.AnnotationTemplateGeneration })
		o.Finalizers = nil
		return &CachedJob{TypeMeta: o.TypeMeta, ObjectMeta: o.ObjectMeta, Status: o.Status, Copies: CopiesOf(o)}, nil
	}
	return tombstone(obj)
}

// tombstone lets the mark of an object pass whose deletion was missed.
func tombstone(obj any) (any, error) {
	if _, is := obj.(toolscache.DeletedFinalStateUnknown); is {
		return obj, nil
	}
	return nil, fmt.Errorf("caching an object: unexpected %T", obj)
}

// slim takes off metadata what nobody reads, and lets it share the rest.
func slim(m *metav1.ObjectMeta, keep func(annotation string) bool) {
	m.ManagedFields = nil
	m.GenerateName = ""
	m.Name, m.Namespace = shared(m.Name), shared(m.Namespace)
	maps.DeleteFunc(m.Annotations, func(key, _ string) bool { return !keep(key) })
	m.Labels, m.Annotations = sharedMaps.get(m.Labels), sharedMaps.get(m.Annotations)
	m.OwnerReferences = slices.Clone(m.OwnerReferences)
	for i := range m.OwnerReferences {
		o := &m.OwnerReferences[i]
		o.APIVersion, o.Kind, o.Name, o.UID = shared(o.APIVersion), shared(o.Kind), shared(o.Name), types.UID(shared(string(o.UID)))
		o.Controller, o.BlockOwnerDeletion = sharedFlag(o.Controller), sharedFlag(o.BlockOwnerDeletion)
	}
	if last := lastOwners.Load(); last != nil && slices.Equal(*last, m.OwnerReferences) {
		m.OwnerReferences = *last
	} else {
		owners := m.OwnerReferences // The field is written once more when client-go transforms the object a second time.
		lastOwners.Store(&owners)
	}
}

// lastOwners are the owner references that were last seen. The children of a fan-out, which come one after the other, share
// theirs.
var lastOwners atomic.Pointer[[]metav1.OwnerReference]

// pool has maps of strings that several objects share, so nobody may change them: readers of the cache get copies, and
// those who want none only read.
type pool[V ~string] struct {
	mu   sync.Mutex
	maps map[string]map[string]V
}

const (
	// poolSize is how many maps a pool remembers. Those of a run's TenantJob and Job come within seconds.
	poolSize = 2048
	// pooledBytes is how large a map is that is remembered, at most.
	pooledBytes = 1024
)

var (
	sharedMaps       pool[string]
	sharedParameters pool[v1alpha1.ParameterValue]
)

// get returns a map with the same content, which may be the same map for others. Nil when it is empty.
func (p *pool[V]) get(m map[string]V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	var content strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		content.WriteString(key)
		content.WriteByte(0)
		content.WriteString(string(m[key]))
		content.WriteByte(0)
	}
	if content.Len() > pooledBytes {
		return m
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.maps[content.String()]; known != nil {
		return known
	}
	if p.maps == nil || len(p.maps) >= poolSize {
		p.maps = map[string]map[string]V{}
	}
	own := make(map[string]V, len(m))
	for key, value := range m {
		own[shared(key)] = V(shared(string(value)))
	}
	p.maps[content.String()] = own
	return own
}

// shared is a string that is in memory once, and for no longer than somebody holds it.
func shared(s string) string { return unique.Make(s).Value() }

var yes, no = true, false

func sharedFlag(b *bool) *bool {
	switch {
	case b == nil:
		return nil
	case *b:
		return &yes
	}
	return &no
}
