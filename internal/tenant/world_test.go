package tenant

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

var (
	errOops        = errors.New("oops")
	errTerminating = &apierrors.StatusError{ErrStatus: metav1.Status{
		Reason: metav1.StatusReasonForbidden, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}},
	}}
	errConflict = apierrors.NewConflict(schema.GroupResource{Resource: "things"}, "a", errOops)
)

// world is a cluster in which actions are carried out.
type world struct {
	tenant *v1alpha1.Tenant
	// namespace has the metadata of the tenant's namespace. Nil means that there is none.
	namespace *metav1.PartialObjectMetadata
	verify    bool
	// sameExternalID is an older Tenant with the same external id.
	sameExternalID string
	// contents is the result of writing the contents.
	contents ContentsResult
	// cached are the Jobs in the cache, and jobs those in the API server.
	cached, jobs []*batchv1.Job
	pods         []corev1.Pod
	tenantJobs   []v1alpha1.TenantJob
	// credentials are the TenantJobs of which some are not revoked.
	credentials []string
	held        []HeldObject
	// mounted are the copied Secrets that Jobs in the cache mount, replaced those whose originals have changed, and deleted those that the
	// deletion finds to be nobody's.
	mounted           map[string]bool
	replaced, deleted []string
	// copiesErr is why the copies can't be checked or deleted.
	copiesErr error
	// left is the terminating namespace. Nil means that it is gone at once.
	left *corev1.Namespace
	// fails is an action that fails with err.
	fails Action
	err   error
}

func (w *world) observe() Observed {
	o := Observed{Tenant: w.tenant, Namespace: w.namespace, Jobs: w.cached, Verify: w.verify, Enforcement: v1alpha1.EnforcementEnforce, SameExternalID: w.sameExternalID, MountedCopies: w.mounted}
	o.Claim, o.ClaimMessage = ClaimOf(w.tenant, w.namespace, "tenantry-system", func(string) bool { return false })
	s := settings()
	s.Adoption = AdoptionOf(w.tenant, w.namespace, o.Claim)
	o.Desired = DesiredOf(w.tenant, s)
	return o
}

// act carries an action out on o.
func (w *world) act(o *Observed, a Action) error {
	if a == w.fails {
		return w.err
	}
	write := func(withHash bool) {
		n := o.Namespace.DeepCopy()
		n.Labels, n.Annotations = maps.Clone(o.Desired.Labels), maps.Clone(o.Desired.Annotations)
		if withHash {
			n.Annotations[v1alpha1.AnnotationDesiredHash] = o.Desired.Hash
		}
		o.Namespace = n
	}
	switch a {
	case ActionCreateNamespace:
		o.Namespace = &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "tenant-acme", UID: "namespace-uid"}}
	case ActionApplyNamespace:
		write(o.Desired.WrittenTo(o.Namespace))
	case ActionWriteContents:
		if o.Contents = w.contents; w.contents.Refused == nil && w.contents.Err == nil && len(w.contents.Taken) == 0 {
			write(true)
		}
	case ActionListJobs:
		o.Jobs = w.jobs
	case ActionListPods:
		o.Pods = w.pods
	case ActionRevokeCredentials:
		o.Credentials = w.credentials
	case ActionCheckCopies:
		o.ReplacedCopies, o.CopiesErr = w.replaced, w.copiesErr
	case ActionDeleteCopies:
		o.DeletedCopies, o.CopiesErr = w.deleted, errors.Join(o.CopiesErr, w.copiesErr)
	case ActionListTenantJobs:
		o.TenantJobs = w.tenantJobs
	case ActionListHeld:
		o.Held = w.held
	case ActionReadNamespace:
		o.DeletedNamespace = w.left
	}
	return nil
}

// run decides and acts as the controller does. It fails the test if an action is repeated, or comes where it never may.
func (w *world) run(t *testing.T) ([]Action, Decision) {
	t.Helper()
	o := w.observe()
	for {
		d := Decide(o)
		for _, wrong := range w.violations(o, d) {
			t.Errorf("%s, after %v", wrong, o.Done)
		}
		if d.Action == ActionNone || t.Failed() {
			return o.Done, d
		}
		if err := w.act(&o, d.Action); err != nil {
			return append(o.Done, d.Action), d.Failed(o.Tenant, err)
		}
		o.Done = append(o.Done, d.Action)
	}
}

// isNeeded says whether a run has a copied Secret, or the next one gets it.
func (w *world) isNeeded(name string) bool {
	old := slices.ContainsFunc(OldCopies(w.tenant), func(c v1alpha1.CopiedSecret) bool { return c.Name == name })
	return w.mounted[name] || !old && !slices.Contains(w.replaced, name)
}

// violations says what a decision does that none may do.
func (w *world) violations(o Observed, d Decision) (all []string) {
	never := func(wrong bool, what string) {
		if wrong {
			all = append(all, what)
		}
	}
	state := ""
	if o.Namespace != nil {
		state = o.Namespace.Labels[v1alpha1.LabelState]
	}
	has := o.Claim != Conflict && o.Claim != Terminating
	fenced := state != v1alpha1.StateActive && state != "" && o.Did(ActionLock)
	stopped := fenced && len(o.awaitedJobs()) == 0 && o.Did(ActionListJobs) && o.Did(ActionListPods) && o.Did(ActionRevokeCredentials) && len(o.Credentials) == 0 &&
		!slices.ContainsFunc(o.Pods, func(p corev1.Pod) bool {
			return p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
		})
	ends := d.Action == ActionReleaseNamespace || d.Action == ActionDeleteNamespace
	never(d.Action != ActionNone && o.Did(d.Action), fmt.Sprintf("%s is repeated", d.Action))
	never(!has && d.Action != ActionNone && d.Action != ActionLock, "somebody else's namespace is touched")
	never(d.Action == ActionUnlock && (state != v1alpha1.StateActive || o.Tenant.Suspended() || o.isDeleting()), "starts are allowed too early")
	never(o.Tenant.Suspended() && d.Suspended.Status == metav1.ConditionFalse, "a suspended tenant is reported active")
	never(has && d.Suspended.Status == metav1.ConditionTrue && !stopped, "suspension is reported while something may run")
	never(slices.Contains([]Action{ActionListJobs, ActionListPods, ActionRevokeCredentials}, d.Action) && !fenced, "counted before the fence")
	early := slices.ContainsFunc(o.TenantJobs, func(tj v1alpha1.TenantJob) bool { return !tj.CreationTimestamp.After(o.Tenant.DeletionTimestamp.Time) })
	never(ends && (!stopped || early || !o.Did(ActionListTenantJobs) || o.Claim != Owned), "the namespace goes before what is in it")
	never(d.Action == ActionReleaseNamespace && o.Tenant.Status.Namespace != nil, "the namespace is released while the status says that it is the tenant's")
	never(o.Claim == Owned && o.isDeleting() && d.Suspended.Status != metav1.ConditionUnknown && !d.Gone, "the jobs of a Tenant that is being deleted are said to be active or suspended")
	never(d.Action == ActionApplyNamespace && o.Claim == Adoptable && !o.Did(ActionListContents), "a namespace is adopted before what is in it is known")
	never(d.Action == ActionDeleteCopies && slices.ContainsFunc(o.CopiesToDelete(), func(c v1alpha1.CopiedSecret) bool { return w.isNeeded(c.Name) }),
		"a copy of a Secret is deleted that somebody needs")
	never(ends && o.Contents.Rights != nil, "the namespace goes while members may have rights in it")
	never(ends && !o.isDeleting(), "the namespace of a Tenant goes that stays")
	never(d.Action == ActionDeleteNamespace && Retains(o.Tenant, o.Namespace), "a namespace is deleted that is to be retained")
	never(d.Gone && o.Claim == Owned && !o.Did(ActionReleaseNamespace) && (!o.Did(ActionReadNamespace) || o.DeletedNamespace != nil), "gone too early")
	never(d.Ready.Status == metav1.ConditionTrue && d.Progress.State == conditions.Stalled, "ready and stalled")
	never(!d.Gone && d.Action == ActionNone && d.Err == nil && d.Ready == (Condition{}), "nothing is said about Ready")
	return all
}

// owned returns the metadata of acme's namespace as it is when everything is written for this Tenant.
func owned(t *v1alpha1.Tenant) *metav1.PartialObjectMetadata {
	d := DesiredOf(t, settings())
	d.Annotations[v1alpha1.AnnotationDesiredHash] = d.Hash
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: "tenant-acme", UID: "namespace-uid", Labels: d.Labels, Annotations: d.Annotations,
	}}
}

func reports(conditionType string, status metav1.ConditionStatus) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) {
		conditions.Of(&t.Status.Conditions, t.Generation).Set(conditionType, status, "Before", "")
	}
}

func terminatingNamespace(t *v1alpha1.Tenant) *metav1.PartialObjectMetadata {
	n := owned(t)
	n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	return n
}

// FuzzDecide holds every decision to what must never happen, whatever the actions find.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		for range 200 {
			anyWorld(random).run(t)
		}
	})
}

func anyWorld(random *rand.Rand) *world {
	maybe := func(n int) bool { return random.IntN(n) == 0 }
	w := &world{tenant: acme(), verify: maybe(4)}
	for _, change := range []func(*v1alpha1.Tenant){
		suspended, deleted, reports(v1alpha1.ConditionSuspended, metav1.ConditionTrue), reports(v1alpha1.ConditionReady, metav1.ConditionTrue),
		func(t *v1alpha1.Tenant) { t.Spec.SuspendPolicy = v1alpha1.SuspendPolicyDrain },
		func(t *v1alpha1.Tenant) {
			t.Spec.Namespace = &v1alpha1.TenantNamespace{DeletionPolicy: v1alpha1.NamespaceRetain}
		},
		func(t *v1alpha1.Tenant) {
			t.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid", Adopted: maybe(2)}
		},
	} {
		if maybe(3) {
			change(w.tenant)
		}
	}
	if !maybe(8) {
		w.namespace = owned(w.tenant)
		if maybe(3) {
			w.namespace.Labels[v1alpha1.LabelState] = v1alpha1.StateActive
		}
		for _, key := range []string{v1alpha1.AnnotationTenantUID, v1alpha1.AnnotationDesiredHash} {
			if maybe(8) {
				delete(w.namespace.Annotations, key)
			}
		}
		for key, value := range map[string]string{v1alpha1.AnnotationAdopted: "true", v1alpha1.AnnotationAdoptBy: "acme"} {
			if maybe(8) {
				w.namespace.Annotations[key] = value
			}
		}
		if maybe(8) {
			w.namespace.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
	}
	if maybe(2) {
		w.tenant.Spec.Credentials = []v1alpha1.TenantCredential{{Name: "stripe", SecretRef: &v1alpha1.LocalReference{Name: "a"}}}
		for _, name := range []string{"1", "2", "3"} {
			w.tenant.Status.CopiedSecrets = append(w.tenant.Status.CopiedSecrets, copied(name, "stripe", "", []string{"a", "b"}[random.IntN(2)]))
		}
		w.mounted = map[string]bool{"1": maybe(2), "2": maybe(2), "3": maybe(2)}
	}
	if maybe(4) {
		w.replaced = []string{"3"}
	}
	if maybe(8) {
		w.copiesErr = errOops
	}
	if maybe(3) {
		w.jobs = []*batchv1.Job{{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Unix(random.Int64N(3), 0)}}}
	}
	if maybe(3) {
		w.cached = []*batchv1.Job{{}}
	}
	if maybe(3) {
		phases := []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed}
		w.pods = []corev1.Pod{{Status: corev1.PodStatus{Phase: phases[random.IntN(len(phases))]}}}
	}
	if maybe(3) {
		w.tenantJobs = []v1alpha1.TenantJob{{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Unix(random.Int64N(3), 0)}}}
	}
	if maybe(2) {
		w.left = &corev1.Namespace{}
	}
	if maybe(8) {
		w.contents.Taken = []string{"ResourceQuota tenant-quota"}
	}
	for _, problem := range []*error{&w.contents.Refused, &w.contents.Err, &w.contents.Rights} {
		if maybe(8) {
			*problem = errOops
		}
	}
	return w
}
