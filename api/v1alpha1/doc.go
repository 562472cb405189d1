// Package v1alpha1 holds the seven kinds of Tenantry, their conditions and reasons, and the names of its labels and
// annotations. It imports only k8s.io/api and k8s.io/apimachinery, so that clients can use it without the operator.
//
// +kubebuilder:object:generate=true
// +groupName=tenantry.dev
package v1alpha1
