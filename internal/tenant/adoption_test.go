package tenant

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	podSecurityEnforce = "pod-security.kubernetes.io/enforce"
	podSecurityAudit   = "pod-security.kubernetes.io/audit"
)

func wantsLabel(key, value string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) {
		t.Spec.Namespace = &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}
	}
}

// TestAdoptionRemembersLabels follows the labels of a namespace through one write of the operator's after the other.
func TestAdoptionRemembersLabels(t *testing.T) {
	audit, enforce := enforcement(v1alpha1.EnforcementAudit), enforcement(v1alpha1.EnforcementEnforce)
	type write struct {
		tenant *v1alpha1.Tenant
		// drift is what somebody sets before.
		drift map[string]string
	}
	cases := map[string]struct {
		before map[string]string
		// earlier means that an earlier version adopted the namespace, without a record.
		earlier bool
		writes  []write
		// label is looked at after the last write, and kept is what is remembered of it: "-" means that there was none.
		label, kept, want string
	}{
		"one that the operator overwrites":         {map[string]string{podSecurityEnforce: "privileged"}, false, []write{{acme(enforce), nil}}, podSecurityEnforce, "privileged", "restricted"},
		"one that was not there":                   {nil, false, []write{{acme(enforce), nil}}, podSecurityEnforce, "-", "restricted"},
		"one that is as the Tenant wants it":       {map[string]string{"team": "a"}, false, []write{{acme(wantsLabel("team", "a")), nil}}, "team", "a", "a"},
		"one that the operator leaves alone":       {map[string]string{"team": "a"}, false, []write{{acme(), nil}}, "team", "", "a"},
		"one that the operator overwrites later":   {map[string]string{podSecurityEnforce: "privileged"}, false, []write{{acme(audit), nil}, {acme(enforce), nil}}, podSecurityEnforce, "privileged", "restricted"},
		"one that the operator needs no longer":    {map[string]string{podSecurityAudit: "baseline"}, false, []write{{acme(audit), nil}, {acme(enforce), nil}}, podSecurityAudit, "baseline", "baseline"},
		"one that the Tenant wants no longer":      {map[string]string{"team": "a"}, false, []write{{acme(wantsLabel("team", "b")), nil}, {acme(), nil}}, "team", "a", "a"},
		"one that somebody lowers later":           {map[string]string{podSecurityEnforce: "baseline"}, false, []write{{acme(enforce), nil}, {acme(enforce), map[string]string{podSecurityEnforce: "privileged"}}}, podSecurityEnforce, "baseline", "restricted"},
		"one that somebody adds later":             {nil, false, []write{{acme(enforce), nil}, {acme(enforce), map[string]string{podSecurityEnforce: "privileged"}}}, podSecurityEnforce, "-", "restricted"},
		"adopted by an earlier version":            {map[string]string{podSecurityEnforce: "restricted"}, true, []write{{acme(enforce), nil}}, podSecurityEnforce, "-", "restricted"},
		"adopted by an earlier version, in Audit":  {map[string]string{podSecurityEnforce: "baseline"}, true, []write{{acme(audit), nil}, {acme(enforce), nil}}, podSecurityEnforce, "baseline", "restricted"},
		"the operator's own are none of the owner": {map[string]string{v1alpha1.LabelTenant: "older"}, false, []write{{acme(), nil}}, v1alpha1.LabelTenant, "", "acme"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			namespace := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
				Name: "tenant-acme", Labels: maps.Clone(tc.before), Annotations: map[string]string{v1alpha1.AnnotationAdoptBy: "acme"},
			}}
			if namespace.Labels == nil {
				namespace.Labels = map[string]string{}
			}
			for i, w := range tc.writes {
				maps.Copy(namespace.Labels, w.drift)
				s, claim := settings(), Owned
				if i == 0 && !tc.earlier {
					claim = Adoptable
				}
				s.Adoption = AdoptionOf(w.tenant, namespace, claim)
				d := DesiredOf(w.tenant, s)
				maps.Copy(namespace.Labels, d.Labels)
				maps.Copy(namespace.Annotations, d.Annotations)
			}
			kept, got := "", BeforeOf(namespace).Labels
			switch value, has := got[tc.label]; {
			case has && value == nil:
				kept = "-"
			case has:
				kept = *value
			}
			if kept != tc.kept || namespace.Labels[tc.label] != tc.want {
				t.Errorf("remembered %q and is %q, want %q and %q", kept, namespace.Labels[tc.label], tc.kept, tc.want)
			}
		})
	}
}

func TestBeforeOf(t *testing.T) {
	cases := map[string]struct {
		stored string
		want   Before
	}{
		"nothing":            {"", Before{}},
		"unreadable":         {`{"labels": 5`, Before{}},
		"labels and objects": {`{"labels":{"team":"a","kind":null},"objects":{"ResourceQuota tenant-quota":"uid"}}`, Before{map[string]*string{"team": new("a"), "kind": nil}, map[string]types.UID{"ResourceQuota tenant-quota": "uid"}}},
		"forged":             {`{"labels":{"tenantry.dev/tenant":"globex","a b":"c","team":"a b","kind":"d"}}`, Before{Labels: map[string]*string{"kind": new("d")}}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			namespace := &metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationBeforeAdoption: tc.stored}}
			if diff := cmp.Diff(tc.want, BeforeOf(namespace)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// contentOf is an object in a namespace. Managed is the value of the operator's label, manager who wrote it.
func contentOf(name string, uid types.UID, managed, manager string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: manager}}}}
	if managed != "" {
		q.Labels = map[string]string{v1alpha1.LabelManaged: managed}
	}
	return q
}

func TestWhoseObjects(t *testing.T) {
	// In every namespace there was an object "old" before.
	cases := map[string]struct {
		obj     *corev1.ResourceQuota
		adopted bool
		// leftover means that the namespace was another Tenant's before.
		leftover           bool
		wantTaken, wantOwn bool
	}{
		"made by the operator":                                  {contentOf("tenant-quota", "new", "true", "tenantry"), true, false, false, true},
		"made by the operator, the label taken off":             {contentOf("tenant-quota", "new", "", "tenantry"), true, false, false, true},
		"somebody else's":                                       {contentOf("tenant-quota", "new", "", "kubectl"), true, false, true, false},
		"there before":                                          {contentOf("tenant-quota", "old", "", "kubectl"), true, false, true, false},
		"there before, the label forged":                        {contentOf("tenant-quota", "old", "true", "kubectl"), true, false, true, false},
		"there before, label and manager forged":                {contentOf("tenant-quota", "old", "true", "tenantry"), true, false, true, false},
		"there before, made for an earlier Tenant":              {contentOf("tenant-quota", "old", "true", "tenantry"), true, true, false, true},
		"there before an earlier Tenant's time":                 {contentOf("tenant-quota", "old", "", "kubectl"), true, true, true, false},
		"another name, the label forged":                        {contentOf("theirs", "new", "true", "kubectl"), true, false, false, false},
		"in the operator's own namespace":                       {contentOf("tenant-quota", "new", "true", "tenantry"), false, false, false, true},
		"in the operator's own namespace, without the label":    {contentOf("tenant-quota", "new", "", "kubectl"), false, false, false, false},
		"in the operator's own namespace, passed off as its":    {contentOf("extra", "new", "true", "kubectl"), false, false, false, true},
		"in the operator's own namespace, under another's name": {contentOf("theirs", "new", "", "kubectl"), false, false, false, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			namespace := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}}}
			if tc.leftover {
				namespace.Annotations[v1alpha1.AnnotationTenantUID] = "older"
			}
			s := settings()
			if tc.adopted {
				namespace.Annotations[v1alpha1.AnnotationAdoptBy] = "acme"
				s.Adoption = AdoptionOf(acme(), namespace, Adoptable)
			}
			d := DesiredOf(acme(), s)
			d.RememberObjects(namespace, []Object{contentOf("tenant-quota", "old", tc.obj.Labels[v1alpha1.LabelManaged], "kubectl"), contentOf("theirs", "x", "", "kubectl")})
			// What is written to the namespace is read again later.
			if tc.adopted {
				namespace.Annotations = d.Annotations
				s.Adoption = AdoptionOf(acme(), namespace, Owned)
				d = DesiredOf(acme(), s)
			}
			if taken := d.IsTaken(tc.obj); taken != tc.wantTaken {
				t.Errorf("taken: %v, want %v", taken, tc.wantTaken)
			}
			if owns := d.Owns(tc.obj); owns != tc.wantOwn {
				t.Errorf("the operator's own: %v, want %v", owns, tc.wantOwn)
			}
		})
	}
}

// TestReservedNames: whatever the operator keeps in some tenant's namespace is looked for before an adoption.
func TestReservedNames(t *testing.T) {
	all := members(member(v1alpha1.RoleDispatcher, v1alpha1.SubjectUser, "", "a"), member(v1alpha1.RoleViewer, v1alpha1.SubjectUser, "", "b"))
	for _, content := range DesiredOf(acme(all), settings()).Contents {
		if !reserved[Key(content.Object)] {
			t.Errorf("%s is not reserved", Key(content.Object))
		}
	}
}

func TestReleased(t *testing.T) {
	entry := func(manager string, operation metav1.ManagedFieldsOperationType, labels ...string) metav1.ManagedFieldsEntry {
		fields := `{"f:metadata":{"f:labels":{".":{}`
		for _, label := range labels {
			fields += `,"f:` + label + `":{}`
		}
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: operation, FieldsV1: metav1.NewFieldsV1(fields + `}}}`)}
	}
	const apply, update = metav1.ManagedFieldsOperationApply, metav1.ManagedFieldsOperationUpdate
	ours := entry("tenantry", apply, "tenantry.dev/tenant", "team", "kind", podSecurityEnforce)
	theirs := entry("kubectl", update, "theirs", "kind")
	namespace := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Labels: map[string]string{
			"tenantry.dev/tenant": "acme", "tenantry.dev/state": "deleting", "team": "ours", "kind": "both's", "theirs": "theirs", podSecurityEnforce: "restricted",
		},
		Annotations: map[string]string{
			"tenantry.dev/adopt-by": "acme", "tenantry.dev/adopted": "true", "tenantry.dev/tenant-uid": "uid", "theirs": "theirs",
			"tenantry.dev/before-adoption": `{"labels":{"team":null,"kind":null,"` + podSecurityEnforce + `":"baseline","gone":"back"}}`,
		},
		ManagedFields: []metav1.ManagedFieldsEntry{ours, theirs},
	}}
	before := namespace.DeepCopy()
	want := metav1.ObjectMeta{
		Labels:        map[string]string{"kind": "both's", "theirs": "theirs", podSecurityEnforce: "baseline", "gone": "back"},
		Annotations:   map[string]string{"tenantry.dev/adopt-by": "acme", "theirs": "theirs"},
		ManagedFields: []metav1.ManagedFieldsEntry{theirs},
	}
	if diff := cmp.Diff(want, Released(namespace).ObjectMeta); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, namespace); diff != "" {
		t.Errorf("the argument was changed:\n%s", diff)
	}
}

func TestTakenMessage(t *testing.T) {
	message := takenMessage("theirs", []string{"ResourceQuota tenant-quota"})
	for _, want := range []string{"ResourceQuota tenant-quota", "namespace theirs", "delete"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not say %q", message, want)
		}
	}
}
