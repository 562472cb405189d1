package credentials_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/credential"
)

// secretsOf returns the Secrets in a tenant's namespace.
func secretsOf(t *testing.T, g gomega.Gomega, tenant *v1alpha1.Tenant) []corev1.Secret {
	t.Helper()
	var list corev1.SecretList
	g.Expect(Admin.List(t.Context(), &list, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
	return list.Items
}

// awaitNothingLeft waits until a Source has no live credential, a tenant's namespace no Secret, and a TenantJob no finalizer of ours.
func awaitNothingLeft(t *testing.T, source *Source, tenant *v1alpha1.Tenant, tj *v1alpha1.TenantJob) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(source.Live()).To(gomega.BeEmpty())
		g.Expect(secretsOf(t, g, tenant)).To(gomega.BeEmpty())
		if tj != nil {
			g.Expect(Get(t, g, tj).Finalizers).To(gomega.BeEmpty())
		}
	})
}

// TestRunHasItsCredentials: a run gets exactly the credentials that its template names, issued for it and revoked when it is over.
func TestRunHasItsCredentials(t *testing.T) {
	t.Parallel()
	source := NewSource(t)
	spec := source.WithCredential()
	spec.Credentials = append(spec.Credentials, v1alpha1.TenantCredential{Name: "other", ProviderRef: spec.Credentials[0].ProviderRef})
	tenant := NewReadyTenant(t, spec)
	template := NewReadyTemplate(t, NeedsDatabase)
	tj := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")

	if got := source.Live(); !slices.Equal(got, []types.UID{tj.UID}) {
		t.Errorf("live are the credentials of %v, want one, of %s", got, tj.UID)
	}
	var job batchv1.Job
	if err := Admin.Get(t.Context(), client.ObjectKeyFromObject(tj), &job); err != nil {
		t.Fatal(err)
	}
	pod := job.Spec.Template.Spec
	secrets := secretsOf(t, gomega.NewWithT(t), tenant)
	if len(secrets) != 1 || len(pod.Volumes) != 1 || pod.Volumes[0].Secret == nil || pod.Volumes[0].Secret.SecretName != secrets[0].Name {
		t.Fatalf("the pod has volumes %v, want one with the one Secret of %v", pod.Volumes, secrets)
	}
	if !*secrets[0].Immutable || string(secrets[0].Data["type"]) != "postgresql" || string(secrets[0].Data["provider"]) != source.Provider.Name {
		t.Errorf("the Secret is %v", secrets[0])
	}
	if !source.Accepts(string(secrets[0].Data["password"])) {
		t.Error("the source does not accept the password in the Secret")
	}
	container := pod.Containers[0]
	want := []corev1.VolumeMount{{Name: pod.Volumes[0].Name, MountPath: "/bindings/database", ReadOnly: true}}
	if diff := cmp.Diff(want, container.VolumeMounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	vars := map[string]corev1.EnvVar{}
	for _, v := range container.Env {
		vars[v.Name] = v
	}
	if vars["SERVICE_BINDING_ROOT"].Value != "/bindings" || vars["DB_PASSWORD"].ValueFrom.SecretKeyRef.Name != secrets[0].Name {
		t.Errorf("variables: %v", container.Env)
	}
	if c := tj.Status.Credentials; len(c) != 1 || c[0].Name != "database" || c[0].IssueTime == nil || c[0].ExpirationTime == nil || c[0].RevocationTime != nil {
		t.Errorf("status.credentials: %v", c)
	}

	Finish(t, tj, corev1.PodSucceeded)
	AwaitStatus(t, tj, metav1.ConditionTrue, v1alpha1.ReasonCompleted, "")
	awaitNothingLeft(t, source, tenant, tj)
	if c := tj.Status.Credentials; len(c) != 1 || c[0].RevocationTime == nil {
		t.Errorf("status.credentials: %v", c)
	}
}

// TestRunWithCredentialCosts counts what a run costs in its namespace that is issued one.
func TestRunWithCredentialCosts(t *testing.T) {
	WithoutOperator(t)
	var sent RequestLog
	a := &OtherOperator{Through: sent.Through}
	a.Start(t)
	source := NewSource(t)
	tenant := NewReadyTenant(t, source.WithCredential())
	tj := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, tj, corev1.PodSucceeded)
	awaitNothingLeft(t, source, tenant, tj)

	got := map[string]int{}
	for _, r := range sent.All() {
		method, path, _ := strings.Cut(r, " ")
		if _, object, ok := strings.Cut(path, "/namespaces/"+tenant.NamespaceName()+"/"); ok && method != http.MethodGet {
			kind, rest, _ := strings.Cut(object, "/")
			if strings.HasSuffix(rest, "/status") {
				kind += "/status"
			}
			got[method+" "+kind]++
		}
	}
	// What made the namespace is none of the run's.
	maps.DeleteFunc(got, func(write string, _ int) bool {
		return !strings.Contains(write, "tenantjobs") && !strings.Contains(write, "jobs") && !strings.Contains(write, "secrets")
	})
	// A machine that is slow sees the pod wait before it runs.
	want := map[string]int{
		"POST jobs": 1, "POST secrets": 1, "DELETE secrets": 1,
		"PATCH tenantjobs":        2, // with the labels and the finalizer, and without the finalizer
		"PATCH tenantjobs/status": 3, // Running, Completed, revoked
	}
	if extra := got["PATCH tenantjobs/status"] - 3; extra == 1 {
		got["PATCH tenantjobs/status"]--
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// TestCredentialsAreRevoked: whatever ends a run, its credentials are dead afterwards.
func TestCredentialsAreRevoked(t *testing.T) {
	t.Parallel()
	cancel := func(t *testing.T, tj *v1alpha1.TenantJob, _ *v1alpha1.Tenant) {
		Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
	}
	for name, tc := range map[string]struct {
		end  func(*testing.T, *v1alpha1.TenantJob, *v1alpha1.Tenant)
		gone bool
	}{
		"failed":    {func(t *testing.T, tj *v1alpha1.TenantJob, _ *v1alpha1.Tenant) { Finish(t, tj, corev1.PodFailed) }, false},
		"cancelled": {cancel, false},
		"suspended": {func(t *testing.T, _ *v1alpha1.TenantJob, tenant *v1alpha1.Tenant) { Patch(t, tenant, Suspend) }, false},
		"deleted": {func(t *testing.T, tj *v1alpha1.TenantJob, _ *v1alpha1.Tenant) {
			if err := Admin.Delete(t.Context(), tj); err != nil {
				t.Fatal(err)
			}
		}, true},
		"Job deleted": {func(t *testing.T, tj *v1alpha1.TenantJob, _ *v1alpha1.Tenant) {
			if err := Admin.Delete(t.Context(), JobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
				t.Fatal(err)
			}
		}, false},
		"Tenant deleted": {func(t *testing.T, _ *v1alpha1.TenantJob, tenant *v1alpha1.Tenant) {
			if err := Admin.Delete(t.Context(), tenant); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := NewSource(t)
			tenant := NewReadyTenant(t, source.WithCredential())
			tj := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
			AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
			tc.end(t, tj, tenant)
			if tc.gone {
				awaitNothingLeft(t, source, tenant, nil)
				Eventually(t, func(g gomega.Gomega) {
					g.Expect(client.IgnoreNotFound(Read(t.Context(), tj))).To(gomega.Succeed())
					g.Expect(tj.UID).To(gomega.BeEmpty())
				})
				return
			}
			awaitNothingLeft(t, source, tenant, tj)
		})
	}
}

// TestTenantLacksCredential: a run waits for a credential that its tenant lacks, and says which.
func TestTenantLacksCredential(t *testing.T) {
	t.Parallel()
	source := NewSource(t)
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	tj := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "has no credential database")
	Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Credentials = []v1alpha1.TenantCredential{source.Credential()} })
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, tj, corev1.PodSucceeded)
	awaitNothingLeft(t, source, tenant, tj)
}

// TestSourceIsDown: a run waits while its source can't be reached, others do not, and what has to be revoked is when it is back.
func TestSourceIsDown(t *testing.T) {
	t.Parallel()
	source := NewSource(t)
	tenant := NewReadyTenant(t, source.WithCredential())
	template := NewReadyTemplate(t, NeedsDatabase)
	running := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, running, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")

	source.SetDown(true)
	waiting := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, waiting, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "can't be reached")
	without := NewRun(t, tenant, NewReadyTemplate(t, nil), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, without, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, running, corev1.PodSucceeded)
	AwaitStatus(t, running, metav1.ConditionTrue, v1alpha1.ReasonCompleted, "")
	if got := source.Live(); !slices.Equal(got, []types.UID{running.UID}) {
		t.Errorf("live are the credentials of %v", got)
	}
	Eventually(t, func(g gomega.Gomega) {
		c := conditions.Get(Get(t, g, running).Status.Conditions, v1alpha1.ConditionReconciling)
		g.Expect(c.Message).To(gomega.ContainSubstring("its credentials can't be revoked: the server can't be reached"))
	})

	source.SetDown(false)
	AwaitStatus(t, waiting, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, waiting, corev1.PodSucceeded)
	awaitNothingLeft(t, source, tenant, waiting)
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Get(t, g, running).Finalizers).To(gomega.BeEmpty())
		g.Expect(conditions.Get(running.Status.Conditions, v1alpha1.ConditionReconciling).Message).To(gomega.BeEmpty())
	})
}

// TestTenantsTrouble: what the source says about one tenant holds back that tenant's runs alone.
func TestTenantsTrouble(t *testing.T) {
	t.Parallel()
	source := NewSource(t)
	broken, other := NewReadyTenant(t, source.WithCredential()), NewReadyTenant(t, source.WithCredential())
	source.RefuseTenant(broken.UID)
	template := NewReadyTemplate(t, NeedsDatabase)
	waiting := NewRun(t, broken, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, waiting, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "the database does not exist")
	tj := NewRun(t, other, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, tj, corev1.PodSucceeded)
	source.RefuseTenant("")
	AwaitStatus(t, waiting, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, waiting, corev1.PodSucceeded)
	awaitNothingLeft(t, source, broken, waiting)
}

// TestHangingSource: a source that does not answer holds up no run of another one, however many wait for it.
func TestHangingSource(t *testing.T) {
	t.Parallel()
	hanging, other := NewSource(t), NewSource(t)
	release := make(chan struct{})
	hanging.OnStep(func(step string, _ credential.Handle) error {
		if step == "before issue" {
			<-release
		}
		return nil
	})
	tenant := NewReadyTenant(t, hanging.WithCredential())
	template := NewReadyTemplate(t, NeedsDatabase)
	var stuck []*v1alpha1.TenantJob
	for range 10 { // more than a source has workers, and a controller
		stuck = append(stuck, NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {}))
	}
	for _, tj := range stuck {
		AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "its credentials are being issued")
	}
	tj := NewRun(t, NewReadyTenant(t, other.WithCredential()), template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	close(release)
	for _, tj := range stuck {
		AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	}
}

// TestFanOutWithoutCredential: a fan-out completes although one of its tenants lacks a credential, and says whose fault that is.
func TestFanOutWithoutCredential(t *testing.T) {
	t.Parallel()
	source := NewSource(t)
	has, lacks := NewReadyTenant(t, source.WithCredential()), NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, NeedsDatabase)
	fanOut := NewFanOut(t, template.Name, []*v1alpha1.Tenant{has, lacks}, nil)
	AwaitStatus(t, ChildIn(lacks, fanOut), metav1.ConditionFalse, v1alpha1.ReasonCredentialsFailed, "has no credential database")
	AwaitStatus(t, ChildIn(has, fanOut), metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, ChildIn(has, fanOut), corev1.PodSucceeded)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, metav1.ConditionFalse, v1alpha1.ReasonSomeFailed, "")
	awaitNothingLeft(t, source, has, ChildIn(has, fanOut))
}
