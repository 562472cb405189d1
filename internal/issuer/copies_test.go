package issuer

import (
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testingclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/kube"
)

// ownWorld is a world in which the credential is the tenant's own.
func ownWorld() world {
	w := newWorld("secrets")
	w.sources["secrets"].can = credential.Capabilities{}
	w.tenant.Status.Namespace = &v1alpha1.TenantNamespaceStatus{UID: "namespace"}
	return w
}

// startIssue has a worker begin to issue the credential.
func (w world) startIssue() *task {
	t, _ := w.taskOf(w.sources["secrets"], item{w.tj.UID, "database"})
	if t == nil || !w.beginIssue(t) {
		return nil
	}
	return t
}

func (w world) endIssueWith(t *task, secret string) {
	w.issued(w.sources["secrets"], item{w.tj.UID, "database"}, delivered{secret: secret}, nil)
	w.endIssue(t)
}

// deletable says whether a copy would be deleted now.
func (w world) deletable(name string) bool {
	copies := []v1alpha1.CopiedSecret{{Name: name, Credential: "database"}}
	free := w.beginDeletion(w.tenant.UID, copies)
	w.endDeletion(w.tenant.UID, free)
	return len(free) == 1
}

// TestCopyInUse: from when a worker looks for the copy that a run gets until the run is over, that copy stays.
func TestCopyInUse(t *testing.T) {
	t.Parallel()
	w := ownWorld()
	w.issue()
	if !w.deletable("first") {
		t.Error("nobody has it")
	}
	worker := w.startIssue()
	if w.deletable("first") {
		t.Error("it may be the one that the run gets")
	}
	w.endIssueWith(worker, "second")
	if !w.deletable("first") || w.deletable("second") {
		t.Error("the run has the second one, and no other")
	}
	other := world{Issuer: w.Issuer, tj: w.tj, tenant: w.tenant.DeepCopy(), template: w.template}
	if other.tenant.UID = "globex"; !other.deletable("second") {
		t.Error("another tenant's copy may have the same name")
	}
	w.Revoke(w.tj)
	if !w.Standing(w.tj).Revoked || !w.deletable("second") {
		t.Error("nobody has it any more")
	}
}

// TestIssueWhileCopyIsDeleted: no run is given a copy that is being deleted.
func TestIssueWhileCopyIsDeleted(t *testing.T) {
	t.Parallel()
	w := ownWorld()
	w.issue()
	free := w.beginDeletion(w.tenant.UID, []v1alpha1.CopiedSecret{{Name: "first", Credential: "database"}})
	if w.startIssue() != nil {
		t.Error("the worker should wait")
	}
	w.endDeletion(w.tenant.UID, free)
	if w.startIssue() == nil {
		t.Error("the worker should go on")
	}
}

// TestRevokeWhileIssuing: nothing counts as revoked while a worker may still deliver it.
func TestRevokeWhileIssuing(t *testing.T) {
	t.Parallel()
	w := ownWorld()
	w.issue()
	worker := w.startIssue()
	for range 2 {
		if left, err := w.RevokeTenant(t.Context(), w.tenant); err != nil || !slices.Equal(left, []string{w.tj.Name}) {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	w.endIssueWith(worker, "first")
	if left, err := w.RevokeTenant(t.Context(), w.tenant); err != nil || len(left) > 0 {
		t.Errorf("left when the worker has ended: %v, %v", left, err)
	}
}

// TestCopyIsMadeAgain: a copy that is certainly there costs no write, until it may be gone.
func TestCopyIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := ownWorld()
	w.tenant.Status.CopiedSecrets = []v1alpha1.CopiedSecret{{Name: "first"}}
	clock := w.clock.(*testingclock.FakeClock)
	for name, change := range map[string]func(){
		"some time passes":            func() { clock.Step(madeLasts) },
		"the namespace is made again": func() { w.tenant.Status.Namespace.UID += "'" },
		"it is deleted":               func() { w.forgetCopy(w.tenant, "first") },
	} {
		if w.noteMade(w.tenant, "first"); !w.isMade(w.tenant, "first") {
			t.Error("it was made a moment ago")
		}
		if change(); w.isMade(w.tenant, "first") {
			t.Errorf("when %s, it may be gone", name)
		}
	}
	clock.Step(madeLasts)
	if w.forgetMade(); len(w.made) > 0 {
		t.Errorf("remembered: %v", w.made)
	}
}

// TestRunIsAbandoned: a run is forgotten whose TenantJob is gone, if it had only what is the tenant's own.
func TestRunIsAbandoned(t *testing.T) {
	t.Parallel()
	w := ownWorld()
	w.issue()
	w.endIssueWith(w.startIssue(), "first")
	w.tenantJob = func(credential.Run) *v1alpha1.TenantJob { return w.tj }
	if w.abandon(); !w.Standing(w.tj).Issued {
		t.Fatal("its TenantJob is there")
	}
	w.tenantJob = func(credential.Run) *v1alpha1.TenantJob { return nil }
	if w.abandon(); len(w.runs) > 0 {
		t.Errorf("runs: %v", w.runs)
	}
}

// TestDeleteCopiesThatJobsMount: a copy stays that the Job of an earlier process mounts, until that Job has ended.
func TestDeleteCopiesThatJobsMount(t *testing.T) {
	t.Parallel()
	w := ownWorld()
	within := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: w.tenant.NamespaceName(), Name: name, Labels: map[string]string{v1alpha1.LabelTenant: w.tenant.Name}}
	}
	mounting := func(name, secret string, conditions ...batchv1.JobCondition) *batchv1.Job {
		volume := corev1.Volume{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}
		return &batchv1.Job{
			ObjectMeta: within(name), Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Volumes: []corev1.Volume{volume}}}},
			Status: batchv1.JobStatus{Conditions: conditions},
		}
	}
	const mounted, free, gone = kube.CopyPrefix + "database-1", kube.CopyPrefix + "database-2", kube.CopyPrefix + "database-3"
	api := fake.NewClientBuilder().WithObjects(
		mounting("goes-on", mounted), mounting("has-ended", free, batchv1.JobCondition{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}),
		&corev1.Secret{ObjectMeta: within(mounted)}, &corev1.Secret{ObjectMeta: within(free)},
	).Build()
	w.Client = kube.Client{Client: api, Live: api}
	deleted, err := w.DeleteCopies(t.Context(), w.tenant, []v1alpha1.CopiedSecret{{Name: mounted}, {Name: free}, {Name: gone}})
	if want := []string{free, gone}; err != nil || !slices.Equal(deleted, want) {
		t.Errorf("deleted: %v, %v; want %v", deleted, err, want)
	}
	var left corev1.SecretList
	if err := api.List(t.Context(), &left); err != nil || len(left.Items) != 1 || left.Items[0].Name != mounted {
		t.Errorf("left: %v, %v", left.Items, err)
	}
}
