package tenants

import (
	"context"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// A template says whose members may dispatch it.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobtemplates,verbs=get;list;watch
// A provider says which server and database are meant by a tenant that has one of its own.
// +kubebuilder:rbac:groups=tenantry.dev,resources=credentialproviders,verbs=get;list;watch
// The Jobs of all tenants are watched.
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch

// observe reads what the first decision about a Tenant needs. The actions read the rest.
func (r *Reconciler) observe(ctx context.Context, t *v1alpha1.Tenant) (tenant.Observed, error) {
	o := tenant.Observed{Tenant: t, Enforcement: tenant.EnforcementOf(t, r.DefaultEnforcement), Policies: r.Policies.State()}
	_, o.Verify = r.toVerify.LoadAndDelete(t.Name)
	var err error
	if o.Namespace, err = r.findNamespace(ctx, t.NamespaceName()); err != nil {
		return o, err
	}
	exists := func(name string) bool {
		return r.Get(ctx, types.NamespacedName{Name: name}, &v1alpha1.Tenant{}) == nil
	}
	o.Claim, o.ClaimMessage = tenant.ClaimOf(t, o.Namespace, r.OperatorNamespace, exists)
	o.SameExternalID = tenant.SameExternalID(t, r.tenants.By(indexExternalID, tenant.CanonicalExternalID(t.ExternalID())))
	providers, err := r.postgresProviders(ctx, t)
	if err != nil {
		return o, err
	}
	o.Databases, o.SharedDatabase = tenant.Databases(t, r.namingDatabasesOf(t, providers),
		func(name string) *v1alpha1.PostgresProvider { return providers[name] })
	var templates v1alpha1.TenantJobTemplateList
	if err := r.List(ctx, &templates, client.UnsafeDisableDeepCopy); err != nil {
		return o, fmt.Errorf("listing TenantJobTemplates: %w", err)
	}
	o.Desired = tenant.DesiredOf(t, tenant.Settings{
		OperatorNamespace:  r.OperatorNamespace,
		DefaultEnforcement: r.DefaultEnforcement,
		DNSEgress:          r.DNSEgress,
		Adoption:           tenant.AdoptionOf(t, o.Namespace, o.Claim),
		MemberTemplates:    tenant.MemberTemplates(t, templates.Items),
	})
	o.Jobs = unfinishedJobs(r.jobs.In(t.NamespaceName()), t)
	if len(t.Status.CopiedSecrets) > 0 {
		o.MountedCopies = r.jobs.CopiesIn(t.NamespaceName(), job.IsLive)
	}
	return o, nil
}

// findNamespace reads a namespace's metadata. The cache lacks a namespace that has no label of the operator's, or was created
// just now, so the API server is asked too. Nil means that there is none.
func (r *Reconciler) findNamespace(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	key := types.NamespacedName{Name: name}
	namespace, err := kube.Find(ctx, r.Client, key, kube.NamespaceMetadata(name))
	if namespace != nil || err != nil {
		return namespace, err
	}
	return kube.Find(ctx, r.Live, key, kube.NamespaceMetadata(name))
}

// unfinishedJobs returns those of some Jobs that are the tenant's and have not ended.
func unfinishedJobs(jobs []*batchv1.Job, t *v1alpha1.Tenant) []*batchv1.Job {
	var unfinished []*batchv1.Job
	for _, j := range jobs {
		if j.Labels[v1alpha1.LabelTenant] == t.Name && job.IsLive(j) {
			unfinished = append(unfinished, j)
		}
	}
	return unfinished
}
