package controller

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cachedJob is what the cache holds of a Job. The struct of a Job has room for a pod template, which would be most of it
// even when it is empty. So Jobs are read from a jobShelf, and not through the manager's client.
type cachedJob struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	Status batchv1.JobStatus
}

// DeepCopyObject implements runtime.Object.
func (c *cachedJob) DeepCopyObject() runtime.Object {
	metadata := c.ObjectMeta
	return &cachedJob{TypeMeta: c.TypeMeta, ObjectMeta: *metadata.DeepCopy(), Status: *c.Status.DeepCopy()}
}

// job is the same as a Job. It shares what it has with the cache, so it is for reading only.
func (c *cachedJob) job() *batchv1.Job {
	return &batchv1.Job{TypeMeta: c.TypeMeta, ObjectMeta: c.ObjectMeta, Status: c.Status}
}

// jobShelf is a look at all Jobs in the cache.
type jobShelf struct{ shelf[*cachedJob] }

func openJobShelf(c cache.Cache) (jobShelf, error) {
	s, err := openShelf[*cachedJob](c, &batchv1.Job{}, nil)
	return jobShelf{s}, err
}

// get returns a Job. Nil means that the cache has none.
func (s jobShelf) get(key client.ObjectKey) *batchv1.Job {
	if c, known := s.shelf.get(key); known {
		return c.job()
	}
	return nil
}

// in returns the Jobs of a namespace.
func (s jobShelf) in(namespace string) []*batchv1.Job {
	cached := s.by(toolscache.NamespaceIndex, namespace)
	all := make([]*batchv1.Job, 0, len(cached))
	for _, c := range cached {
		all = append(all, c.job())
	}
	return all
}
