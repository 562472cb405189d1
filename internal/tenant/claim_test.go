package tenant

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func inNamespace(name string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) { t.Spec.Namespace = &v1alpha1.TenantNamespace{Name: name} }
}

func TestClaimOf(t *testing.T) {
	namespace := func(label, uid, adoptBy string) *metav1.PartialObjectMetadata {
		n := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: "tenant-acme", UID: "namespace-uid", Labels: map[string]string{}, Annotations: map[string]string{},
		}}
		for key, value := range map[string]string{v1alpha1.AnnotationTenantUID: uid, v1alpha1.AnnotationAdoptBy: adoptBy} {
			if value != "" {
				n.Annotations[key] = value
			}
		}
		if label != "" {
			n.Labels[v1alpha1.LabelTenant] = label
		}
		return n
	}
	going := func(n *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
		n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		return n
	}
	knows := func(t *v1alpha1.Tenant) {
		t.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid"}
	}
	const adopt = "kubectl annotate --overwrite namespace tenant-acme tenantry.dev/adopt-by=acme"
	cases := map[string]struct {
		namespace *metav1.PartialObjectMetadata
		tenant    *v1alpha1.Tenant
		living    string
		want      Claim
		message   string
	}{
		"none":                                {nil, acme(), "", Missing, ""},
		"its own":                             {namespace("acme", "acme-uid", ""), acme(), "", Owned, ""},
		"its own, terminating":                {going(namespace("acme", "acme-uid", "")), acme(), "", Owned, ""},
		"its own, the label taken off":        {namespace("", "acme-uid", ""), acme(), "", Owned, ""},
		"its own, another's label put on":     {namespace("globex", "acme-uid", ""), acme(), "globex", Owned, ""},
		"its own, everything taken off":       {namespace("", "", ""), acme(knows), "", Owned, ""},
		"a stranger's":                        {namespace("", "", ""), acme(), "", Conflict, adopt},
		"a stranger's, terminating":           {going(namespace("", "", "")), acme(), "", Terminating, "made again"},
		"with our label forged":               {namespace("acme", "", ""), acme(), "", Conflict, adopt},
		"of an earlier Tenant of the name":    {namespace("acme", "older-uid", ""), acme(), "", Conflict, "earlier Tenant"},
		"of an earlier one, terminating":      {going(namespace("acme", "older-uid", "")), acme(), "", Terminating, "made again"},
		"of an earlier one, with consent":     {namespace("acme", "older-uid", "acme"), acme(), "acme", Adoptable, ""},
		"with consent":                        {namespace("", "", "acme"), acme(), "", Adoptable, ""},
		"with consent for another":            {namespace("", "", "globex"), acme(), "", Conflict, adopt},
		"with consent, terminating":           {going(namespace("", "", "acme")), acme(), "", Terminating, "made again"},
		"with consent, another lives in it":   {namespace("globex", "globex-uid", "acme"), acme(), "globex", Conflict, "Tenant globex"},
		"with consent, another lived in it":   {namespace("globex", "globex-uid", "acme"), acme(), "", Adoptable, ""},
		"the cluster's, with consent":         {namespace("", "", "acme"), acme(inNamespace("kube-system")), "", Conflict, "never"},
		"default, with consent":               {namespace("", "", "acme"), acme(inNamespace("default")), "", Conflict, "never"},
		"the operator's, with consent":        {namespace("", "", "acme"), acme(inNamespace("tenantry-system")), "", Conflict, "never"},
		"the operator's, as if it were ours":  {namespace("acme", "acme-uid", ""), acme(inNamespace("tenantry-system")), "", Conflict, "never"},
		"the operator's, that isn't there":    {nil, acme(inNamespace("tenantry-system")), "", Conflict, "never"},
		"our label, and consent for us alone": {namespace("acme", "", "acme"), acme(), "acme", Adoptable, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, message := ClaimOf(tc.tenant, tc.namespace, "tenantry-system", func(name string) bool { return name == tc.living })
			if got != tc.want || !strings.Contains(message, tc.message) || (tc.message == "") != (message == "") {
				t.Errorf("got %s %q, want %s %q", got, message, tc.want, tc.message)
			}
		})
	}
}

func TestRetains(t *testing.T) {
	annotated := func(key, value string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{key: value}}}
	}
	policy := func(p v1alpha1.NamespaceDeletionPolicy) func(*v1alpha1.Tenant) {
		return func(t *v1alpha1.Tenant) { t.Spec.Namespace = &v1alpha1.TenantNamespace{DeletionPolicy: p} }
	}
	cases := map[string]struct {
		namespace *metav1.PartialObjectMetadata
		tenant    *v1alpha1.Tenant
		want      bool
	}{
		"made for it":                        {annotated("a", "b"), acme(), false},
		"made for it, to be deleted":         {annotated("a", "b"), acme(policy(v1alpha1.NamespaceDelete)), false},
		"made for it, to be retained":        {annotated("a", "b"), acme(policy(v1alpha1.NamespaceRetain)), true},
		"adopted, to be deleted":             {annotated("tenantry.dev/adopted", "true"), acme(policy(v1alpha1.NamespaceDelete)), true},
		"adopted, the note of it taken off":  {annotated("tenantry.dev/adopt-by", "acme"), acme(), true},
		"with consent for somebody else":     {annotated("tenantry.dev/adopt-by", "globex"), acme(), false},
		"adopted, then marked as not":        {annotated("tenantry.dev/adopted", "false"), acme(), false},
		"adopted, as the status alone says":  {&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: "namespace-uid"}}, acme(namesNamespace), true},
		"another one was adopted":            {&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{UID: "another-uid"}}, acme(namesNamespace), false},
		"gone, and it would be retained too": {nil, acme(policy(v1alpha1.NamespaceRetain)), true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Retains(tc.tenant, tc.namespace); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
