package kube

import (
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CachedJob is what the cache holds of a Job. The struct of a Job has room for a pod template, which would be most of it
// even when it is empty. So Jobs are read through a JobLister, and not through the manager's client.
type CachedJob struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	Status batchv1.JobStatus
	// Copies are the names of the copied Secrets that its pods mount.
	Copies []string
}

// CopyPrefix is what the names begin with of the Secrets that are copies of Secrets in the operator's namespace.
const CopyPrefix = "tenantry-copy-"

// CopiesOf returns the names of the copied Secrets that the pods of a Job mount. The Job is as the API server has it.
func CopiesOf(j *batchv1.Job) []string {
	var names []string
	for _, v := range j.Spec.Template.Spec.Volumes {
		if v.Secret != nil && strings.HasPrefix(v.Secret.SecretName, CopyPrefix) {
			names = append(names, shared(v.Secret.SecretName))
		}
	}
	return names
}

// DeepCopyObject implements runtime.Object.
func (c *CachedJob) DeepCopyObject() runtime.Object {
	metadata := c.ObjectMeta
	return &CachedJob{TypeMeta: c.TypeMeta, ObjectMeta: *metadata.DeepCopy(), Status: *c.Status.DeepCopy(), Copies: slices.Clone(c.Copies)}
}

// Job is the same as a Job without its spec. It shares its fields with the cache, so it is for reading only.
func (c *CachedJob) Job() *batchv1.Job {
	return &batchv1.Job{TypeMeta: c.TypeMeta, ObjectMeta: c.ObjectMeta, Status: c.Status}
}

// JobLister reads the Jobs of tenants from the cache, without their specs.
type JobLister struct{ cached Lister[*CachedJob] }

// NewJobLister returns the JobLister of a cache. Call it before the cache is started.
func NewJobLister(c cache.Cache) (JobLister, error) {
	cached, err := NewLister[*CachedJob](c, &batchv1.Job{}, nil)
	return JobLister{cached}, err
}

// JobListerOf returns the JobLister of what a Lister holds.
func JobListerOf(cached Lister[*CachedJob]) JobLister { return JobLister{cached} }

// Get returns a Job. Nil means that the cache has none.
func (l JobLister) Get(key client.ObjectKey) *batchv1.Job {
	if c, known := l.cached.Get(key); known {
		return c.Job()
	}
	return nil
}

// In returns the Jobs in a namespace.
func (l JobLister) In(namespace string) []*batchv1.Job { return jobs(l.cached.In(namespace)) }

// All returns all Jobs.
func (l JobLister) All() []*batchv1.Job { return jobs(l.cached.All()) }

// CopiesIn returns the names of the copied Secrets that some of the Jobs in a namespace mount.
func (l JobLister) CopiesIn(namespace string, some func(*batchv1.Job) bool) map[string]bool {
	names := map[string]bool{}
	for _, c := range l.cached.In(namespace) {
		if len(c.Copies) > 0 && some(c.Job()) {
			for _, name := range c.Copies {
				names[name] = true
			}
		}
	}
	return names
}

func jobs(cached []*CachedJob) []*batchv1.Job {
	all := make([]*batchv1.Job, 0, len(cached))
	for _, c := range cached {
		all = append(all, c.Job())
	}
	return all
}
