package enforcement

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// restoredPolicy returns an installed policy as it has to be, and whether anything differs. The variables with the users
// of the cluster's controllers stay as they are, since an installation may have to change them.
func restoredPolicy(installed, want *admissionregistrationv1.ValidatingAdmissionPolicy, clusterUsers []string) (restored *admissionregistrationv1.ValidatingAdmissionPolicy, differs bool) {
	restored = installed.DeepCopy()
	want.Spec.DeepCopyInto(&restored.Spec)
	for i, v := range restored.Spec.Variables {
		at := slices.IndexFunc(installed.Spec.Variables, func(other admissionregistrationv1.Variable) bool { return other.Name == v.Name })
		if at >= 0 && slices.Contains(clusterUsers, v.Name) {
			restored.Spec.Variables[i] = installed.Spec.Variables[at]
		}
	}
	setDefaults(restored.Spec.MatchConstraints)
	return restored, !equality.Semantic.DeepEqual(installed.Spec, restored.Spec)
}

// restoredBinding returns an installed binding as it has to be, and whether anything differs.
func restoredBinding(installed, want *admissionregistrationv1.ValidatingAdmissionPolicyBinding) (restored *admissionregistrationv1.ValidatingAdmissionPolicyBinding, differs bool) {
	restored = installed.DeepCopy()
	want.Spec.DeepCopyInto(&restored.Spec)
	setDefaults(restored.Spec.MatchResources)
	return restored, !equality.Semantic.DeepEqual(installed.Spec, restored.Spec)
}

// setDefaults sets what the API server sets where the manifests leave it out.
func setDefaults(match *admissionregistrationv1.MatchResources) {
	if match == nil {
		return
	}
	if match.MatchPolicy == nil {
		match.MatchPolicy = new(admissionregistrationv1.Equivalent)
	}
	if match.NamespaceSelector == nil {
		match.NamespaceSelector = &metav1.LabelSelector{}
	}
	if match.ObjectSelector == nil {
		match.ObjectSelector = &metav1.LabelSelector{}
	}
	for i := range match.ResourceRules {
		if match.ResourceRules[i].Scope == nil {
			match.ResourceRules[i].Scope = new(admissionregistrationv1.AllScopes)
		}
	}
}
