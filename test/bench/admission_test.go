package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/config/policy"
	"github.com/tenantry/tenantry/internal/job"
)

// admissionRequests is how many objects of a kind are created in a part.
const admissionRequests = 500

// BenchmarkAdmission measures what the admission policies add to the creation of a TenantJob, of a run's Job and of its pod: the
// time of each request, one after the other, with and without the policies by turns. There are TENANTRY_BENCH_ROUNDS, by default five.
func BenchmarkAdmission(b *testing.B) {
	e := &environment{}
	e.startControlPlane(b)
	template := makeTemplate(b, e.c, "bench", "bench")
	run, values, err := newRun(template, 0, "admission")
	if err != nil {
		b.Fatal(err)
	}
	run.TenantJob.UID = "00000000-0000-4000-8000-000000000000"
	built := job.Build(run, values)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: built.Namespace, Labels: map[string]string{
		v1alpha1.LabelTenant: run.Tenant.Name, v1alpha1.LabelState: v1alpha1.StateActive, v1alpha1.LabelEnforcement: "enforce",
	}}}
	runner := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: v1alpha1.RunnerServiceAccount}}
	for _, obj := range []client.Object{namespace, runner} {
		if err := e.c.Create(b.Context(), obj); err != nil {
			b.Fatal(err)
		}
	}
	set, err := policy.For("tenantry-system", operator)
	if err != nil {
		b.Fatal(err)
	}
	kinds := []struct {
		name string
		as   client.Client
		make func(name string) client.Object
	}{
		{"TenantJob", e.c, func(name string) client.Object {
			o := run.TenantJob.DeepCopy()
			o.ObjectMeta = metav1.ObjectMeta{Namespace: namespace.Name, Name: name}
			return o
		}},
		{"Job of a run", e.operator, func(name string) client.Object {
			o := built.DeepCopy()
			o.Name = name
			return o
		}},
		{"pod of a run", e.jobController, func(name string) client.Object {
			return &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: namespace.Name, Name: name, Labels: built.Spec.Template.Labels,
					OwnerReferences: []metav1.OwnerReference{{APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Name: "run", UID: types.UID("1"), Controller: new(true)}},
				},
				Spec: built.Spec.Template.Spec,
			}
		}},
	}
	times := map[string][]time.Duration{}
	for round := range numbers(b, "TENANTRY_BENCH_ROUNDS", 5)[0] {
		for _, part := range []string{"without", "with"} {
			if part == "with" {
				install(b, e, set)
			}
			for _, kind := range kinds {
				for i := range admissionRequests {
					obj := kind.make(fmt.Sprintf("%s-%d-%d", part, round, i))
					began := time.Now()
					if err := kind.as.Create(b.Context(), obj); err != nil {
						b.Fatal(err)
					}
					times[kind.name+part] = append(times[kind.name+part], time.Since(began))
				}
			}
		}
		uninstall(b, e, set)
	}
	var rows [][]string
	for _, kind := range kinds {
		without, with := times[kind.name+"without"], times[kind.name+"with"]
		slices.Sort(without)
		slices.Sort(with)
		row := []string{kind.name}
		for _, percent := range []int{50, 99} {
			off, on := percentile(without, percent), percentile(with, percent)
			row = append(row, milliseconds(off), milliseconds(on), fmt.Sprintf("%.2f", on.Seconds()/off.Seconds()))
			b.ReportMetric(on.Seconds()/off.Seconds(), fmt.Sprintf("p%d-%s-ratio", percent, strings.ReplaceAll(kind.name, " ", "-")))
		}
		rows = append(rows, row)
	}
	table([]string{"created", "p50 without policies", "with", "ratio", "p99 without", "with", "ratio"}, rows)
}

func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// install creates the policies and waits until one of them refuses something.
func install(b *testing.B, e *environment, set policy.Set) {
	b.Helper()
	for _, p := range set.Policies {
		if err := e.c.Create(b.Context(), p.DeepCopy()); err != nil {
			b.Fatal(err)
		}
	}
	for _, binding := range set.Bindings {
		if err := e.c.Create(b.Context(), binding.DeepCopy()); err != nil {
			b.Fatal(err)
		}
	}
	waitFor(b, "the policies to be in force", func() bool { return isRefused(b.Context(), e) })
}

// uninstall removes the policies and waits until none refuses anything.
func uninstall(b *testing.B, e *environment, set policy.Set) {
	b.Helper()
	for _, binding := range set.Bindings {
		if err := e.c.Delete(b.Context(), binding.DeepCopy()); err != nil {
			b.Fatal(err)
		}
	}
	for _, p := range set.Policies {
		if err := e.c.Delete(b.Context(), p.DeepCopy()); err != nil {
			b.Fatal(err)
		}
	}
	waitFor(b, "the policies to be gone", func() bool { return !isRefused(b.Context(), e) })
}

// isRefused says whether a Tenant with the reserved name is refused.
func isRefused(ctx context.Context, e *environment) bool {
	return e.c.Create(ctx, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: policy.ProbeTenant}}, client.DryRunAll) != nil
}
