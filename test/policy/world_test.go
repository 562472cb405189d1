// Package policy_test tests the admission policies on a real API server, with the operator and the controllers of Kubernetes.
package policy_test

import (
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestMain(m *testing.M) { Main(m) }

// user is somebody who sends requests.
type user struct {
	name   string
	groups []string
}

// Who asks. None of them is the administrator of the tests, whom the policies exempt.
var (
	// root may do everything, by RBAC.
	root = user{"root", []string{"system:masters"}}
	// developer may write everything, and has none of the verbs dispatch, access and administer.
	developer = user{"developer", nil}
	// dispatcher is an application that dispatches for all tenants.
	dispatcher = user{"dispatcher", nil}
	// member is a Dispatcher of acme, and viewer a Viewer.
	member = user{"member", nil}
	viewer = user{"viewer", nil}
	// operator is who holds a token of the operator's service account.
	operator = user{"system:serviceaccount:" + OperatorNamespace + ":tenantry", []string{"system:serviceaccounts", "system:serviceaccounts:" + OperatorNamespace}}
	// The controllers of Kubernetes have rights of their own. What the policies know is their name.
	jobController       = controller("job-controller")
	cronJobController   = controller("cronjob-controller")
	replicaSet          = controller("replicaset-controller")
	garbageCollector    = controller("generic-garbage-collector")
	namespaceController = controller("namespace-controller")
	serviceAccounts     = controller("service-account-controller")
	kubelet             = user{"system:node:node-1", []string{"system:nodes", "system:masters"}}
)

func controller(name string) user {
	return user{"system:serviceaccount:kube-system:" + name, []string{"system:masters"}}
}

// config is the configuration of a client of this user.
func (u user) config() *rest.Config {
	cfg := rest.CopyConfig(RestConfig)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: u.name, Groups: append([]string{"system:authenticated"}, u.groups...)}
	return cfg
}

func (u user) client(t *testing.T) client.WithWatch {
	t.Helper()
	c, err := client.NewWithWatch(u.config(), client.Options{Scheme: Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (u user) clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(u.config())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is what the attacks are aimed at.
type world struct {
	// acme is in the phase Enforce, warned in Warn, audited in Audit.
	acme, globex, warned, audited *v1alpha1.Tenant
	// suspended is, in the phase Audit.
	suspended *v1alpha1.Tenant
	// open may be dispatched by members of acme, closed by none.
	open, closed *v1alpha1.TenantJobTemplate
	// run is a TenantJob of acme whose pod runs, and child one of a fan-out.
	run, child *v1alpha1.TenantJob
	pod        *corev1.Pod
	// auditedRun runs in audited.
	auditedRun *v1alpha1.TenantJob
	auditedPod *corev1.Pod
	// theirs is a namespace that is no tenant's, and labelled one that is none's and enforces tenant context.
	theirs, labelled *corev1.Namespace
	// protected is a Tenant with the annotation.
	protected *v1alpha1.Tenant
}

// newWorld makes what all attacks are aimed at. It goes with the test.
func newWorld(t *testing.T) world {
	t.Helper()
	grant(t, developer, []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})
	grantRole(t, dispatcher, "tenantry-dispatcher")
	w := world{
		acme: NewReadyTenant(t, v1alpha1.TenantSpec{Members: []v1alpha1.TenantMember{
			{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: member.name}},
			{Role: v1alpha1.RoleViewer, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: viewer.name}},
		}}),
		globex:    NewReadyTenant(t, v1alpha1.TenantSpec{}),
		warned:    NewReadyTenant(t, v1alpha1.TenantSpec{Enforcement: v1alpha1.EnforcementWarn}),
		audited:   NewReadyTenant(t, v1alpha1.TenantSpec{Enforcement: v1alpha1.EnforcementAudit}),
		suspended: NewTenant(t, v1alpha1.TenantSpec{Enforcement: v1alpha1.EnforcementAudit, Suspend: new(true)}),
		theirs:    NewNamespace(t, nil),
		labelled: NewNamespace(t, func(o *corev1.Namespace) {
			o.Labels = map[string]string{v1alpha1.LabelEnforcement: "enforce"}
		}),
		closed:    NewReadyTemplate(t, nil),
		protected: NewTenant(t, v1alpha1.TenantSpec{}),
	}
	Patch(t, w.protected, annotate[*v1alpha1.Tenant](v1alpha1.AnnotationProtected, "true"))
	Patch(t, w.acme, func(o *v1alpha1.Tenant) { o.Labels = map[string]string{"open": o.Name} })
	w.open = NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.MemberDispatch = &v1alpha1.MemberDispatch{TenantSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"open": w.acme.Name}}}
	})
	run, auditedRun := NewTenantJob(t, w.acme, w.closed), NewTenantJob(t, w.audited, w.closed)
	fanOut := NewFanOut(t, w.closed.Name, []*v1alpha1.Tenant{w.acme}, nil)
	w.pod, w.auditedPod = AwaitRunningPod(t, run), AwaitRunningPod(t, auditedRun)
	w.child = ChildIn(w.acme, fanOut)
	AwaitRunningPod(t, w.child)
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, w.child)
		Get(t, g, run)
		Get(t, g, auditedRun)
		namespace := Get(t, g, NamespaceOf(w.acme))
		g.Expect(namespace.Annotations).To(gomega.HaveKeyWithValue(v1alpha1.AnnotationMemberTemplates, w.open.Name))
	})
	AwaitCondition(t, w.suspended, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	w.run, w.auditedRun = run, auditedRun
	awaitEnforcement(t, w)
	return w
}

// awaitEnforcement waits until the API server has all policies in force, which takes about a second.
func awaitEnforcement(t *testing.T, w world) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		for _, a := range attacks(w) {
			if a.probe {
				g.Expect(a.try(t)).To(gomega.MatchError(gomega.ContainSubstring(a.refused)), a.name)
			}
		}
	})
}

// grant gives a user verbs on all kinds in all namespaces.
func grant(t *testing.T, u user, verbs []string) {
	t.Helper()
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "test-" + u.name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: append(verbs, "bind", "escalate")}},
	}
	Create(t, role)
	grantRole(t, u, role.Name)
}

func grantRole(t *testing.T, u user, clusterRole string) {
	t.Helper()
	Create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test-" + u.name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: u.name}},
	})
}
