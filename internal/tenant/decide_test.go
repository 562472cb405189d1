package tenant

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// The actions, for short.
const (
	create, apply, write, unlock, lock   = ActionCreateNamespace, ActionApplyNamespace, ActionWriteContents, ActionUnlock, ActionLock
	listJobs, orphans, listPods, delPods = ActionListJobs, ActionDeleteOrphans, ActionListPods, ActionDeletePods
	revoke, listTJs, delTJs              = ActionRevokeCredentials, ActionListTenantJobs, ActionDeleteTenantJobs
	listContents, listHeld               = ActionListContents, ActionListHeld
	release, delNamespace, readDeleted   = ActionReleaseNamespace, ActionDeleteNamespace, ActionReadNamespace
)

var (
	isReady     = reports(v1alpha1.ConditionReady, metav1.ConditionTrue)
	isSuspended = reports(v1alpha1.ConditionSuspended, metav1.ConditionTrue)

	stranger = &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "tenant-acme"}}
	aJob     = []*batchv1.Job{{ObjectMeta: called("a")}}
	goingJob = []*batchv1.Job{{ObjectMeta: called("a", "foregroundDeletion")}}
)

func drains(t *v1alpha1.Tenant) { t.Spec.SuspendPolicy = v1alpha1.SuspendPolicyDrain }

func retains(t *v1alpha1.Tenant) {
	t.Spec.Namespace = &v1alpha1.TenantNamespace{DeletionPolicy: v1alpha1.NamespaceRetain}
}

func podsOf(phase corev1.PodPhase) []corev1.Pod {
	return []corev1.Pod{{ObjectMeta: called("a"), Status: corev1.PodStatus{Phase: phase}}}
}

func strangersTerminating() *metav1.PartialObjectMetadata {
	n := terminatingNamespace(acme())
	n.Annotations = nil
	return n
}

func finishedTenantJob() v1alpha1.TenantJob {
	return v1alpha1.TenantJob{ObjectMeta: called("a"), Status: v1alpha1.TenantJobStatus{
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: metav1.ConditionTrue}},
	}}
}

func lateTenantJob() v1alpha1.TenantJob {
	late := called("late")
	late.CreationTimestamp = metav1.Unix(1000, 0)
	return v1alpha1.TenantJob{ObjectMeta: late}
}

// namesNamespace is a Tenant whose status says that it has adopted the namespace.
func namesNamespace(t *v1alpha1.Tenant) {
	t.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid", Adopted: true}
}

func adopted() *metav1.PartialObjectMetadata {
	n := owned(acme())
	n.Annotations[v1alpha1.AnnotationAdopted] = "true"
	return n
}

// decideCase is a Tenant that is decided about until there is nothing to do.
type decideCase struct {
	tenant *v1alpha1.Tenant
	// kept means that the namespace is as it should be for the Tenant before it was suspended or deleted.
	kept   bool
	change func(*world)
	want   []Action
	// ready and suspended are status and reason, progress is state and reason. Empty means that they are left as they are.
	ready, suspended, progress string
	after                      time.Duration
	gone, err                  bool
}

func (tc decideCase) test(t *testing.T) {
	w := &world{tenant: tc.tenant}
	if tc.kept {
		before := tc.tenant.DeepCopy()
		before.DeletionTimestamp, before.Spec.Suspend = nil, nil
		w.namespace = owned(before)
	}
	if tc.change != nil {
		tc.change(w)
	}
	actions, d := w.run(t)
	words := func(parts ...any) string { return strings.TrimSpace(fmt.Sprintln(parts...)) }
	want := []any{tc.want, tc.ready, tc.suspended, tc.progress, tc.after, tc.gone, tc.err}
	got := []any{
		actions, words(d.Ready.Status, d.Ready.Reason), words(d.Suspended.Status, d.Suspended.Reason),
		words(d.Progress.State, d.Progress.Reason), d.After, d.Gone, d.Err != nil,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("actions, ready, suspended, progress, after, gone, err (-want +got):\n%s", diff)
	}
}

func TestDecideActive(t *testing.T) {
	for name, tc := range map[string]decideCase{
		"new": {
			tenant: acme(), want: []Action{create, apply, write, unlock},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"unchanged": {
			tenant: acme(), kept: true, want: []Action{unlock},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"an older Tenant has the same external id": {
			tenant: acme(), kept: true, change: func(w *world) { w.sameExternalID = "globex" }, want: []Action{unlock},
			ready: "False InvalidSpec", suspended: "False Active", progress: "Stalled InvalidSpec",
		},
		"verified": {
			tenant: acme(), kept: true, change: func(w *world) { w.verify = true }, want: []Action{write, unlock, ActionListWorkloads},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"a label was changed by somebody": {
			tenant: acme(), kept: true, change: func(w *world) { w.namespace.Labels[v1alpha1.LabelState] = "suspended" }, want: []Action{apply, unlock},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"resumed": {
			tenant: acme(isSuspended), kept: true, change: func(w *world) { w.namespace.Labels[v1alpha1.LabelState] = "suspended" },
			want: []Action{apply, unlock}, ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"adopted": {
			tenant: acme(), change: func(w *world) {
				w.namespace = stranger.DeepCopy()
				w.namespace.Annotations = map[string]string{v1alpha1.AnnotationAdoptBy: "acme"}
			},
			want: []Action{listContents, apply, write, unlock}, ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"adopted, listing what is in it fails": {
			tenant: acme(), change: func(w *world) {
				w.namespace = stranger.DeepCopy()
				w.namespace.Annotations = map[string]string{v1alpha1.AnnotationAdoptBy: "acme"}
				w.fails, w.err = listContents, errOops
			},
			want: []Action{listContents}, ready: "Unknown Progressing", progress: "Reconciling Progressing", err: true,
		},
		"somebody else's objects have the operator's names": {
			tenant: acme(), kept: true, change: func(w *world) { w.verify, w.contents.Taken = true, []string{"ResourceQuota tenant-quota"} },
			want: []Action{write, unlock, ActionListWorkloads}, ready: "False NamespaceConflict", suspended: "False Active", progress: "Stalled NamespaceConflict", after: AdoptionInterval,
		},
		"somebody else's objects have the operator's names, suspended": {
			tenant: acme(suspended), change: func(w *world) { w.contents.Taken = []string{"ResourceQuota tenant-quota"} },
			want:  []Action{create, apply, write, lock, listJobs, listPods, revoke},
			ready: "False NamespaceConflict", suspended: "True Suspended", progress: "Stalled NamespaceConflict", after: AdoptionInterval,
		},
		"a stranger's namespace": {
			tenant: acme(), change: func(w *world) { w.namespace = stranger }, want: []Action{lock},
			ready: "False NamespaceConflict", suspended: "False Active", progress: "Stalled NamespaceConflict", after: AdoptionInterval,
		},
		"a stranger's namespace, suspended": {
			tenant: acme(suspended), change: func(w *world) { w.namespace = stranger }, want: []Action{lock},
			ready: "False NamespaceConflict", suspended: "True Suspended", progress: "Stalled NamespaceConflict", after: AdoptionInterval,
		},
		"a stranger's namespace, terminating": {
			tenant: acme(), change: func(w *world) { w.namespace = strangersTerminating() }, want: []Action{lock},
			ready: "False NamespaceTerminating", suspended: "False Active", progress: "Reconciling NamespaceTerminating", after: PollInterval,
		},
		"its namespace is terminating": {
			tenant: acme(), change: func(w *world) { w.namespace = terminatingNamespace(w.tenant) }, want: []Action{unlock},
			ready: "False NamespaceTerminating", suspended: "False Active", progress: "Reconciling NamespaceTerminating",
		},
		"creating the namespace fails": {
			tenant: acme(), change: func(w *world) { w.fails, w.err = create, errOops }, want: []Action{create},
			ready: "Unknown Progressing", progress: "Reconciling Progressing", err: true,
		},
		"applying the namespace fails, of a ready Tenant": {
			tenant: acme(isReady), kept: true, change: func(w *world) { w.namespace.Labels, w.fails, w.err = nil, apply, errOops }, want: []Action{apply},
			progress: "Reconciling Progressing", err: true,
		},
		"applying the namespace conflicts": {
			tenant: acme(), kept: true, change: func(w *world) { w.namespace.Labels, w.fails, w.err = nil, apply, errConflict }, want: []Action{apply},
			err: true,
		},
		"writing the contents fails": {
			tenant: acme(), change: func(w *world) { w.contents.Err = errOops }, want: []Action{create, apply, write, unlock},
			ready: "Unknown Progressing", suspended: "False Active", progress: "Reconciling Progressing", err: true,
		},
		"the contents are refused": {
			tenant: acme(), change: func(w *world) { w.contents.Refused = errOops }, want: []Action{create, apply, write, unlock},
			ready: "False InvalidSpec", suspended: "False Active", progress: "Stalled InvalidSpec",
		},
		"the contents are refused, for now": {
			tenant: acme(), change: func(w *world) { w.contents.Refused, w.contents.Err = errOops, errOops }, want: []Action{create, apply, write, unlock},
			ready: "False InvalidSpec", suspended: "False Active", progress: "Stalled InvalidSpec", err: true,
		},
		"the namespace is deleted while the contents are written": {
			tenant: acme(), kept: true, change: func(w *world) { w.verify, w.contents.Err = true, errTerminating }, want: []Action{write, unlock},
			ready: "False NamespaceTerminating", suspended: "False Active", progress: "Reconciling NamespaceTerminating",
		},
	} {
		t.Run(name, tc.test)
	}
}

func TestDecideSuspended(t *testing.T) {
	for name, tc := range map[string]decideCase{
		"suspended": {
			tenant: acme(suspended), kept: true, want: []Action{apply, lock, listJobs, listPods, revoke},
			ready: "True Ready", suspended: "True Suspended", progress: "Current Ready",
		},
		"suspended from the start": {
			tenant: acme(suspended), want: []Action{create, apply, write, lock, listJobs, listPods, revoke},
			ready: "True Ready", suspended: "True Suspended", progress: "Current Ready",
		},
		"suspended, a Job runs": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.cached = aJob }, want: []Action{apply, lock, orphans},
			ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling StoppingJobs", after: HeldInterval,
		},
		"suspended, the cache lacks a Job": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.jobs = aJob }, want: []Action{apply, lock, listJobs, orphans},
			ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling StoppingJobs", after: HeldInterval,
		},
		"suspended, a Job is being deleted": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.cached = goingJob }, want: []Action{apply, lock, orphans, listHeld},
			ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling StoppingJobs", after: HeldInterval,
		},
		"drained, a Job is being deleted": {
			tenant: acme(suspended, drains), kept: true, change: func(w *world) { w.cached = goingJob }, want: []Action{apply, lock, orphans, listHeld},
			ready: "True Ready", suspended: "Unknown DrainingJobs", progress: "Reconciling DrainingJobs", after: HeldInterval,
		},
		"drained, a Job runs": {
			tenant: acme(suspended, drains), kept: true, change: func(w *world) { w.cached = aJob }, want: []Action{apply, lock, orphans},
			ready: "True Ready", suspended: "Unknown DrainingJobs", progress: "Reconciling DrainingJobs", after: ResyncInterval,
		},
		"suspended, a pod is left": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.pods = podsOf(corev1.PodRunning) },
			want: []Action{apply, lock, listJobs, listPods, delPods}, ready: "True Ready", suspended: "Unknown DeletingPods", progress: "Reconciling DeletingPods", after: PollInterval,
		},
		"drained, a pod runs": {
			tenant: acme(suspended, drains), kept: true, change: func(w *world) { w.pods = podsOf(corev1.PodRunning) },
			want: []Action{apply, lock, listJobs, listPods}, ready: "True Ready", suspended: "Unknown DrainingJobs", progress: "Reconciling DrainingJobs", after: PollInterval,
		},
		"suspended, listing pods fails": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.fails, w.err = listPods, errOops },
			want: []Action{apply, lock, listJobs, listPods}, ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling Progressing", err: true,
		},
		"suspended, deleting a pod fails": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.pods, w.fails, w.err = podsOf(corev1.PodPending), delPods, errOops },
			want: []Action{apply, lock, listJobs, listPods, delPods}, ready: "True Ready", suspended: "Unknown DeletingPods", progress: "Reconciling Progressing", after: PollInterval, err: true,
		},
		"suspended, revoking credentials fails": {
			tenant: acme(suspended), kept: true, change: func(w *world) { w.fails, w.err = revoke, errOops },
			want: []Action{apply, lock, listJobs, listPods, revoke}, ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling Progressing", err: true,
		},
		"suspended, the contents are refused": {
			tenant: acme(suspended), change: func(w *world) { w.contents.Refused, w.pods = errOops, podsOf(corev1.PodRunning) },
			want:  []Action{create, apply, write, lock, listJobs, listPods, delPods},
			ready: "False InvalidSpec", suspended: "Unknown DeletingPods", progress: "Stalled InvalidSpec", after: PollInterval,
		},
		"suspended, writing the contents fails": {
			tenant: acme(suspended), change: func(w *world) { w.contents.Err = errOops },
			want:  []Action{create, apply, write, lock, listJobs, listPods, revoke},
			ready: "Unknown Progressing", suspended: "True Suspended", progress: "Reconciling Progressing", err: true,
		},
		"suspended before": {
			tenant: acme(suspended, isSuspended), change: func(w *world) { w.namespace = owned(w.tenant) }, want: []Action{lock},
			ready: "True Ready", progress: "Current Ready",
		},
		"suspended before, somebody changed the state": {
			tenant: acme(suspended, isSuspended), kept: true, want: []Action{apply, lock, listJobs, listPods, revoke},
			ready: "True Ready", suspended: "True Suspended", progress: "Current Ready",
		},
		"suspended before, somebody changed the state, a pod runs": {
			tenant: acme(suspended, isSuspended), kept: true, change: func(w *world) { w.pods = podsOf(corev1.PodRunning) },
			want: []Action{apply, lock, listJobs, listPods, delPods}, ready: "True Ready", suspended: "Unknown DeletingPods", progress: "Reconciling DeletingPods", after: PollInterval,
		},
		"suspended before, somebody changed the state, listing pods fails": {
			tenant: acme(suspended, isSuspended), kept: true, change: func(w *world) { w.fails, w.err = listPods, errOops },
			want: []Action{apply, lock, listJobs, listPods}, ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling Progressing", err: true,
		},
		"suspended before the spec changed": {
			tenant: acme(suspended, isSuspended, func(t *v1alpha1.Tenant) { t.Generation++ }), change: func(w *world) { w.namespace = owned(w.tenant) },
			want: []Action{lock, listJobs, listPods, revoke}, ready: "True Ready", suspended: "True Suspended", progress: "Current Ready",
		},
		"credentials live": {
			tenant: acme(suspended), change: func(w *world) { w.namespace, w.credentials = owned(w.tenant), []string{"report"} },
			want: []Action{lock, listJobs, listPods, revoke}, ready: "True Ready", suspended: "Unknown RevokingCredentials", progress: "Reconciling RevokingCredentials", after: PollInterval,
		},
		"being deleted, credentials live": {
			tenant: acme(deleted), change: func(w *world) { w.namespace, w.credentials = owned(w.tenant), []string{"report"} },
			want: []Action{lock, listJobs, listPods, revoke}, ready: "False RevokingCredentials", suspended: "Unknown RevokingCredentials", progress: "Reconciling RevokingCredentials", after: PollInterval,
		},
		"suspended before, a Job runs": {
			tenant: acme(suspended, isSuspended), change: func(w *world) { w.namespace, w.cached = owned(w.tenant), aJob },
			want: []Action{lock, orphans}, ready: "True Ready", suspended: "Unknown StoppingJobs", progress: "Reconciling StoppingJobs", after: HeldInterval,
		},
		"suspended before, verified, a pod runs": {
			tenant: acme(suspended, isSuspended), change: func(w *world) { w.namespace, w.verify, w.pods = owned(w.tenant), true, podsOf(corev1.PodRunning) },
			want: []Action{write, lock, listJobs, listPods, delPods}, ready: "True Ready", suspended: "Unknown DeletingPods", progress: "Reconciling DeletingPods", after: PollInterval,
		},
		"suspended before, verified, listing pods fails": {
			tenant: acme(suspended, isSuspended), change: func(w *world) { w.namespace, w.verify, w.fails, w.err = owned(w.tenant), true, listPods, errOops },
			want: []Action{write, lock, listJobs, listPods}, ready: "True Ready", progress: "Reconciling Progressing", err: true,
		},
	} {
		t.Run(name, tc.test)
	}
}

func TestDecideDeleted(t *testing.T) {
	for name, tc := range map[string]decideCase{
		"deleted": {
			tenant: acme(deleted), kept: true, want: []Action{lock, apply, listJobs, listPods, revoke, listTJs, delNamespace, readDeleted}, suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, the namespace takes a while": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.left = &corev1.Namespace{} },
			want:  []Action{lock, apply, listJobs, listPods, revoke, listTJs, delNamespace, readDeleted},
			ready: "False DeletingNamespace", suspended: "Unknown DeletingNamespace", progress: "Reconciling DeletingNamespace", after: ResyncInterval,
		},
		"deleted, the namespace is terminating": {
			tenant: acme(deleted), change: func(w *world) { w.namespace, w.left = terminatingNamespace(w.tenant), &corev1.Namespace{} },
			want: []Action{lock, readDeleted, listHeld}, ready: "False DeletingNamespace", suspended: "Unknown DeletingNamespace", progress: "Reconciling DeletingNamespace", after: ResyncInterval,
		},
		"deleted, a running pod does not drain": {
			tenant: acme(deleted, drains), kept: true, change: func(w *world) { w.pods = podsOf(corev1.PodRunning) },
			want: []Action{lock, apply, listJobs, listPods, delPods}, ready: "False DeletingPods", suspended: "Unknown DeletingPods", progress: "Reconciling DeletingPods", after: PollInterval,
		},
		"deleted, a TenantJob is left": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.tenantJobs = []v1alpha1.TenantJob{finishedTenantJob()} },
			want:  []Action{lock, apply, listJobs, listPods, revoke, listTJs, delTJs},
			ready: "False DeletingNamespace", suspended: "Unknown DeletingNamespace", progress: "Reconciling DeletingNamespace", after: PollInterval,
		},
		"deleted, the operator's rights are written again": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.verify = true },
			want: []Action{lock, apply, write, listJobs, listPods, revoke, listTJs, delNamespace, readDeleted}, suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, the operator's rights can't be written": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.verify, w.contents.Err, w.contents.Rights = true, errOops, errOops },
			want: []Action{lock, apply, write}, ready: "Unknown Progressing", suspended: "Unknown StoppingJobs", progress: "Reconciling Progressing", err: true,
		},
		"deleted, something else can't be written": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.verify, w.contents.Err = true, errOops },
			want:      []Action{lock, apply, write, listJobs, listPods, revoke, listTJs, delNamespace, readDeleted},
			suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, somebody else's objects have the operator's names": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.verify, w.contents.Taken = true, []string{"ResourceQuota tenant-quota"} },
			want:      []Action{lock, apply, write, listJobs, listPods, revoke, listTJs, delNamespace, readDeleted},
			suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, its members go first": {
			tenant: acme(deleted, members(member(v1alpha1.RoleDispatcher, v1alpha1.SubjectUser, "", "ann"))), kept: true,
			change: func(w *world) { w.cached = aJob }, want: []Action{lock, apply, write, orphans},
			ready: "False StoppingJobs", suspended: "Unknown StoppingJobs", progress: "Reconciling StoppingJobs", after: HeldInterval,
		},
		"deleted, TenantJobs go on being created": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.tenantJobs = []v1alpha1.TenantJob{lateTenantJob()} },
			want:      []Action{lock, apply, listJobs, listPods, revoke, listTJs, delTJs, delNamespace, readDeleted},
			suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, Jobs of nobody's go on being created": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.jobs = []*batchv1.Job{{ObjectMeta: lateTenantJob().ObjectMeta}} },
			want:      []Action{lock, apply, listJobs, orphans, listPods, revoke, listTJs, delNamespace, readDeleted},
			suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, the Job of a TenantJob was created late": {
			tenant: acme(deleted), kept: true, change: func(w *world) {
				run := &batchv1.Job{ObjectMeta: lateTenantJob().ObjectMeta}
				run.CreationTimestamp.Time = w.tenant.DeletionTimestamp.Add(startsEnd)
				run.OwnerReferences = []metav1.OwnerReference{{Kind: "TenantJob", Controller: new(true)}}
				w.jobs = []*batchv1.Job{run}
			},
			want:  []Action{lock, apply, listJobs, orphans},
			ready: "False StoppingJobs", suspended: "Unknown StoppingJobs", progress: "Reconciling StoppingJobs", after: HeldInterval,
		},
		"deleted, Jobs that name a TenantJob go on being created": {
			tenant: acme(deleted), kept: true, change: func(w *world) {
				forged := &batchv1.Job{ObjectMeta: lateTenantJob().ObjectMeta}
				forged.CreationTimestamp.Time = w.tenant.DeletionTimestamp.Add(startsEnd + time.Second)
				forged.OwnerReferences = []metav1.OwnerReference{{Kind: "TenantJob", Controller: new(true)}}
				w.jobs = []*batchv1.Job{forged}
			},
			want:      []Action{lock, apply, listJobs, orphans, listPods, revoke, listTJs, delNamespace, readDeleted},
			suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted, one of its TenantJobs is being deleted while others go on being created": {
			tenant: acme(deleted), kept: true, change: func(w *world) {
				going := finishedTenantJob()
				going.DeletionTimestamp = &metav1.Time{Time: time.Unix(2, 0)}
				w.tenantJobs = []v1alpha1.TenantJob{going, lateTenantJob()}
			},
			want:  []Action{lock, apply, listJobs, listPods, revoke, listTJs, delTJs, listHeld},
			ready: "False DeletingNamespace", suspended: "Unknown DeletingNamespace", progress: "Reconciling DeletingNamespace", after: PollInterval,
		},
		"deleted and retained, the status still names the namespace": {
			tenant: acme(deleted, retains, namesNamespace), kept: true, want: []Action{lock, apply, listJobs, listPods, revoke, listTJs},
			ready: "False DeletingNamespace", suspended: "Unknown DeletingNamespace", progress: "Reconciling DeletingNamespace", after: releaseInterval,
		},
		"deleted, something else is refused": {
			tenant: acme(deleted), kept: true, change: func(w *world) { w.verify, w.contents.Refused = true, errOops },
			want: []Action{lock, apply, write, listJobs, listPods, revoke, listTJs, delNamespace, readDeleted}, suspended: "Unknown StoppingJobs", gone: true,
		},
		"deleted and retained": {
			tenant: acme(deleted, retains), kept: true, want: []Action{lock, apply, listJobs, listPods, revoke, listTJs, release}, gone: true,
		},
		"deleted, the release fails": {
			tenant: acme(deleted, retains), kept: true, change: func(w *world) { w.fails, w.err = release, errOops },
			want: []Action{lock, apply, listJobs, listPods, revoke, listTJs, release}, ready: "Unknown Progressing", suspended: "Unknown StoppingJobs", progress: "Reconciling Progressing", err: true,
		},
		"deleted without a namespace":         {tenant: acme(deleted), want: []Action{lock}, gone: true},
		"deleted with a stranger's namespace": {tenant: acme(deleted), change: func(w *world) { w.namespace = stranger }, want: []Action{lock}, gone: true},
	} {
		t.Run(name, tc.test)
	}
}

// TestDecideStatus: what the status says beside its conditions.
func TestDecideStatus(t *testing.T) {
	cases := map[string]struct {
		tenant    *v1alpha1.Tenant
		namespace *metav1.PartialObjectMetadata
		fails     Action
		want      *NamespaceStatus
	}{
		"adopted": {acme(), adopted(), "", &NamespaceStatus{&v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid", Adopted: true}, "active"}},
		"adopted, nothing on it says so any more": {
			acme(namesNamespace), owned(acme()), "", &NamespaceStatus{&v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid", Adopted: true}, "active"},
		},
		"deleted, its jobs are stopped": {
			acme(deleted, namesNamespace), adopted(), "", &NamespaceStatus{&v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid", Adopted: true}, "deleting"},
		},
		"deleted, about to be gone": {acme(deleted), adopted(), "", &NamespaceStatus{nil, "deleting"}},
		"active":                    {acme(), owned(acme()), "", &NamespaceStatus{&v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid"}, "active"}},
		"suspended":                 {acme(suspended), owned(acme()), "", &NamespaceStatus{&v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid"}, "suspended"}},
		"the label not written":     {acme(suspended), owned(acme()), ActionApplyNamespace, nil},
		"a stranger's namespace":    {acme(), &metav1.PartialObjectMetadata{}, "", &NamespaceStatus{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := &world{tenant: tc.tenant, namespace: tc.namespace, fails: tc.fails, err: errOops, cached: []*batchv1.Job{{}, {}}}
			_, d := w.run(t)
			if diff := cmp.Diff(tc.want, d.Namespace); diff != "" {
				t.Errorf("namespace (-want +got):\n%s", diff)
			}
			if d.Running == nil || *d.Running != 2 {
				t.Errorf("running: %v, want 2", d.Running)
			}
		})
	}
}

// TestDecideForgetsBeforeItReleases: nothing says that a released namespace is the tenant's, so a second try can't delete it.
func TestDecideForgetsBeforeItReleases(t *testing.T) {
	w := &world{tenant: acme(deleted, namesNamespace), namespace: adopted()}
	actions, d := w.run(t)
	if slices.Contains(actions, release) || d.Namespace == nil || d.Namespace.Ref != nil {
		t.Fatalf("did %v and reports namespace %v, want no release and no namespace", actions, d.Namespace)
	}
	w.tenant.Status.Namespace = d.Namespace.Ref
	if actions, d = w.run(t); !slices.Contains(actions, release) || !d.Gone {
		t.Fatalf("did %v, want a release", actions)
	}
	for name, annotations := range map[string]map[string]string{
		"as it was released":           {v1alpha1.AnnotationAdoptBy: "acme"},
		"and the consent is taken off": nil,
	} {
		w.namespace = &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "tenant-acme", UID: "namespace-uid", Annotations: annotations}}
		if actions, d = w.run(t); !d.Gone || len(actions) != 1 {
			t.Errorf("%s: did %v again", name, actions)
		}
	}
}
