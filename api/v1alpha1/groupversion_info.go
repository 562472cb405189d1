package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the API group and version of every kind in this package.
	GroupVersion = schema.GroupVersion{Group: "tenantry.dev", Version: "v1alpha1"}

	// SchemeBuilder collects what AddToScheme adds.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme adds the kinds of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addKnownTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&Tenant{}, &TenantList{},
		&TenantJobTemplate{}, &TenantJobTemplateList{},
		&TenantJob{}, &TenantJobList{},
		&TenantFanOut{}, &TenantFanOutList{},
		&TenantSchedule{}, &TenantScheduleList{},
		&TenantQueue{}, &TenantQueueList{},
		&CredentialProvider{}, &CredentialProviderList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
