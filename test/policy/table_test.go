package policy_test

import (
	"context"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/config/policy"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// attacks are the attacks that one request is, and beside each what must still be allowed.
func attacks(w world) []attack {
	return slices.Concat(tenantJobAttacks(w), namespaceAttacks(w), workloadAttacks(w), runAttacks(w), infraAttacks(w), accessAttacks(w), operatorAttacks(w), protectionAttacks(w))
}

func tenantJobAttacks(w world) []attack {
	acme := w.acme.NamespaceName()
	named := func(name string) func(*v1alpha1.TenantJob) { return func(o *v1alpha1.TenantJob) { o.Name = name } }
	tag := label[*v1alpha1.TenantJob](v1alpha1.TagPrefix+"payment", "8231")
	cancel := func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) }
	fanOutOwner := metav1.OwnerReference{APIVersion: v1alpha1.GroupVersion.String(), Kind: "TenantFanOut", Name: "theirs", UID: "1"}
	return []attack{
		{name: "TenantJob of another tenant", as: member, do: create(tj(w.acme, w.globex, w.open, nil)), refused: "`spec.tenantRef.name` must be " + w.acme.Name, probe: true},
		{name: "TenantJob of another tenant, by root", as: root, do: create(tj(w.acme, w.globex, w.open, nil)), refused: "`spec.tenantRef.name` must be " + w.acme.Name},
		{name: "TenantJob of another tenant, by the operator", as: operator, do: create(tj(w.acme, w.globex, w.open, nil)), refused: "`spec.tenantRef.name` must be " + w.acme.Name},
		{name: "TenantJob of another tenant, by the application", as: dispatcher, do: create(tj(w.acme, w.globex, w.open, nil)), refused: "`spec.tenantRef.name` must be " + w.acme.Name},
		{name: "TenantJob in a namespace that is no tenant's", as: root, do: func() doing {
			o := tj(w.acme, w.acme, w.open, nil)
			o.Namespace = w.theirs.Name
			return create(o)
		}(), refused: "belongs to no tenant"},
		{name: "member dispatches an open template", as: member, do: create(tj(w.acme, w.acme, w.open, tag))},
		{name: "member dispatches a closed template", as: member, do: create(tj(w.acme, w.acme, w.closed, nil)), refused: "open to its members are " + w.open.Name},
		{name: "developer dispatches a closed template", as: developer, do: create(tj(w.acme, w.acme, w.closed, nil)), refused: "may not dispatch template " + w.closed.Name},
		{name: "developer dispatches where no template is open", as: developer, do: create(tj(w.globex, w.globex, w.closed, nil)), refused: "no template is open to its members"},
		{name: "application dispatches a closed template", as: dispatcher, do: create(tj(w.acme, w.acme, w.closed, tag))},
		{name: "root dispatches a closed template", as: root, do: create(tj(w.acme, w.acme, w.closed, nil))},
		{name: "operator dispatches a closed template", as: operator, do: create(tj(w.acme, w.acme, w.closed, named("nightly-29334560")))},
		{name: "name of a fan-out's child", as: root, do: create(tj(w.acme, w.acme, w.open, named("nightly-29334560"))), refused: "`metadata.name` must not end with a hyphen and eight digits"},
		{name: "name with a date", as: member, do: create(tj(w.acme, w.acme, w.open, named("invoices-2026-11-30")))},
		{name: "name that is generated", as: member, do: create(tj(w.acme, w.acme, w.open, func(o *v1alpha1.TenantJob) { o.Name, o.GenerateName = "", "payment-" }))},
		{name: "forged label", as: root, do: create(tj(w.acme, w.acme, w.open, label[*v1alpha1.TenantJob](v1alpha1.LabelFanOut, "theirs"))), refused: "labels with the prefix tenantry.dev/"},
		{name: "forged annotation", as: member, do: create(tj(w.acme, w.acme, w.open, annotate[*v1alpha1.TenantJob](v1alpha1.AnnotationScheduledTime, "2026-01-01T00:00:00Z"))), refused: "annotations with the prefix tenantry.dev/"},
		{name: "finalizer of its own", as: member, do: create(tj(w.acme, w.acme, w.open, finalize[*v1alpha1.TenantJob]("example.com/forever"))), refused: "`metadata.finalizers` must be left"},
		{name: "owner of its own", as: member, do: create(tj(w.acme, w.acme, w.open, own[*v1alpha1.TenantJob](stranger))), refused: "`metadata.ownerReferences` must be left"},
		{name: "forged owner", as: member, do: create(tj(w.acme, w.acme, w.open, own[*v1alpha1.TenantJob](fanOutOwner))), refused: "`metadata.ownerReferences` must be left"},
		{name: "label changed", as: member, do: update(w.run, label[*v1alpha1.TenantJob](v1alpha1.LabelTenant, w.globex.Name)), refused: "labels with the prefix tenantry.dev/"},
		{name: "label removed", as: root, do: update(w.run, unlabel[*v1alpha1.TenantJob](v1alpha1.LabelQueue)), refused: "labels with the prefix tenantry.dev/"},
		{name: "annotation added", as: member, do: update(w.run, annotate[*v1alpha1.TenantJob](v1alpha1.AnnotationScheduledTime, "2026-01-01T00:00:00Z")), refused: "annotations with the prefix tenantry.dev/"},
		{name: "finalizer added", as: member, do: update(w.run, finalize[*v1alpha1.TenantJob]("example.com/forever")), refused: "`metadata.finalizers` must be left"},
		{name: "owner added, by which the garbage collector deletes it", as: member, do: update(w.run, own[*v1alpha1.TenantJob](stranger)), refused: "`metadata.ownerReferences` must be left"},
		{name: "tag changed", as: member, do: update(w.run, tag)},
		{name: "cancelled", as: member, do: update(w.run, cancel)},
		{name: "deleted", as: member, do: remove(w.run)},
		{name: "deleted, its Job orphaned", as: member, do: remove(w.run, orphan), refused: "--cascade=orphan"},
		{name: "deleted by root, its Job orphaned", as: root, do: remove(w.run, orphan), refused: "--cascade=orphan"},
		{name: "all deleted, their Jobs orphaned", as: root, do: removeAllOrphaning(&v1alpha1.TenantJob{}, acme), refused: "--cascade=orphan"},
		{name: "child cancelled", as: member, do: update(w.child, cancel), refused: "is of fan-out " + w.child.Name},
		{name: "child tagged", as: member, do: update(w.child, tag), refused: "is of fan-out " + w.child.Name},
		{name: "child deleted", as: member, do: remove(w.child), refused: "is of fan-out " + w.child.Name},
		{name: "child disowned", as: developer, do: update(w.child, own[*v1alpha1.TenantJob]()), refused: "is of fan-out " + w.child.Name},
		{name: "child disowned by root", as: root, do: update(w.child, own[*v1alpha1.TenantJob]()), refused: "`metadata.ownerReferences` must be left"},
		{name: "child disowned by the garbage collector", as: garbageCollector, do: update(w.child, own[*v1alpha1.TenantJob]())},
		{name: "all deleted, the child too", as: developer, do: removeAll(&v1alpha1.TenantJob{}, acme), refused: "is of fan-out " + w.child.Name},
		{name: "child cancelled by root", as: root, do: update(w.child, cancel)},
		{name: "child deleted by root", as: root, do: remove(w.child)},
		{name: "all deleted by the namespace controller", as: namespaceController, do: removeAll(&v1alpha1.TenantJob{}, acme)},
		{name: "status forged", as: root, do: updateOf("status", w.run, func(o *v1alpha1.TenantJob) { o.Status.StartTime = nil }), refused: "the status must be left"},
		{name: "status written by the operator", as: operator, do: func() doing {
			return patchStatus(w.run, func(o *v1alpha1.TenantJob) { o.Status.TemplateGeneration = 7 })
		}()},
	}
}

func namespaceAttacks(w world) []attack {
	ns := func(tenant *v1alpha1.Tenant) *corev1.Namespace { return NamespaceOf(tenant) }
	fresh := func(change func(*corev1.Namespace)) *corev1.Namespace {
		o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "attack"}}
		change(o)
		return o
	}
	type namespace = *corev1.Namespace
	const message, podSecurity = "labels with the prefix tenantry.dev/ must be left", "the pod-security labels must be left"
	return []attack{
		{name: "namespace relabelled to another tenant", as: root, do: update(ns(w.acme), label[namespace](v1alpha1.LabelTenant, w.globex.Name)), refused: message, probe: true},
		{name: "namespace unlabelled", as: root, do: update(ns(w.acme), unlabel[namespace](v1alpha1.LabelTenant)), refused: message},
		{name: "namespace unlabelled by status", as: root, do: updateOf("status", ns(w.acme), unlabel[namespace](v1alpha1.LabelTenant)), refused: message},
		{name: "namespace relabelled by status", as: root, do: updateOf("status", ns(w.acme), label[namespace](v1alpha1.LabelState, "active2")), refused: message},
		{name: "namespace relabelled by finalize", as: root, do: updateOf("finalize", ns(w.acme), label[namespace](v1alpha1.LabelTenant, w.globex.Name)), refused: message},
		{name: "state label changed", as: developer, do: update(ns(w.acme), label[namespace](v1alpha1.LabelState, v1alpha1.StateSuspended)), refused: message},
		{name: "managed label removed", as: developer, do: update(ns(w.acme), unlabel[namespace](v1alpha1.LabelManaged)), refused: message},
		{name: "enforcement lowered", as: root, do: update(ns(w.acme), label[namespace](v1alpha1.LabelEnforcement, "audit")), refused: "set `spec.enforcement` of Tenant " + w.acme.Name},
		{name: "enforcement removed", as: root, do: update(ns(w.acme), unlabel[namespace](v1alpha1.LabelEnforcement)), refused: "set `spec.enforcement` of Tenant " + w.acme.Name},
		{name: "label of a team added", as: developer, do: update(ns(w.acme), label[namespace]("team", "payments"))},
		{name: "pod security lowered", as: root, do: update(ns(w.acme), label[namespace]("pod-security.kubernetes.io/enforce", "privileged")), refused: podSecurity},
		{name: "pod security removed", as: root, do: update(ns(w.acme), unlabel[namespace]("pod-security.kubernetes.io/enforce")), refused: podSecurity},
		{name: "pod security of a namespace that is no tenant's", as: developer, do: update(w.theirs, label[namespace]("pod-security.kubernetes.io/enforce", "baseline"))},
		{name: "templates opened to members", as: root, do: update(ns(w.acme), annotate[namespace](v1alpha1.AnnotationMemberTemplates, w.closed.Name)), refused: "annotations with the prefix tenantry.dev/"},
		{name: "Tenant's UID changed", as: root, do: update(ns(w.acme), annotate[namespace](v1alpha1.AnnotationTenantUID, "1")), refused: "annotations with the prefix tenantry.dev/"},
		{name: "hash removed", as: root, do: update(ns(w.acme), unannotate[namespace](v1alpha1.AnnotationDesiredHash)), refused: "annotations with the prefix tenantry.dev/"},
		{name: "tenant's namespace squatted", as: root, do: create(fresh(label[namespace](v1alpha1.LabelTenant, "initech"))), refused: message},
		{name: "namespace made a tenant's", as: root, do: update(w.theirs, label[namespace](v1alpha1.LabelTenant, w.acme.Name)), refused: message},
		{name: "namespace made a tenant's by annotation", as: root, do: update(w.theirs, annotate[namespace](v1alpha1.AnnotationTenantUID, string(w.acme.UID))), refused: "annotations with the prefix tenantry.dev/"},
		{name: "consent to an adoption by who may not", as: developer, do: update(w.theirs, annotate[namespace](v1alpha1.AnnotationAdoptBy, w.acme.Name)), refused: "may not change the annotation tenantry.dev/adopt-by"},
		{name: "consent to an adoption by who may not, at creation", as: developer, do: create(fresh(annotate[namespace](v1alpha1.AnnotationAdoptBy, w.acme.Name))), refused: "may not change the annotation tenantry.dev/adopt-by"},
		{name: "consent to an adoption", as: root, do: update(w.theirs, annotate[namespace](v1alpha1.AnnotationAdoptBy, w.acme.Name))},
		{name: "tenant context enforced elsewhere", as: developer, do: update(w.theirs, label[namespace](v1alpha1.LabelEnforcement, "enforce"))},
		{name: "tenant context no longer enforced elsewhere", as: developer, do: update(w.labelled, unlabel[namespace](v1alpha1.LabelEnforcement)), refused: "may not change the label tenantry.dev/enforcement"},
		{name: "tenant context no longer enforced elsewhere, by root", as: root, do: update(w.labelled, unlabel[namespace](v1alpha1.LabelEnforcement))},
		{name: "owner added, by which the garbage collector deletes the namespace", as: root, do: update(ns(w.acme), own[namespace](stranger)), refused: "`metadata.ownerReferences` of a tenant's namespace"},
		{name: "namespace deleted", as: root, do: remove(ns(w.acme)), refused: "delete the Tenant instead"},
		{name: "namespace deleted by the garbage collector", as: garbageCollector, do: remove(ns(w.acme)), refused: "delete the Tenant instead"},
		{name: "namespace deleted by the operator", as: operator, do: remove(ns(w.acme))},
		{name: "namespace that is no tenant's deleted", as: developer, do: remove(w.theirs)},
		{name: "namespace finalized by force", as: developer, do: updateOf("finalize", ns(w.acme), func(o *corev1.Namespace) { o.Spec.Finalizers = nil }), refused: "may not finalize namespace"},
	}
}

func workloadAttacks(w world) []attack {
	acme, warned, audited := w.acme.NamespaceName(), w.warned.NamespaceName(), w.audited.NamespaceName()
	all := []attack{
		{name: "Job in a tenant's namespace", as: root, do: create(newJob(acme, nil)), refused: "jobs must not be created in namespace " + acme, probe: true},
		{name: "Job with the labels of a run", as: developer, do: create(newJob(acme, label[*batchv1.Job](v1alpha1.LabelTenant, w.acme.Name))), refused: "must"},
		{name: "Job by the CronJob controller", as: cronJobController, do: create(newJob(acme, nil)), refused: "jobs must not be created"},
		{name: "CronJob in a tenant's namespace", as: root, do: create(newCronJob(acme)), refused: "cronjobs must not be created"},
		{name: "Deployment in a tenant's namespace", as: root, do: create(newDeployment(acme)), refused: "deployments must not be created"},
		{name: "pod in a tenant's namespace", as: root, do: create(newPod(acme, nil)), refused: "pods must not be created in namespace " + acme, probe: true},
		{name: "pod by the ReplicaSet controller", as: replicaSet, do: create(newPod(acme, nil)), refused: "pods must not be created"},
		{name: "pod of no run by the Job controller", as: jobController, do: create(newPod(acme, nil)), refused: "pods must not be created"},
		{name: "pod of a run by somebody else", as: root, do: create(newPod(acme, func(o *corev1.Pod) {
			o.Labels = w.pod.Labels
			o.OwnerReferences = w.pod.OwnerReferences
		})), refused: "must"},
		{name: "pod of a run with another service account", as: jobController, do: create(newPod(acme, func(o *corev1.Pod) {
			o.Labels, o.OwnerReferences = w.pod.Labels, w.pod.OwnerReferences
			o.Spec.ServiceAccountName = "default"
		})), refused: "pods must not be created"},
		{name: "pod of a run by the Job controller", as: jobController, do: create(newPod(acme, func(o *corev1.Pod) {
			o.Labels, o.OwnerReferences = w.pod.Labels, w.pod.OwnerReferences
		}))},
		{name: "pod of a suspended tenant", as: root, do: create(newPod(w.suspended.NamespaceName(), nil)), refused: "is not active but suspended"},
		{name: "pod of a suspended tenant by the Job controller", as: jobController, do: create(newPod(w.suspended.NamespaceName(), nil)), refused: "is not active but suspended"},
		{name: "pod of a suspended tenant bound", as: root, do: func(ctx context.Context, c client.Client) error {
			pod := newPod(w.suspended.NamespaceName(), nil)
			return c.SubResource("binding").Create(ctx, pod, &corev1.Binding{ObjectMeta: pod.ObjectMeta, Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}})
		}, refused: "is not active but suspended"},
		{name: "Job where tenant context is enforced", as: root, do: create(newJob(w.labelled.Name, nil)), refused: "which has the label tenantry.dev/enforcement"},
		{name: "CronJob where tenant context is enforced", as: root, do: create(newCronJob(w.labelled.Name)), refused: "which has the label tenantry.dev/enforcement"},
		{name: "Deployment where tenant context is enforced", as: root, do: create(newDeployment(w.labelled.Name))},
		{name: "Job in a namespace that is no tenant's", as: root, do: create(newJob(w.theirs.Name, nil))},
	}
	for _, namespace := range []string{warned, audited} {
		phase := map[string]string{warned: "Warn", audited: "Audit"}[namespace]
		all = append(all,
			attack{name: "Job in the phase " + phase, as: root, do: create(newJob(namespace, nil))},
			attack{name: "CronJob in the phase " + phase, as: root, do: create(newCronJob(namespace))},
			attack{name: "Deployment in the phase " + phase, as: root, do: create(newDeployment(namespace))},
			attack{name: "pod in the phase " + phase, as: root, do: create(newPod(namespace, nil))},
			attack{name: "Job by the CronJob controller in the phase " + phase, as: cronJobController, do: create(newJob(namespace, nil))},
			attack{name: "network policy in the phase " + phase, as: developer, do: create(allowEverything(namespace))},
			attack{name: "service account in the phase " + phase, as: developer, do: create(&corev1.ServiceAccount{ObjectMeta: named(namespace, "app")})},
			attack{name: "role binding in the phase " + phase, as: developer, do: create(clusterRoleBinding(namespace, "view"))},
			attack{name: "token of a team's service account in the phase " + phase, as: developer, do: mintToken(namespace, "default")},
			attack{name: "token of the runs in the phase " + phase, as: developer, do: mintToken(namespace, v1alpha1.RunnerServiceAccount), refused: "serviceaccounts/token of tenant-runner"},
		)
	}
	return all
}

func runAttacks(w world) []attack {
	job, auditedJob := JobOf(w.run), JobOf(w.auditedRun)
	acme, audited := w.acme.NamespaceName(), w.audited.NamespaceName()
	type (
		theJob = *batchv1.Job
		thePod = *corev1.Pod
	)
	return []attack{
		{name: "Job with a run's label in the phase Audit", as: root, do: create(newJob(audited, label[theJob](v1alpha1.LabelTenant, w.audited.Name))), refused: "labels, annotations and owners of tenantry.dev", probe: true},
		{name: "Job with a run's annotation in the phase Audit", as: root, do: create(newJob(audited, annotate[theJob](v1alpha1.AnnotationTemplateGeneration, "1"))), refused: "labels, annotations and owners of tenantry.dev"},
		{name: "Job with a TenantJob as its owner in the phase Audit", as: root, do: create(newJob(audited, own[theJob](*metav1.NewControllerRef(w.auditedRun, v1alpha1.GroupVersion.WithKind("TenantJob"))))), refused: "labels, annotations and owners of tenantry.dev"},
		{name: "pod with a run's label in the phase Audit", as: root, do: create(newPod(audited, label[thePod](v1alpha1.LabelTenant, w.audited.Name))), refused: "labels, annotations and owners of tenantry.dev"},
		{name: "pod that a run's Job would adopt, in the phase Audit", as: root, do: create(newPod(audited, label[thePod](batchv1.ControllerUidLabel, w.auditedPod.Labels[batchv1.ControllerUidLabel]))), refused: "must be left to the Job controller"},
		{name: "Job unsuspended or suspended", as: root, do: update(job, func(o theJob) { o.Spec.Suspend = new(true) }), refused: "the Job of a run must not be changed"},
		{name: "Job suspended in the phase Audit", as: root, do: update(auditedJob, func(o theJob) { o.Spec.Suspend = new(true) }), refused: "the Job of a run must not be changed"},
		{name: "Job's parallelism changed", as: developer, do: update(job, func(o theJob) { o.Spec.Parallelism = new(int32(5)) }), refused: "the Job of a run must not be changed"},
		{name: "Job's deadline changed", as: developer, do: update(job, func(o theJob) { o.Spec.ActiveDeadlineSeconds = new(int64(5)) }), refused: "the Job of a run must not be changed"},
		{name: "Job's TTL changed", as: developer, do: update(job, func(o theJob) { o.Spec.TTLSecondsAfterFinished = new(int32(0)) }), refused: "the Job of a run must not be changed"},
		{name: "Job annotated by a team", as: developer, do: update(job, annotate[theJob]("team", "payments"))},
		{name: "Job relabelled", as: developer, do: update(job, label[theJob](v1alpha1.LabelTenant, w.globex.Name)), refused: "labels and annotations with the prefix tenantry.dev/"},
		{name: "Job unlabelled", as: developer, do: update(job, unlabel[theJob](v1alpha1.LabelQueue)), refused: "labels and annotations with the prefix tenantry.dev/"},
		{name: "Job's annotation changed", as: developer, do: update(job, annotate[theJob](v1alpha1.AnnotationTemplateGeneration, "7")), refused: "labels and annotations with the prefix tenantry.dev/"},
		{name: "Job disowned", as: root, do: update(job, own[theJob]()), refused: "`metadata.ownerReferences` of a run"},
		{name: "Job disowned by the garbage collector", as: garbageCollector, do: update(job, own[theJob]())},
		{name: "Job given a finalizer", as: root, do: update(job, finalize[theJob]("example.com/forever")), refused: "`metadata.finalizers` of a run"},
		{name: "Job's status forged", as: root, do: updateOf("status", job, func(o theJob) { o.Status.Active = 7 }), refused: "the status of a run's Job"},
		{name: "Job deleted", as: root, do: remove(job, background), refused: "the Job of a run must not be deleted"},
		{name: "Job deleted in the phase Audit", as: developer, do: remove(auditedJob, background), refused: "the Job of a run must not be deleted"},
		{name: "all Jobs deleted", as: developer, do: removeAll(&batchv1.Job{}, acme), refused: "the Job of a run must not be deleted"},
		{name: "Job deleted by the operator", as: operator, do: remove(job, background)},
		{name: "Job deleted by the operator without its pods", as: operator, do: remove(job, orphan), refused: "must not be deleted without its pods"},
		{name: "Job deleted by the operator without its pods, which is the default", as: operator, do: remove(job), refused: "must not be deleted without its pods"},
		{name: "Job deleted by the garbage collector", as: garbageCollector, do: remove(job, foreground)},
		{name: "all Jobs deleted by the namespace controller", as: namespaceController, do: removeAll(&batchv1.Job{}, acme)},
		{name: "pod's image changed", as: developer, do: update(w.pod, func(o thePod) { o.Spec.Containers[0].Image = "example.com/theirs" }), refused: "may not change a pod of tenant"},
		{name: "pod's image changed in the phase Audit", as: developer, do: update(w.auditedPod, func(o thePod) { o.Spec.Containers[0].Image = "example.com/theirs" }), refused: "may not change a pod of tenant"},
		{name: "pod's image changed by who has access", as: root, do: update(w.pod, func(o thePod) { o.Spec.Containers[0].Image = "example.com/theirs" })},
		{name: "pod disowned", as: developer, do: update(w.pod, own[thePod]()), refused: "`metadata.ownerReferences` of a run"},
		{name: "pod given a dead owner", as: developer, do: update(w.pod, own[thePod](stranger)), refused: "`metadata.ownerReferences` of a run"},
		{name: "pod disowned by the Job controller", as: jobController, do: update(w.pod, own[thePod]())},
		{name: "pod relabelled", as: developer, do: update(w.pod, label[thePod](v1alpha1.LabelTenant, w.globex.Name)), refused: "labels and annotations with the prefix tenantry.dev/"},
		{name: "pod taken from its Job by its label", as: developer, do: update(w.pod, unlabel[thePod](batchv1.ControllerUidLabel)), refused: "must be left to the Job controller"},
		{name: "pod's finalizer removed", as: root, do: update(w.pod, finalize[thePod]()), refused: "`metadata.finalizers` of a run"},
		{name: "pod's finalizer removed by the Job controller", as: jobController, do: update(w.pod, finalize[thePod]())},
	}
}

func infraAttacks(w world) []attack {
	acme := w.acme.NamespaceName()
	runner := &corev1.ServiceAccount{ObjectMeta: named(acme, v1alpha1.RunnerServiceAccount)}
	quota := &corev1.ResourceQuota{ObjectMeta: named(acme, "tenant-quota")}
	limits := &corev1.LimitRange{ObjectMeta: named(acme, "tenant-limits")}
	denyAll := &networkingv1.NetworkPolicy{ObjectMeta: named(acme, "tenant-deny-all")}
	binding := &rbacv1.RoleBinding{ObjectMeta: named(acme, "tenantry-operator")}
	auditedQuota := &corev1.ResourceQuota{ObjectMeta: named(w.audited.NamespaceName(), "tenant-quota")}
	const managed = "with the label tenantry.dev/managed must be left"
	return []attack{
		{name: "network policy that allows everything", as: developer, do: create(allowEverything(acme)), refused: "may not add networkpolicies", probe: true},
		{name: "network policy by who administers", as: root, do: create(allowEverything(acme))},
		{name: "network policy forged as managed", as: root, do: create(func() *networkingv1.NetworkPolicy {
			o := allowEverything(acme)
			o.Labels = map[string]string{v1alpha1.LabelManaged: "true"}
			return o
		}()), refused: managed},
		{name: "network policy changed", as: root, do: update(denyAll, func(o *networkingv1.NetworkPolicy) { o.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}} }), refused: managed},
		{name: "network policy's label removed", as: root, do: update(denyAll, unlabel[*networkingv1.NetworkPolicy](v1alpha1.LabelManaged)), refused: managed},
		{name: "network policy deleted", as: root, do: remove(denyAll), refused: managed},
		{name: "all network policies deleted", as: root, do: removeAll(&networkingv1.NetworkPolicy{}, acme), refused: managed},
		{name: "all network policies deleted by the namespace controller", as: namespaceController, do: removeAll(&networkingv1.NetworkPolicy{}, acme)},
		{name: "quota changed", as: root, do: update(quota, func(o *corev1.ResourceQuota) { o.Spec.Hard = nil }), refused: managed},
		{name: "quota deleted", as: root, do: remove(quota), refused: managed},
		{name: "quota deleted in the phase Audit", as: root, do: remove(auditedQuota), refused: managed},
		{name: "limits deleted", as: root, do: remove(limits), refused: managed},
		{name: "service account changed", as: root, do: update(runner, func(o *corev1.ServiceAccount) { o.AutomountServiceAccountToken = new(true) }), refused: managed},
		{name: "service account deleted", as: root, do: remove(runner), refused: managed},
		{name: "another service account", as: developer, do: create(&corev1.ServiceAccount{ObjectMeta: named(acme, "app")}), refused: "may not add serviceaccounts"},
		{name: "another service account by the controller", as: serviceAccounts, do: create(&corev1.ServiceAccount{ObjectMeta: named(acme, "app")})},
		{name: "operator's role binding deleted", as: root, do: remove(binding), refused: managed},
		{name: "operator's role binding given to somebody", as: root, do: update(binding, func(o *rbacv1.RoleBinding) {
			o.Subjects = []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "developer"}}
		}), refused: managed},
		{name: "rights given by a role binding", as: developer, do: create(clusterRoleBinding(acme, "cluster-admin", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "developer"})), refused: "may not add rolebindings"},
		{name: "Secret forged as a run's", as: root, do: create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: "attack", Labels: map[string]string{v1alpha1.LabelManaged: "true"}}}), refused: managed},
		{name: "Secret of a team", as: developer, do: create(&corev1.Secret{ObjectMeta: named(acme, "attack")})},
	}
}

func accessAttacks(w world) []attack {
	acme := w.acme.NamespaceName()
	debug := func(o *corev1.Pod) {
		o.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: "debug", Image: "example.com/debug", SecurityContext: podSpec.Containers[0].SecurityContext,
		}}}
	}
	return []attack{
		{name: "token of the runs", as: developer, do: mintToken(acme, v1alpha1.RunnerServiceAccount), refused: "may not use serviceaccounts/token of tenant-runner", probe: true},
		{name: "token of the default service account", as: developer, do: mintToken(acme, "default"), refused: "may not use serviceaccounts/token of default"},
		{name: "token of the runs by who has access", as: root, do: mintToken(acme, v1alpha1.RunnerServiceAccount)},
		{name: "token of the runs by the kubelet", as: kubelet, do: mintToken(acme, v1alpha1.RunnerServiceAccount)},
		{name: "token in a namespace that is no tenant's", as: developer, do: mintToken(w.theirs.Name, "default")},
		{name: "ephemeral container", as: developer, do: updateOf("ephemeralcontainers", w.pod, debug), refused: "may not use pods/ephemeralcontainers"},
		{name: "ephemeral container by who has access", as: root, do: updateOf("ephemeralcontainers", w.pod, debug)},
	}
}

func operatorAttacks(w world) []attack {
	acme := w.acme.NamespaceName()
	self := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: OperatorNamespace, Name: "tenantry"}
	somebody := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "attacker"}
	inNamespace := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	tenantNamespace := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelTenant: "initech"}}}
	}
	run := func(change func(*batchv1.Job)) *batchv1.Job {
		o := newJob(acme, label[*batchv1.Job](v1alpha1.LabelTenant, w.acme.Name))
		change(o)
		return o
	}
	const scope = "the operator may not write "
	return []attack{
		{name: "operator binds its role in kube-system", as: operator, do: create(clusterRoleBinding("kube-system", "tenantry-tenant-operator", self)), refused: scope + "rolebindings in namespace kube-system", probe: true},
		{name: "operator binds its role in its own namespace", as: operator, do: create(clusterRoleBinding(OperatorNamespace, "tenantry-tenant-operator", self)), refused: scope + "rolebindings in namespace " + OperatorNamespace},
		{name: "operator binds its role to somebody else", as: operator, do: create(clusterRoleBinding(acme, "tenantry-tenant-operator", somebody)), refused: "the operator may bind the roles"},
		{name: "operator binds its role to itself", as: operator, do: create(clusterRoleBinding(acme, "tenantry-tenant-operator", self))},
		{name: "operator binds a member's role", as: operator, do: create(clusterRoleBinding(acme, "tenantry-tenant-viewer", somebody))},
		{name: "operator writes a network policy elsewhere", as: operator, do: create(allowEverything("kube-system")), refused: scope + "networkpolicies in namespace kube-system"},
		{name: "operator writes a quota elsewhere", as: operator, do: create(&corev1.ResourceQuota{ObjectMeta: named(w.theirs.Name, "attack")}), refused: scope + "resourcequotas"},
		{name: "operator deletes a service account elsewhere", as: operator, do: remove(&corev1.ServiceAccount{ObjectMeta: named("kube-system", "default")}), refused: scope + "serviceaccounts"},
		{name: "operator writes another service account", as: operator, do: create(&corev1.ServiceAccount{ObjectMeta: named(acme, "attack")}), refused: "the operator may not write service accounts"},
		{name: "operator writes a lasting token", as: operator, do: create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: "attack", Labels: map[string]string{v1alpha1.LabelManaged: "true"}, Annotations: map[string]string{corev1.ServiceAccountNameKey: "default"}},
			Type:       corev1.SecretTypeServiceAccountToken,
		}), refused: "the operator may not write Secrets"},
		{name: "operator writes the Secret of a run", as: operator, do: create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: acme, Name: "attack", Labels: map[string]string{v1alpha1.LabelManaged: "true"}}})},
		{name: "operator runs a Job in its own namespace", as: operator, real: true, do: create(newJob(OperatorNamespace, func(o *batchv1.Job) { o.Spec.Template.Spec.ServiceAccountName = "" })), refused: scope + "jobs in namespace " + OperatorNamespace},
		{name: "operator checks a Job in its own namespace", as: operator, do: create(newJob(OperatorNamespace, func(o *batchv1.Job) { o.Spec.Template.Spec.ServiceAccountName = "" }))},
		{name: "operator runs a pod in its own namespace", as: operator, real: true, do: create(newPod(OperatorNamespace, func(o *corev1.Pod) { o.Spec.ServiceAccountName = "" })), refused: scope + "pods in namespace " + OperatorNamespace},
		{name: "operator runs a Job of no tenant", as: operator, do: create(newJob(acme, nil)), refused: "the operator may not write Jobs but those of runs"},
		{name: "operator runs a Job as another service account", as: operator, do: create(run(func(o *batchv1.Job) { o.Spec.Template.Spec.ServiceAccountName = "default" })), refused: "the operator may not write Jobs but those of runs"},
		{name: "operator runs a privileged Job", as: operator, do: create(run(func(o *batchv1.Job) {
			o.Spec.Template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
		})), refused: "privileged"},
		{name: "operator runs a Job with the node's files", as: operator, do: create(run(func(o *batchv1.Job) {
			o.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		})), refused: "privileged"},
		{name: "operator runs a Job in the node's network", as: operator, do: create(run(func(o *batchv1.Job) { o.Spec.Template.Spec.HostNetwork = true })), refused: "privileged"},
		{name: "operator runs a Job", as: operator, do: create(run(func(*batchv1.Job) {}))},
		{name: "operator labels kube-system", as: operator, do: update(inNamespace("kube-system"), label[*corev1.Namespace](v1alpha1.LabelTenant, "initech")), refused: scope + "namespace kube-system"},
		{name: "operator labels a namespace without consent", as: operator, do: update(w.theirs, label[*corev1.Namespace](v1alpha1.LabelTenant, "initech")), refused: "which belongs to no tenant"},
		{name: "operator deletes a namespace", as: operator, do: remove(w.theirs), refused: "which belongs to no tenant"},
		{name: "operator creates a namespace that is no tenant's", as: operator, do: create(inNamespace("attack")), refused: "which belongs to no tenant"},
		{name: "operator creates a tenant's namespace", as: operator, do: create(tenantNamespace("attack"))},
		{name: "operator creates a tenant's namespace with a system name", as: operator, do: create(tenantNamespace("kube-attack")), refused: scope + "namespace kube-attack"},
		{name: "operator makes a tenant's namespace privileged", as: operator, do: update(NamespaceOf(w.acme), label[*corev1.Namespace]("pod-security.kubernetes.io/enforce", "privileged")), refused: "privileged"},
	}
}

func protectionAttacks(w world) []attack {
	probe := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: policy.ProbeNamespace}}
	return []attack{
		{name: "protected Tenant deleted", as: developer, do: remove(w.protected), refused: "is protected: remove its annotation", probe: true},
		{name: "protected Tenant deleted by root", as: root, do: remove(w.protected), refused: "is protected: remove its annotation"},
		{name: "all Tenants deleted", as: root, do: removeAll(&v1alpha1.Tenant{}, ""), refused: "is protected: remove its annotation"},
		{name: "protection taken off", as: developer, do: update(w.protected, unannotate[*v1alpha1.Tenant](v1alpha1.AnnotationProtected)), refused: "may not take the protection off"},
		{name: "protection taken off by root", as: root, do: update(w.protected, unannotate[*v1alpha1.Tenant](v1alpha1.AnnotationProtected))},
		{name: "protected Tenant changed", as: developer, do: update(w.protected, label[*v1alpha1.Tenant]("tier", "gold"))},
		{name: "Tenant deleted", as: developer, do: remove(w.globex)},
		{name: "Tenant with the reserved name", as: root, do: create(&v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: policy.ProbeTenant}}), refused: "the name tenantry-probe is reserved"},
		{name: "probe's namespace relabelled", as: developer, do: update(probe, label[*corev1.Namespace](v1alpha1.LabelEnforcement, "audit")), refused: "must be left"},
		{name: "probe's namespace deleted", as: developer, do: remove(probe), refused: "delete the Tenant instead"},
		{name: "probe's namespace relabelled by root", as: root, do: update(probe, label[*corev1.Namespace](v1alpha1.LabelState, "suspended"))},
		{name: "probe's namespace deleted by root", as: root, do: remove(probe)},
		{name: "Tenant's finalizer removed", as: developer, do: update(w.globex, finalize[*v1alpha1.Tenant]()), refused: "may not take the finalizer off"},
		{name: "Tenant's finalizer removed by root", as: root, do: update(w.globex, finalize[*v1alpha1.Tenant]())},
		{name: "Tenant's finalizer removed by the operator", as: operator, do: update(w.globex, finalize[*v1alpha1.Tenant]())},
	}
}
