package credentials_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// ownSecret is a Secret in the operator's namespace of which a tenant's runs get copies, as the credential `database`.
type ownSecret struct {
	original *corev1.Secret
	tenant   *v1alpha1.Tenant
	template *v1alpha1.TenantJobTemplate
}

// newOwnSecret makes one with the key `key` and the value `first`, and a ready Tenant with a spec that has it.
func newOwnSecret(t *testing.T, spec v1alpha1.TenantSpec) ownSecret {
	t.Helper()
	name := fmt.Sprintf("own-%d", Serial.Add(1))
	Create(t, &v1alpha1.CredentialProvider{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.CredentialProviderSpec{Secret: &v1alpha1.SecretProvider{}},
	})
	spec.Credentials = append(spec.Credentials, v1alpha1.TenantCredential{
		Name: "own", ProviderRef: v1alpha1.LocalReference{Name: name}, SecretRef: &v1alpha1.LocalReference{Name: name},
	})
	var s ownSecret
	s.tenant = NewTenant(t, spec)
	if spec.Namespace != nil {
		Consent(t, NamespaceOf(s.tenant), s.tenant.Name)
	}
	AwaitCondition(t, s.tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	s.original = Create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: name, Labels: map[string]string{v1alpha1.LabelTenant: s.tenant.Name}},
		StringData: map[string]string{"key": "first"},
	})
	s.template = NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(1))
		for _, c := range spec.Credentials {
			o.Spec.Credentials = append(o.Spec.Credentials, v1alpha1.TemplateCredential{Name: c.Name})
		}
	})
	return s
}

// change gives the original another value.
func (s ownSecret) change(t *testing.T, value string) {
	t.Helper()
	Patch(t, s.original, func(o *corev1.Secret) { o.Data["key"] = []byte(value) })
}

// run starts a run, waits until it runs, and returns it and the name of its copy, which has a value.
func (s ownSecret) run(t *testing.T, value string) (*v1alpha1.TenantJob, string) {
	t.Helper()
	tj := NewRun(t, s.tenant, s.template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	job := JobOf(tj)
	if err := Read(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	volumes := job.Spec.Template.Spec.Volumes
	bound := &corev1.Secret{ObjectMeta: Within(s.tenant, volumes[len(volumes)-1].Secret.SecretName)}
	if err := Read(t.Context(), bound); err != nil {
		t.Fatal(err)
	}
	if got := string(bound.Data["key"]); got != value {
		t.Errorf("run %s has the value %s, want %s", tj.Name, got, value)
	}
	return tj, bound.Name
}

// finish ends a run well.
func (s ownSecret) finish(t *testing.T, tj *v1alpha1.TenantJob) {
	t.Helper()
	Finish(t, tj, corev1.PodSucceeded)
	AwaitStatus(t, tj, metav1.ConditionTrue, v1alpha1.ReasonCompleted, "")
}

// awaitCopies waits until a tenant has these copies and no other Secrets, and its status says so.
func (s ownSecret) awaitCopies(t *testing.T, names ...string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(s.copies(t, g)).To(gomega.ConsistOf(names))
		recorded := []string{}
		for _, c := range Get(t, g, s.tenant).Status.CopiedSecrets {
			recorded = append(recorded, c.Name)
		}
		g.Expect(recorded).To(gomega.ConsistOf(names))
	})
}

// copies are the names of the Secrets in the tenant's namespace.
func (s ownSecret) copies(t *testing.T, g gomega.Gomega) (names []string) {
	t.Helper()
	for _, secret := range secretsOf(t, g, s.tenant) {
		names = append(names, secret.Name)
	}
	return names
}

// awaitDecision waits until the operator has decided about the tenant once more.
func (s ownSecret) awaitDecision(t *testing.T) {
	t.Helper()
	Patch(t, s.tenant, func(o *v1alpha1.Tenant) {
		o.Spec.Attributes = map[string]v1alpha1.AttributeValue{"change": v1alpha1.AttributeValue(fmt.Sprint(Serial.Add(1)))}
	})
	AwaitCondition(t, s.tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
}

// TestOldCopyIsDeleted: a run gets what is in the Secret by then. The copy that the next run would not get goes when the last run is over
// that has it, and not while its Job may make another pod.
func TestOldCopyIsDeleted(t *testing.T) {
	t.Parallel()
	own := newOwnSecret(t, v1alpha1.TenantSpec{})
	long, first := own.run(t, "first")
	own.change(t, "second")
	short, second := own.run(t, "second")
	own.finish(t, short)
	own.awaitDecision(t)
	own.awaitCopies(t, first, second)

	EndPod(t, AwaitRunningPod(t, long), corev1.PodFailed)
	var retry corev1.Pod
	Eventually(t, func(g gomega.Gomega) {
		var pods corev1.PodList
		g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(long.Namespace), client.MatchingLabels{"job-name": long.Name})).To(gomega.Succeed())
		running := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning })
		g.Expect(running).To(gomega.HaveLen(1))
		retry = running[0]
	})
	own.awaitDecision(t)
	own.awaitCopies(t, first, second)

	EndPod(t, &retry, corev1.PodSucceeded)
	own.awaitCopies(t, second)
}

// TestOldCopyOfEarlierProcess: an operator that has just started deletes no copy that a run of an earlier one has.
func TestOldCopyOfEarlierProcess(t *testing.T) {
	own := newOwnSecret(t, v1alpha1.TenantSpec{})
	long, first := own.run(t, "first")
	own.change(t, "second")
	_, second := own.run(t, "second")
	WithoutOperator(t)
	b := &OtherOperator{}
	b.Start(t)
	own.awaitDecision(t)
	own.awaitCopies(t, first, second)
	own.finish(t, long)
	own.awaitCopies(t, second)
}

// TestCopyCostsNoWrite: of the runs that get the same copy the first one costs writes, and no other.
func TestCopyCostsNoWrite(t *testing.T) {
	WithoutOperator(t)
	var sent RequestLog
	a := &OtherOperator{Through: sent.Through}
	a.Start(t)
	own := newOwnSecret(t, v1alpha1.TenantSpec{})
	about := func() (all []string) {
		for _, r := range sent.All() {
			if !strings.HasPrefix(r, http.MethodGet) && strings.Contains(r, own.tenant.NamespaceName()+"/secrets") {
				all = append(all, r)
			}
		}
		return all
	}
	for range 3 {
		tj, _ := own.run(t, "first")
		own.finish(t, tj)
	}
	if got := about(); len(got) != 1 {
		t.Errorf("three runs have cost the writes %v, want one", got)
	}
}

// TestCopyOfOtherSecret: the copy for a credential that the Tenant has no more, or that is of another Secret now, goes when the run is
// over that has it.
func TestCopyOfOtherSecret(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha1.Tenant){
		"the credential is removed":         func(o *v1alpha1.Tenant) { o.Spec.Credentials = nil },
		"the credential names another":      func(o *v1alpha1.Tenant) { o.Spec.Credentials[0].SecretRef.Name = "another" },
		"the credential is of another":      func(o *v1alpha1.Tenant) { o.Spec.Credentials[0].ProviderRef.Name = "another" },
		"removed, and the tenant suspended": func(o *v1alpha1.Tenant) { o.Spec.Credentials, o.Spec.Suspend = nil, new(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := newOwnSecret(t, v1alpha1.TenantSpec{})
			tj, copied := own.run(t, "first")
			Patch(t, own.tenant, change)
			if !own.tenant.Suspended() {
				own.awaitDecision(t)
				own.awaitCopies(t, copied)
				own.finish(t, tj)
			}
			own.awaitCopies(t)
		})
	}
}

// TestOriginalChangesWithoutRun: an old copy goes although there is no further run.
func TestOriginalChangesWithoutRun(t *testing.T) {
	Verifying(t)
	for name, change := range map[string]func(t *testing.T, own ownSecret){
		"another value": func(t *testing.T, own ownSecret) { own.change(t, "second") },
		"deleted":       func(t *testing.T, own ownSecret) { Remove(t, own.original) },
		"no longer the tenant's": func(t *testing.T, own ownSecret) {
			Patch(t, own.original, func(o *corev1.Secret) { o.Labels[v1alpha1.LabelTenant] = "another" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			own := newOwnSecret(t, v1alpha1.TenantSpec{})
			tj, copied := own.run(t, "first")
			own.finish(t, tj)
			own.awaitDecision(t)
			own.awaitCopies(t, copied)
			change(t, own)
			own.awaitCopies(t)
		})
	}
}

// TestOperatorKilledWhileCopying: wherever the operator dies while it makes a copy or deletes one, the next run has what is in the Secret
// by then, and no other copy is left.
func TestOperatorKilledWhileCopying(t *testing.T) {
	makes := []string{"before PATCH Tenant with 2 copies", "after PATCH Tenant with 2 copies", "before POST Secret", "after POST Secret"}
	deletes := []string{"before DELETE Secret", "after DELETE Secret", "before PATCH Tenant with 1 copies", "after PATCH Tenant with 1 copies"}
	owns := map[string]ownSecret{}
	for _, step := range slices.Concat(makes, deletes) {
		own := newOwnSecret(t, v1alpha1.TenantSpec{})
		tj, _ := own.run(t, "first")
		own.finish(t, tj)
		owns[step] = own
	}
	WithoutOperator(t)
	for step, own := range owns {
		t.Run(step, func(t *testing.T) {
			value := "second"
			newKiller(step).run(t, func() {
				own.change(t, "second")
				NewRun(t, own.tenant, own.template, func(*v1alpha1.TenantJob) {})
			}, func() {
				if slices.Contains(makes, step) { // No run has the second one yet.
					value = "third"
					own.change(t, value)
				}
			})
			_, last := own.run(t, value)
			own.awaitCopies(t, last)
		})
	}
}

// TestCopyCantBeDeleted: a namespace in which nothing can be deleted keeps no run from starting, and no other tenant's copy. The operator
// goes on trying, and says so.
func TestCopyCantBeDeleted(t *testing.T) {
	broken, other := newOwnSecret(t, v1alpha1.TenantSpec{}), newOwnSecret(t, v1alpha1.TenantSpec{})
	WithoutOperator(t)
	var repaired atomic.Bool
	a := &OtherOperator{Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if !repaired.Load() && r.Method == http.MethodDelete && strings.Contains(r.URL.Path, broken.tenant.NamespaceName()+"/secrets/") {
			return Answer(apierrors.NewInternalError(errors.New("the webhook is broken"))), nil
		}
		return next.RoundTrip(r)
	}}
	a.Start(t)
	second := map[string]string{}
	for _, own := range []ownSecret{broken, other} {
		tj, _ := own.run(t, "first")
		own.finish(t, tj)
		own.change(t, "second")
		tj, second[own.tenant.Name] = own.run(t, "second")
		own.finish(t, tj)
	}
	other.awaitCopies(t, second[other.tenant.Name])
	Eventually(t, func(g gomega.Gomega) {
		c := conditions.Get(Get(t, g, broken.tenant).Status.Conditions, v1alpha1.ConditionReconciling)
		g.Expect(c.Message).To(gomega.ContainSubstring("the webhook is broken"))
		g.Expect(conditions.Ready(broken.tenant.Status.Conditions).Status).To(gomega.Equal(metav1.ConditionTrue))
	})
	tj, _ := broken.run(t, "second")
	broken.finish(t, tj)
	repaired.Store(true)
	broken.awaitCopies(t, second[broken.tenant.Name])
}

// TestReleasedNamespaceHasNoCredentials: when a namespace is released, the Secrets of its tenant's runs go, and no others, wherever the
// operator dies, and whatever somebody has taken off the namespace.
func TestReleasedNamespaceHasNoCredentials(t *testing.T) {
	const stripped = "everything taken off the namespace"
	steps := []string{
		stripped, "before DELETE Secret", "after DELETE Secret", "before DELETE RoleBinding", "after DELETE RoleBinding", "before release", "after release",
	}
	owns, sources := map[string]ownSecret{}, map[string]*Source{}
	for _, step := range steps {
		namespace := NewNamespace(t, nil)
		Create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace.Name, Name: "theirs", Labels: map[string]string{v1alpha1.LabelManaged: "true"},
		}})
		sources[step] = NewSource(t)
		spec := sources[step].WithCredential()
		spec.Namespace = &v1alpha1.TenantNamespace{Name: namespace.Name}
		own := newOwnSecret(t, spec)
		own.run(t, "first")
		own.change(t, "second")
		own.run(t, "second")
		if got := own.copies(t, gomega.NewWithT(t)); len(got) != 5 {
			t.Fatalf("there are %v, want two copies, a Secret for each run, and theirs", got)
		}
		owns[step] = own
	}
	expectReleased := func(t *testing.T, step string) {
		t.Helper()
		AwaitGone(t, owns[step].tenant.DeepCopy())
		g := gomega.NewWithT(t)
		g.Expect(Get(t, g, NamespaceOf(owns[step].tenant)).DeletionTimestamp).To(gomega.BeNil())
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(owns[step].copies(t, g)).To(gomega.ConsistOf("theirs"))
			g.Expect(sources[step].Live()).To(gomega.BeEmpty())
		})
	}
	t.Run(stripped, func(t *testing.T) {
		tenant := owns[stripped].tenant
		Patch(t, NamespaceOf(tenant), func(o *corev1.Namespace) {
			o.Annotations, o.Labels = nil, map[string]string{corev1.LabelMetadataName: o.Name}
		})
		Remove(t, tenant)
		// Without the label and the annotations it is any namespace, in which the operator may write nothing.
		AwaitCondition(t, tenant, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonProgressing, "annotate it with tenantry.dev/adopt-by")
		Consent(t, NamespaceOf(tenant), tenant.Name)
		expectReleased(t, stripped)
	})
	WithoutOperator(t)
	for _, step := range steps[1:] {
		t.Run(step, func(t *testing.T) {
			newKiller(step).run(t, func() { Remove(t, owns[step].tenant) }, func() {})
			expectReleased(t, step)
		})
	}
}
