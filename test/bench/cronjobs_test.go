package bench

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// unlimited lifts the limits of the built-in controller as far as those of the operator.
var unlimited = []string{"--concurrent-cron-job-syncs=50", "--kube-api-qps=5000", "--kube-api-burst=10000"}

// benchCronJobs measures the built-in CronJob controller: one CronJob in each of n namespaces, all with the same
// tick, and with Jobs like those of a fan-out.
func benchCronJobs(b *testing.B, name string, e *environment, n int, flags ...string) figures {
	b.Helper()
	inParallel(b, 0, n, func(i int) error {
		return client.IgnoreAlreadyExists(e.c.Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: plainNamespace(i)}}))
	})
	k := startCronJobs(b, e.kubeconfig, flags...)
	defer k.stop()
	// Late enough for all of them to exist, and a date that does not come again.
	tick := time.Now().UTC().Add(15*time.Second + time.Duration(n)*5*time.Millisecond).Truncate(time.Minute).Add(time.Minute)
	inParallel(b, 0, n, func(i int) error {
		cronJob, err := newCronJob(e.template, i, tick)
		if err != nil {
			return err
		}
		if err := e.c.Create(b.Context(), cronJob); err != nil {
			return fmt.Errorf("creating CronJob %s: %w", client.ObjectKeyFromObject(cronJob), err)
		}
		return nil
	})
	seen, stop := watchJobs(b, e.c)
	defer stop()
	before, cpu := k.requests(b), e.spent(b, k)
	if time.Until(tick) < time.Second {
		b.Fatalf("making %d CronJobs took until their tick", n)
	}
	time.Sleep(time.Until(tick))

	seen.await(b, n)
	f := figures{name: name, n: n, starts: seen.after(tick), cpu: e.spent(b, k).since(cpu)}
	k.quiet(b)
	f.starting = since(before, k.requests(b))
	// The requests are the same with all limits, and with the default ones they take minutes.
	if len(flags) > 0 {
		seen.completeAll(b, e.jobController)
		k.quiet(b)
		f.whole = since(before, k.requests(b))
	}
	k.stop()
	remove(b, e.c, &batchv1.CronJobList{})
	remove(b, e.c, &batchv1.JobList{})
	return f
}

// plainNamespace is a namespace for the CronJob of a tenant, since in the tenant's own namespace none is allowed.
func plainNamespace(tenant int) string { return fmt.Sprintf("plain-%05d", tenant) }

func newCronJob(template *v1alpha1.TenantJobTemplate, tenant int, tick time.Time) (*batchv1.CronJob, error) {
	run, values, err := newRun(template, tenant, "cron")
	if err != nil {
		return nil, err
	}
	like := job.Build(run, values)
	return &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: plainNamespace(tenant), Name: like.Name},
		Spec: batchv1.CronJobSpec{
			Schedule:    fmt.Sprintf("%d %d %d %d *", tick.Minute(), tick.Hour(), tick.Day(), tick.Month()),
			TimeZone:    new("Etc/UTC"),
			JobTemplate: batchv1.JobTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: like.Labels, Annotations: like.Annotations}, Spec: like.Spec},
		},
	}, nil
}
