package job

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// The variables that the operator sets in every container. The variable of an attribute is VarAttributePrefix and its name.
const (
	VarTenantID        = "TENANT_ID"
	VarTenantName      = "TENANT_NAME"
	VarNamespace       = "TENANTRY_NAMESPACE"
	VarTenantUID       = "TENANTRY_TENANT_UID"
	VarTimeZone        = "TENANTRY_TIME_ZONE"
	VarAttributePrefix = "TENANTRY_ATTRIBUTE_"
	VarJobName         = "TENANTRY_JOB_NAME"
	VarJobUID          = "TENANTRY_JOB_UID"
	VarTemplate        = "TENANTRY_TEMPLATE"
	VarQueue           = "TENANTRY_QUEUE"
	VarFanOut          = "TENANTRY_FAN_OUT"
	VarScheduledTime   = "TENANTRY_SCHEDULED_TIME"
	// VarBindingRoot is the directory with the credentials, as in the Service Binding specification.
	VarBindingRoot = "SERVICE_BINDING_ROOT"
)

// ReservedVariable says whether an environment variable belongs to the operator.
func ReservedVariable(name string) bool {
	return strings.HasPrefix(name, "TENANTRY_") || name == VarTenantID || name == VarTenantName || name == VarBindingRoot
}

// beginsReserved says whether there is a key with which a prefix makes a variable that belongs to the operator. Explicit
// variables take precedence over those of an envFrom, but the operator sets none for an attribute that a Tenant does not have.
func beginsReserved(prefix string) bool {
	return ReservedVariable(prefix) || slices.ContainsFunc([]string{"TENANTRY_", VarTenantID, VarTenantName, VarBindingRoot}, func(reserved string) bool {
		return strings.HasPrefix(reserved, prefix)
	})
}

// AttributeVariable returns the name of the variable that has a tenant's attribute.
func AttributeVariable(attribute string) string {
	return VarAttributePrefix + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(attribute))
}

// ParameterVariable returns the name of the variable that has a parameter: its env, or its name in upper snake case.
func ParameterVariable(p v1alpha1.Parameter) string {
	if p.Env != "" {
		return p.Env
	}
	var b strings.Builder
	runes := []rune(p.Name)
	for i, r := range runes {
		startsWord := i > 0 && unicode.IsUpper(r) &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if startsWord {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// environment returns the variables that every container of a run has before its own. All variables of the operator are
// set, some of them to an empty value, so that an envFrom can't set them.
func environment(r Run, values Values) []corev1.EnvVar {
	fanOut := ptr.Deref(r.FanOut, FanOut{})
	vars := []corev1.EnvVar{
		literal(VarTenantID, r.Tenant.ExternalID()),
		literal(VarTenantName, r.Tenant.Name),
		literal(VarNamespace, r.TenantJob.Namespace),
		literal(VarTenantUID, string(r.Tenant.UID)),
		literal(VarTimeZone, r.Tenant.TimeZone()),
		literal(VarJobName, r.TenantJob.Name),
		literal(VarJobUID, string(r.TenantJob.UID)),
		literal(VarTemplate, r.Template.Name),
		literal(VarQueue, r.Template.QueueName()),
		literal(VarFanOut, fanOut.Name),
		literal(VarScheduledTime, fanOut.ScheduledTime),
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tenant.Spec.Attributes)) {
		vars = append(vars, literal(AttributeVariable(name), string(r.Tenant.Spec.Attributes[name])))
	}
	for _, p := range r.Template.Spec.Parameters {
		// A template with a reserved variable is not Ready. If it ran anyway, the last of two variables of a name would count.
		name := ParameterVariable(p)
		if value, set := values[p.Name]; set && !ReservedVariable(name) {
			vars = append(vars, literal(name, value))
		}
	}
	return vars
}

// literal returns a variable whose value the pod gets unchanged. The kubelet expands $(NAME), and replaces $$ with $.
func literal(name, value string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, Value: strings.ReplaceAll(value, "$", "$$")}
}
