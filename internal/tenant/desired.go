package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Names of the objects in a tenant's namespace, beside v1alpha1.RunnerServiceAccount.
const (
	NameQuota       = "tenant-quota"
	NameLimits      = "tenant-limits"
	NameDenyAll     = "tenant-deny-all"
	NameEgress      = "tenant-egress"
	NameViewers     = "tenant-viewers"
	NameDispatchers = "tenant-dispatchers"
	NameOperator    = "tenantry-operator"
)

// ClusterRoles that are bound in a tenant's namespace. The operator has the right to bind these and no others.
const (
	ClusterRoleViewer     = "tenantry-tenant-viewer"
	ClusterRoleDispatcher = "tenantry-tenant-dispatcher"
	ClusterRoleOperator   = "tenantry-tenant-operator"
)

// OperatorServiceAccount is the operator's service account, in the operator's namespace.
const OperatorServiceAccount = "tenantry"

// Settings are what a tenant's namespace depends on beside its Tenant.
type Settings struct {
	OperatorNamespace  string
	DefaultEnforcement v1alpha1.Enforcement
	// DNSEgress are the egress rules by which a tenant's pods reach the cluster's DNS.
	DNSEgress []networkingv1.NetworkPolicyEgressRule
	// Adoption is what is known about a namespace that existed before the operator took it over. Nil for all others.
	Adoption *Adoption
	// MemberTemplates are the templates that the tenant's members may dispatch, sorted.
	MemberTemplates []string
}

// Object is a Kubernetes object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Content is an object that the operator keeps in a tenant's namespace.
type Content struct {
	Object
	// Field of the Tenant that it is built from. The status names it when the API server refuses the object. Empty when it is
	// built from none.
	Field string
}

// Desired is what the operator makes and keeps for a Tenant.
type Desired struct {
	// Labels and Annotations of the namespace, without the hash.
	Labels, Annotations map[string]string
	// Contents are the objects in the namespace.
	Contents []Content
	// Hash of the contents and of the labels but the state. It shows that a label or an object is no longer desired, which
	// nobody can see on the namespace itself.
	Hash string
	// before is what an adopted namespace had before. Nil for all others.
	before *Before
}

// DesiredOf returns what the operator makes and keeps for a Tenant.
func DesiredOf(t *v1alpha1.Tenant, s Settings) Desired {
	d := Desired{Labels: namespaceLabels(t, s), Annotations: map[string]string{v1alpha1.AnnotationTenantUID: string(t.UID)}}
	if s.Adoption != nil {
		d.adopt(s.Adoption)
	}
	if len(s.MemberTemplates) > 0 {
		d.Annotations[v1alpha1.AnnotationMemberTemplates] = strings.Join(s.MemberTemplates, ",")
	}
	enforced := EnforcementOf(t, s.DefaultEnforcement) == v1alpha1.EnforcementEnforce
	d.add("", &corev1.ServiceAccount{
		ObjectMeta:                   named(t, v1alpha1.RunnerServiceAccount),
		AutomountServiceAccountToken: new(false),
	})
	d.addQuota(t, enforced)
	// A NetworkPolicy that allows some traffic denies all other traffic of the pods that it selects. So both kinds are left out
	// until the phase is Enforce.
	if enforced {
		d.addNetworkPolicies(t, s)
	}
	d.addRoleBindings(t, s)
	d.Hash = d.hash()
	return d
}

// WrittenTo says whether the namespace's contents were written as desired: its hash says so.
func (d *Desired) WrittenTo(namespace metav1.Object) bool {
	return namespace.GetAnnotations()[v1alpha1.AnnotationDesiredHash] == d.Hash
}

// Matches says whether a namespace has the desired labels and annotations, as far as can be seen on it. A label that is no
// longer desired can't be told from somebody else's: the hash differs then.
func (d *Desired) Matches(namespace metav1.Object) bool {
	_, listed := namespace.GetAnnotations()[v1alpha1.AnnotationMemberTemplates]
	_, wanted := d.Annotations[v1alpha1.AnnotationMemberTemplates]
	return listed == wanted && contains(namespace.GetLabels(), d.Labels) && contains(namespace.GetAnnotations(), d.Annotations)
}

func contains(all, some map[string]string) bool {
	for key, value := range some {
		if have, ok := all[key]; !ok || have != value {
			return false
		}
	}
	return true
}

func namespaceLabels(t *v1alpha1.Tenant, s Settings) map[string]string {
	all := map[string]string{}
	if t.Spec.Namespace != nil {
		for key, value := range t.Spec.Namespace.Labels {
			all[key] = string(value)
		}
	}
	phase := EnforcementOf(t, s.DefaultEnforcement)
	maps.Copy(all, managed(t))
	all[v1alpha1.LabelState] = State(t)
	all[v1alpha1.LabelEnforcement] = strings.ToLower(string(phase))
	level := v1alpha1.PodSecurityRestricted
	if t.Spec.Isolation != nil && t.Spec.Isolation.PodSecurity != "" {
		level = t.Spec.Isolation.PodSecurity
	}
	modes := []string{"audit", "warn"}
	if phase == v1alpha1.EnforcementEnforce {
		modes = []string{"enforce"}
	}
	for _, mode := range modes {
		all["pod-security.kubernetes.io/"+mode] = strings.ToLower(string(level))
		all["pod-security.kubernetes.io/"+mode+"-version"] = "latest"
	}
	return all
}

const (
	// countTenantJobs is the resource of a ResourceQuota that counts TenantJobs.
	countTenantJobs corev1.ResourceName = "count/tenantjobs.tenantry.dev"
	// defaultTenantJobs is how many TenantJobs a tenant's namespace may have by default. It bounds what a member can have the
	// operator hold in memory, and is more than what hundreds of schedules keep with their history.
	defaultTenantJobs = "5000"
)

// hardOf returns the hard limits of the Tenant's spec, and the defaults of what it does not name. Services are limited only in the
// phase Enforce, because before that the limit could break what works in the namespace.
func hardOf(quota v1alpha1.TenantQuota, enforced bool) corev1.ResourceList {
	hard := corev1.ResourceList{countTenantJobs: resource.MustParse(defaultTenantJobs)}
	if enforced {
		hard[corev1.ResourceServicesLoadBalancers] = resource.MustParse("0")
		hard[corev1.ResourceServicesNodePorts] = resource.MustParse("0")
	}
	maps.Copy(hard, quota.Hard)
	return hard
}

// LacksUse says whether a quota limits TenantJobs and its status does not say how many there are. The API server refuses every
// TenantJob then. Kubernetes counts kinds of custom resources only from half a minute after their installation.
func LacksUse(quota *corev1.ResourceQuota) bool {
	_, isLimited := quota.Spec.Hard[countTenantJobs]
	_, isKnown := quota.Status.Used[countTenantJobs]
	return isLimited && !isKnown
}

// SetUse puts into the status of a quota how many TenantJobs there are. Kubernetes keeps that until it counts them itself.
func SetUse(quota *corev1.ResourceQuota, tenantJobs int) {
	if quota.Status.Used == nil {
		quota.Status.Used = corev1.ResourceList{}
	}
	quota.Status.Used[countTenantJobs] = *resource.NewQuantity(int64(tenantJobs), resource.DecimalSI)
}

// addQuota adds the quota and the limits of the Tenant's spec. The default limits are added only in the phase Enforce, because before
// that they could break what works in the namespace.
func (d *Desired) addQuota(t *v1alpha1.Tenant, enforced bool) {
	quota := v1alpha1.TenantQuota{}
	if t.Spec.Quota != nil {
		quota = *t.Spec.Quota
	}
	d.add("spec.quota.hard", &corev1.ResourceQuota{
		ObjectMeta: named(t, NameQuota),
		Spec:       corev1.ResourceQuotaSpec{Hard: hardOf(quota, enforced)},
	})
	defaults := quota.ContainerDefaults
	if defaults == nil && enforced {
		defaults = &v1alpha1.ContainerDefaults{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		}}
	}
	if defaults != nil {
		d.add("spec.quota.containerDefaults", &corev1.LimitRange{
			ObjectMeta: named(t, NameLimits),
			Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
				Type:           corev1.LimitTypeContainer,
				DefaultRequest: defaults.Requests,
				Default:        defaults.Limits,
			}}},
		})
	}
}

func (d *Desired) addNetworkPolicies(t *v1alpha1.Tenant, s Settings) {
	d.add("", &networkingv1.NetworkPolicy{
		ObjectMeta: named(t, NameDenyAll),
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	})
	var egress []networkingv1.NetworkPolicyEgressRule
	if t.Spec.Isolation != nil {
		egress = t.DeepCopy().Spec.Isolation.Egress
	}
	setProtocols(egress)
	for i := range s.DNSEgress { // Last, so that indexes in a refusal are those of the Tenant's spec.
		egress = append(egress, *s.DNSEgress[i].DeepCopy())
	}
	d.add("spec.isolation.egress", &networkingv1.NetworkPolicy{
		ObjectMeta: named(t, NameEgress),
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
			Egress:      egress,
		},
	})
}

// setProtocols sets the protocol of ports that name none. The API server sets this default, and the object would differ from
// ours.
func setProtocols(rules []networkingv1.NetworkPolicyEgressRule) {
	for _, rule := range rules {
		for i := range rule.Ports {
			if rule.Ports[i].Protocol == nil {
				rule.Ports[i].Protocol = new(corev1.ProtocolTCP)
			}
		}
	}
}

// addRoleBindings adds a RoleBinding for the operator and one for each role that a member has. The members of a Tenant that is
// being deleted have none, because they could go on to create TenantJobs.
func (d *Desired) addRoleBindings(t *v1alpha1.Tenant, s Settings) {
	d.bind(t, "", NameOperator, ClusterRoleOperator, []rbacv1.Subject{
		{Kind: rbacv1.ServiceAccountKind, Namespace: s.OperatorNamespace, Name: OperatorServiceAccount},
	})
	if t.DeletionTimestamp != nil {
		return
	}
	subjects := map[v1alpha1.MemberRole][]rbacv1.Subject{}
	for _, member := range t.Spec.Members {
		subject := rbacv1.Subject{Kind: string(member.Subject.Kind), Namespace: member.Subject.Namespace, Name: member.Subject.Name}
		if member.Subject.Kind != v1alpha1.SubjectServiceAccount {
			subject.APIGroup = rbacv1.GroupName
		}
		if !slices.Contains(subjects[member.Role], subject) {
			subjects[member.Role] = append(subjects[member.Role], subject)
		}
	}
	d.bind(t, "spec.members", NameViewers, ClusterRoleViewer, subjects[v1alpha1.RoleViewer])
	d.bind(t, "spec.members", NameDispatchers, ClusterRoleDispatcher, subjects[v1alpha1.RoleDispatcher])
}

func (d *Desired) bind(t *v1alpha1.Tenant, field, name, clusterRole string, subjects []rbacv1.Subject) {
	if len(subjects) == 0 {
		return
	}
	d.add(field, &rbacv1.RoleBinding{
		ObjectMeta: named(t, name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole},
		Subjects:   subjects,
	})
}

func (d *Desired) add(field string, obj Object) {
	d.Contents = append(d.Contents, Content{Object: obj, Field: field})
}

func (d *Desired) hash() string {
	static := maps.Clone(d.Labels)
	delete(static, v1alpha1.LabelState)
	data, err := json.Marshal([]any{static, d.Contents})
	if err != nil {
		panic(fmt.Sprintf("encoding objects of Kubernetes' own types: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

func named(t *v1alpha1.Tenant, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: t.NamespaceName(), Name: name, Labels: managed(t)}
}

// managed returns the labels of everything that the operator makes and keeps for a Tenant.
func managed(t *v1alpha1.Tenant) map[string]string {
	return map[string]string{v1alpha1.LabelManaged: "true", v1alpha1.LabelTenant: t.Name}
}
