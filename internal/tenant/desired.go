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
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Names of what is in every tenant's namespace, beside v1alpha1.RunnerServiceAccount.
const (
	NameQuota       = "tenant-quota"
	NameLimits      = "tenant-limits"
	NameDenyAll     = "tenant-deny-all"
	NameEgress      = "tenant-egress"
	NameViewers     = "tenant-viewers"
	NameDispatchers = "tenant-dispatchers"
	NameOperator    = "tenantry-operator"
)

// ClusterRoles that are bound in a tenant's namespace. The operator may bind these and no others.
const (
	ClusterRoleViewer     = "tenantry-tenant-viewer"
	ClusterRoleDispatcher = "tenantry-tenant-dispatcher"
	ClusterRoleOperator   = "tenantry-tenant-operator"
)

// OperatorServiceAccount is the operator's own, in the operator's namespace.
const OperatorServiceAccount = "tenantry"

// Settings are what shapes a tenant's namespace beside its Tenant.
type Settings struct {
	OperatorNamespace  string
	DefaultEnforcement v1alpha1.Enforcement
	// Adopted says that the namespace was there before and is only lent.
	Adopted bool
	// MemberTemplates are the templates that the tenant's members may dispatch, sorted.
	MemberTemplates []string
}

// Object is what every Kubernetes object is.
type Object interface {
	metav1.Object
	runtime.Object
}

// Child is an object in a tenant's namespace.
type Child struct {
	Object
	// Field of the Tenant that it is built from, to be named when the API server refuses it. Empty when there is none.
	Field string
}

// Desired is what the operator makes and keeps for a Tenant.
type Desired struct {
	// Labels and Annotations of the namespace, without the hash.
	Labels, Annotations map[string]string
	// Children are everything in the namespace.
	Children []Child
	// Hash of the children and of the labels but the state. The other labels and annotations that are wanted are seen on
	// the namespace itself; what is no longer wanted is not.
	Hash string
}

// Desire returns what the operator makes and keeps for a Tenant.
func Desire(t *v1alpha1.Tenant, s Settings) Desired {
	d := Desired{Labels: namespaceLabels(t, s), Annotations: map[string]string{v1alpha1.AnnotationTenantUID: string(t.UID)}}
	if s.Adopted {
		d.Annotations[v1alpha1.AnnotationAdopted] = "true"
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
	// An allowance isolates what it selects as much as a denial does, so both wait for Enforce.
	if enforced {
		d.addNetworkPolicies(t)
	}
	d.addRoleBindings(t, s)
	d.Hash = d.hash()
	return d
}

// State is what the label tenantry.dev/state of the Tenant's namespace has to say.
func State(t *v1alpha1.Tenant) string {
	switch {
	case t.DeletionTimestamp != nil:
		return v1alpha1.StateDeleting
	case t.Suspended():
		return v1alpha1.StateSuspended
	}
	return v1alpha1.StateActive
}

// EnforcementOf returns the Tenant's phase, the operator's default applied.
func EnforcementOf(t *v1alpha1.Tenant, otherwise v1alpha1.Enforcement) v1alpha1.Enforcement {
	if t.Spec.Enforcement != "" {
		return t.Spec.Enforcement
	}
	return otherwise
}

// MemberTemplates returns the names of the templates that the members of this Tenant may dispatch, sorted. A selector
// that can't be read selects nobody.
func MemberTemplates(t *v1alpha1.Tenant, templates []v1alpha1.TenantJobTemplate) []string {
	var names []string
	for i := range templates {
		dispatch := templates[i].Spec.MemberDispatch
		if dispatch == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(dispatch.TenantSelector)
		if err == nil && selector.Matches(labels.Set(t.Labels)) {
			names = append(names, templates[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

// ShownOn says whether a namespace's metadata is as desired, as far as that can be seen on it: the hash tells the rest.
func (d *Desired) ShownOn(namespace metav1.Object) bool {
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

// addQuota adds what the Tenant spells out, and the defaults only where they can break nothing that worked.
func (d *Desired) addQuota(t *v1alpha1.Tenant, enforced bool) {
	quota := v1alpha1.TenantQuota{}
	if t.Spec.Quota != nil {
		quota = *t.Spec.Quota
	}
	hard, defaults := quota.Hard, quota.ContainerDefaults
	if len(hard) == 0 && enforced {
		hard = corev1.ResourceList{
			corev1.ResourceServicesLoadBalancers: resource.MustParse("0"),
			corev1.ResourceServicesNodePorts:     resource.MustParse("0"),
		}
	}
	if defaults == nil && enforced {
		defaults = &v1alpha1.ContainerDefaults{Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		}}
	}
	if len(hard) > 0 {
		d.add("spec.quota.hard", &corev1.ResourceQuota{
			ObjectMeta: named(t, NameQuota),
			Spec:       corev1.ResourceQuotaSpec{Hard: hard},
		})
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

func (d *Desired) addNetworkPolicies(t *v1alpha1.Tenant) {
	d.add("", &networkingv1.NetworkPolicy{
		ObjectMeta: named(t, NameDenyAll),
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	})
	// Where a cluster's DNS is can't be said in general: pods, the node's own address or one of its network.
	dns := networkingv1.NetworkPolicyEgressRule{Ports: []networkingv1.NetworkPolicyPort{
		{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))},
		{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(53))},
	}}
	var egress []networkingv1.NetworkPolicyEgressRule
	if t.Spec.Isolation != nil {
		egress = t.DeepCopy().Spec.Isolation.Egress
	}
	for _, rule := range egress {
		for i := range rule.Ports {
			if rule.Ports[i].Protocol == nil { // As the API server fills it in: else what is there would look changed.
				rule.Ports[i].Protocol = new(corev1.ProtocolTCP)
			}
		}
	}
	d.add("spec.isolation.egress", &networkingv1.NetworkPolicy{
		ObjectMeta: named(t, NameEgress),
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
			Egress:      append(egress, dns), // Last, so that a refusal counts the rules as the Tenant does.
		},
	})
}

// addRoleBindings adds one for each role that somebody has.
func (d *Desired) addRoleBindings(t *v1alpha1.Tenant, s Settings) {
	d.bind(t, "", NameOperator, ClusterRoleOperator, []rbacv1.Subject{
		{Kind: rbacv1.ServiceAccountKind, Namespace: s.OperatorNamespace, Name: OperatorServiceAccount},
	})
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
	d.Children = append(d.Children, Child{Object: obj, Field: field})
}

func (d *Desired) hash() string {
	static := maps.Clone(d.Labels)
	delete(static, v1alpha1.LabelState)
	data, err := json.Marshal([]any{static, d.Children})
	if err != nil {
		panic(fmt.Sprintf("encoding objects of Kubernetes' own types: %v", err))
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

func named(t *v1alpha1.Tenant, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: t.NamespaceName(), Name: name, Labels: managed(t)}
}

// managed are the labels of everything that the operator makes and keeps for a Tenant.
func managed(t *v1alpha1.Tenant) map[string]string {
	return map[string]string{v1alpha1.LabelManaged: "true", v1alpha1.LabelTenant: t.Name}
}
