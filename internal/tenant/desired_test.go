package tenant

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func acme(changes ...func(*v1alpha1.Tenant)) *v1alpha1.Tenant {
	t := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme", UID: "acme-uid", Labels: map[string]string{"tier": "gold"}}}
	for _, change := range changes {
		change(t)
	}
	return t
}

func enforcement(phase v1alpha1.Enforcement) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { t.Spec.Enforcement = phase }
}

func suspended(t *v1alpha1.Tenant) { t.Spec.Suspend = new(true) }

func deleted(t *v1alpha1.Tenant) { t.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }

func members(all ...v1alpha1.TenantMember) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { t.Spec.Members = all }
}

func member(role v1alpha1.MemberRole, kind v1alpha1.SubjectKind, namespace, name string) v1alpha1.TenantMember {
	return v1alpha1.TenantMember{Role: role, Subject: v1alpha1.MemberSubject{Kind: kind, Namespace: namespace, Name: name}}
}

func settings() Settings {
	return Settings{OperatorNamespace: "tenantry-system", DefaultEnforcement: v1alpha1.EnforcementEnforce, DNSEgress: DefaultDNSEgress()}
}

func TestNamespaceMetadata(t *testing.T) {
	base := func(changes map[string]string) map[string]string {
		labels := map[string]string{
			"tenantry.dev/tenant":                        "acme",
			"tenantry.dev/managed":                       "true",
			"tenantry.dev/state":                         "active",
			"tenantry.dev/enforcement":                   "enforce",
			"pod-security.kubernetes.io/enforce":         "restricted",
			"pod-security.kubernetes.io/enforce-version": "latest",
		}
		for key, value := range changes {
			if labels[key] = value; value == "-" {
				delete(labels, key)
			}
		}
		return labels
	}
	onlyTold := func(phase string) map[string]string {
		return base(map[string]string{
			"tenantry.dev/enforcement":                   phase,
			"pod-security.kubernetes.io/enforce":         "-",
			"pod-security.kubernetes.io/enforce-version": "-",
			"pod-security.kubernetes.io/audit":           "restricted",
			"pod-security.kubernetes.io/audit-version":   "latest",
			"pod-security.kubernetes.io/warn":            "restricted",
			"pod-security.kubernetes.io/warn-version":    "latest",
		})
	}
	uid := map[string]string{"tenantry.dev/tenant-uid": "acme-uid"}
	cases := map[string]struct {
		tenant          *v1alpha1.Tenant
		adoption        *Adoption
		templates       []string
		wantLabels      map[string]string
		wantAnnotations map[string]string
	}{
		"active":    {tenant: acme(), wantLabels: base(nil), wantAnnotations: uid},
		"suspended": {tenant: acme(suspended), wantLabels: base(map[string]string{"tenantry.dev/state": "suspended"}), wantAnnotations: uid},
		"deleted while suspended": {
			tenant: acme(suspended, deleted), wantLabels: base(map[string]string{"tenantry.dev/state": "deleting"}), wantAnnotations: uid,
		},
		"audit: pod security is not enforced": {
			tenant: acme(enforcement(v1alpha1.EnforcementAudit)), wantLabels: onlyTold("audit"), wantAnnotations: uid,
		},
		"warn: pod security is not enforced": {
			tenant: acme(enforcement(v1alpha1.EnforcementWarn)), wantLabels: onlyTold("warn"), wantAnnotations: uid,
		},
		"baseline": {
			tenant: acme(func(t *v1alpha1.Tenant) {
				t.Spec.Isolation = &v1alpha1.TenantIsolation{PodSecurity: v1alpha1.PodSecurityBaseline}
			}),
			wantLabels:      base(map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}),
			wantAnnotations: uid,
		},
		"labels of the user's, none over ours": {
			tenant: acme(func(t *v1alpha1.Tenant) {
				t.Spec.Namespace = &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "a", "tenantry.dev/tenant": "globex"}}
			}),
			wantLabels:      base(map[string]string{"team": "a"}),
			wantAnnotations: uid,
		},
		"adopted, with templates for its members": {
			tenant: acme(), adoption: &Adoption{}, templates: []string{"a", "b"}, wantLabels: base(nil),
			wantAnnotations: map[string]string{
				"tenantry.dev/tenant-uid": "acme-uid", "tenantry.dev/adopted": "true", "tenantry.dev/member-templates": "a,b",
				"tenantry.dev/before-adoption": `{"labels":{"pod-security.kubernetes.io/enforce":null,"pod-security.kubernetes.io/enforce-version":null}}`,
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := settings()
			s.Adoption, s.MemberTemplates = tc.adoption, tc.templates
			d := DesiredOf(tc.tenant, s)
			if diff := cmp.Diff(tc.wantLabels, d.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantAnnotations, d.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContents(t *testing.T) {
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "tenant-acme", Name: name, Labels: map[string]string{
			"tenantry.dev/managed": "true", "tenantry.dev/tenant": "acme",
		}}
	}
	quantities := func(pairs ...string) corev1.ResourceList {
		list := corev1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return list
	}
	runner := Content{&corev1.ServiceAccount{ObjectMeta: meta("tenant-runner"), AutomountServiceAccountToken: new(false)}, ""}
	quota := func(hard corev1.ResourceList) Content {
		return Content{&corev1.ResourceQuota{ObjectMeta: meta("tenant-quota"), Spec: corev1.ResourceQuotaSpec{Hard: hard}}, "spec.quota.hard"}
	}
	limits := func(requests, limits corev1.ResourceList) Content {
		return Content{&corev1.LimitRange{ObjectMeta: meta("tenant-limits"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
			{Type: corev1.LimitTypeContainer, DefaultRequest: requests, Default: limits},
		}}}, "spec.quota.containerDefaults"}
	}
	denyAll := Content{&networkingv1.NetworkPolicy{ObjectMeta: meta("tenant-deny-all"), Spec: networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{"Ingress", "Egress"},
	}}, ""}
	dns := networkingv1.NetworkPolicyEgressRule{
		To: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "kube-system"}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"k8s-app": "kube-dns"}},
		}},
		Ports: []networkingv1.NetworkPolicyPort{
			{Protocol: new(corev1.ProtocolUDP), Port: new(intstr.FromInt32(53))},
			{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(53))},
		},
	}
	web := networkingv1.NetworkPolicyEgressRule{Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(443))}}}
	webTCP := networkingv1.NetworkPolicyEgressRule{Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(443))}}}
	egress := func(rules ...networkingv1.NetworkPolicyEgressRule) Content {
		return Content{&networkingv1.NetworkPolicy{ObjectMeta: meta("tenant-egress"), Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{"Egress"}, Egress: rules,
		}}, "spec.isolation.egress"}
	}
	bound := func(field, name, role string, subjects ...rbacv1.Subject) Content {
		return Content{&rbacv1.RoleBinding{
			ObjectMeta: meta(name),
			RoleRef:    rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: role},
			Subjects:   subjects,
		}, field}
	}
	operator := bound("", "tenantry-operator", "tenantry-tenant-operator",
		rbacv1.Subject{Kind: "ServiceAccount", Namespace: "tenantry-system", Name: "tenantry"})
	noServices := quota(quantities("services.loadbalancers", "0", "services.nodeports", "0", "count/tenantjobs.tenantry.dev", "5000"))
	modest := limits(quantities("cpu", "100m", "memory", "64Mi"), nil)

	ann := members(member(v1alpha1.RoleViewer, v1alpha1.SubjectUser, "", "ann"))
	cases := map[string]struct {
		tenant *v1alpha1.Tenant
		want   []Content
	}{
		"members, deleted":       {acme(ann, deleted), []Content{runner, noServices, modest, denyAll, egress(dns), operator}},
		"what every tenant gets": {acme(), []Content{runner, noServices, modest, denyAll, egress(dns), operator}},
		"audit: nothing that could break what is there": {
			acme(enforcement(v1alpha1.EnforcementAudit)),
			[]Content{runner, quota(quantities("count/tenantjobs.tenantry.dev", "5000")), operator},
		},
		"warn: what is spelled out": {
			acme(enforcement(v1alpha1.EnforcementWarn), func(t *v1alpha1.Tenant) {
				t.Spec.Quota = &v1alpha1.TenantQuota{Hard: quantities("pods", "5"), ContainerDefaults: &v1alpha1.ContainerDefaults{Limits: quantities("cpu", "1")}}
				t.Spec.Isolation = &v1alpha1.TenantIsolation{Egress: []networkingv1.NetworkPolicyEgressRule{web}}
			}),
			[]Content{
				runner, quota(quantities("pods", "5", "count/tenantjobs.tenantry.dev", "5000")), limits(nil, quantities("cpu", "1")), operator,
			},
		},
		"quota, defaults and egress of its own": {
			acme(func(t *v1alpha1.Tenant) {
				t.Spec.Quota = &v1alpha1.TenantQuota{
					Hard:              quantities("pods", "5", "services.nodeports", "3", "count/tenantjobs.tenantry.dev", "1000000"),
					ContainerDefaults: &v1alpha1.ContainerDefaults{Limits: quantities("cpu", "1")},
				}
				t.Spec.Isolation = &v1alpha1.TenantIsolation{Egress: []networkingv1.NetworkPolicyEgressRule{web}}
			}),
			[]Content{
				runner,
				quota(quantities("pods", "5", "services.loadbalancers", "0", "services.nodeports", "3", "count/tenantjobs.tenantry.dev", "1000000")),
				limits(nil, quantities("cpu", "1")), denyAll, egress(webTCP, dns), operator,
			},
		},
		"members, one binding for each role": {
			acme(members(
				member(v1alpha1.RoleDispatcher, v1alpha1.SubjectServiceAccount, "web", "api"),
				member(v1alpha1.RoleViewer, v1alpha1.SubjectUser, "", "ann"),
				member(v1alpha1.RoleViewer, v1alpha1.SubjectGroup, "", "staff"),
				member(v1alpha1.RoleViewer, v1alpha1.SubjectUser, "", "ann"),
			)),
			[]Content{
				runner, noServices, modest, denyAll, egress(dns), operator,
				bound("spec.members", "tenant-viewers", "tenantry-tenant-viewer",
					rbacv1.Subject{Kind: "User", APIGroup: "rbac.authorization.k8s.io", Name: "ann"},
					rbacv1.Subject{Kind: "Group", APIGroup: "rbac.authorization.k8s.io", Name: "staff"}),
				bound("spec.members", "tenant-dispatchers", "tenantry-tenant-dispatcher",
					rbacv1.Subject{Kind: "ServiceAccount", Namespace: "web", Name: "api"}),
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, DesiredOf(tc.tenant, settings()).Contents); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHash(t *testing.T) {
	with := settings()
	with.MemberTemplates = []string{"a"}
	elsewhere := settings()
	elsewhere.DNSEgress = []networkingv1.NetworkPolicyEgressRule{{}}
	phase, operator := settings(), settings()
	phase.DefaultEnforcement, operator.OperatorNamespace = v1alpha1.EnforcementAudit, "other"
	cases := map[string]struct {
		tenant   *v1alpha1.Tenant
		settings Settings
		same     bool
	}{
		"the same":                         {acme(), settings(), true},
		"suspended: seen on the namespace": {acme(suspended), settings(), true},
		"deleted: seen on the namespace":   {acme(deleted), settings(), true},
		"templates: seen on the namespace": {acme(), with, true},
		"another default phase":            {acme(), phase, false},
		"another operator's namespace":     {acme(), operator, false},
		"the DNS is elsewhere":             {acme(), elsewhere, false},
		"a member":                         {acme(members(member(v1alpha1.RoleViewer, v1alpha1.SubjectUser, "", "ann"))), settings(), false},
		"a label": {acme(func(t *v1alpha1.Tenant) {
			t.Spec.Namespace = &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "a"}}
		}), settings(), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if same := DesiredOf(tc.tenant, tc.settings).Hash == DesiredOf(acme(), settings()).Hash; same != tc.same {
				t.Errorf("same hash: %v, want %v", same, tc.same)
			}
		})
	}
}

func TestMatches(t *testing.T) {
	cases := map[string]struct {
		change func(*metav1.ObjectMeta)
		want   bool
	}{
		"as desired":                        {func(*metav1.ObjectMeta) {}, true},
		"with what others add":              {func(m *metav1.ObjectMeta) { m.Labels["other"], m.Annotations["other"] = "x", "x" }, true},
		"without a label":                   {func(m *metav1.ObjectMeta) { delete(m.Labels, v1alpha1.LabelManaged) }, false},
		"with another state":                {func(m *metav1.ObjectMeta) { m.Labels[v1alpha1.LabelState] = v1alpha1.StateSuspended }, false},
		"without an annotation":             {func(m *metav1.ObjectMeta) { delete(m.Annotations, v1alpha1.AnnotationTenantUID) }, false},
		"with templates nobody may use any": {func(m *metav1.ObjectMeta) { m.Annotations[v1alpha1.AnnotationMemberTemplates] = "a" }, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := DesiredOf(acme(), settings())
			shown := DesiredOf(acme(), settings())
			namespace := &metav1.ObjectMeta{Labels: shown.Labels, Annotations: shown.Annotations}
			tc.change(namespace)
			if got := d.Matches(namespace); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestMemberTemplates(t *testing.T) {
	template := func(name string, selector *metav1.LabelSelector) v1alpha1.TenantJobTemplate {
		return v1alpha1.TenantJobTemplate{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v1alpha1.TenantJobTemplateSpec{MemberDispatch: &v1alpha1.MemberDispatch{TenantSelector: selector}},
		}
	}
	all := []v1alpha1.TenantJobTemplate{
		template("z-gold", &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}),
		template("silver", &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "silver"}}),
		template("everyone", &metav1.LabelSelector{}),
		template("no selector", nil),
		template("broken", &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Resembles"}}}),
		{ObjectMeta: metav1.ObjectMeta{Name: "nobody's"}},
	}
	if diff := cmp.Diff([]string{"everyone", "z-gold"}, MemberTemplates(acme(), all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
