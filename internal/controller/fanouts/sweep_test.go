package fanouts

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

// TestSweep: what a fan-out has left that was orphaned while nobody was there goes, and nothing else.
func TestSweep(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	fanOut := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: "lives", UID: "lives"}}
	objects := []client.Object{fanOut}
	add := func(namespace, name, label string, owned bool) {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if label != "" {
			cm.Labels = map[string]string{v1alpha1.LabelFanOut: label}
		}
		if owned {
			cm.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut"))}
		}
		objects = append(objects, cm)
	}
	const operator = "tenantry-system"
	add(operator, fanout.PlanName("gone"), "f", false)
	add(operator, fanout.PlanName("gone")+"-0123456789abcdef-1", "f", false)
	add(operator, fanout.LedgerName("gone"), "f", false)
	kept := []string{fanout.LedgerName("lives"), fanout.LedgerName("owned"), fanout.PlanName("lives"), "mine", "fan-out-x-ledger"}
	add(operator, kept[0], "lives", false) // somebody has taken its owner reference
	add(operator, kept[1], "lives", true)
	add(operator, kept[2], "lives", false)
	add(operator, kept[3], "f", false)
	add(operator, kept[4], "", false)
	add("default", fanout.LedgerName("gone"), "f", false)

	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	s := &sweeper{&Reconciler{Client: kube.Client{Client: api, Live: api}, OperatorNamespace: operator}}
	for range 2 {
		if err := s.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var left corev1.ConfigMapList
	if err := api.List(t.Context(), &left, client.InNamespace(operator)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, cm := range left.Items {
		names = append(names, cm.Name)
	}
	slices.Sort(names)
	slices.Sort(kept)
	if !slices.Equal(names, kept) {
		t.Errorf("left are %v, want %v", names, kept)
	}
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: fanout.LedgerName("gone")}, &corev1.ConfigMap{}); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
}
