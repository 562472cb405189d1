package v1alpha1

// LocalReference names an object. The field that has the reference says of which kind and in which namespace.
// +structType=atomic
type LocalReference struct {
	// name of the object: a DNS-1123 subdomain.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
}

// LabelReference names an object whose name is also the value of a label, so it has at most 63 characters.
// +structType=atomic
type LabelReference struct {
	// name of the object: a DNS-1123 label.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
}

// TenantReference names a Tenant.
// +structType=atomic
type TenantReference struct {
	// name of the Tenant: a DNS-1123 label of at most 40 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`
}

// TenantName is the name of a Tenant.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=40
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
type TenantName string

// ParameterValue is the value of a parameter, as text for all types. Nothing in it is expanded.
// +kubebuilder:validation:MinLength=0
// +kubebuilder:validation:MaxLength=4096
// +kubebuilder:validation:XValidation:rule="!self.contains('\\u0000')",message="`value` must not contain NUL"
type ParameterValue string
