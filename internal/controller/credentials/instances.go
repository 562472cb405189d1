package credentials

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/kube"
)

// instance is a Provider and what it was made from.
type instance struct {
	provider credential.Provider
	// made are the UID and the generation of the CredentialProvider and the versions of the Secrets that it was made from.
	made string
	// checked is when it was tried last, and found what came of it. Zero means that it was not. The lock of the Reconciler guards checked.
	checked time.Time
	found   outcome
}

// instance returns the Provider of a CredentialProvider, and whether it can issue. It is nil when it can't be made.
func (r *Reconciler) instance(ctx context.Context, provider *v1alpha1.CredentialProvider, kind credential.Kind) (*instance, outcome) {
	i, o := r.open(ctx, provider, kind)
	if i == nil {
		return nil, o
	}
	if now := r.Clock.Now(); r.isDue(i, now) {
		found := r.check(ctx, provider, i.provider)
		r.mu.Lock()
		defer r.mu.Unlock()
		i.found, i.checked = found, now
	}
	return i, i.found
}

// isDue says whether a provider is to be tried now.
func (r *Reconciler) isDue(i *instance, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	interval := checkInterval
	if i.found.status != metav1.ConditionTrue {
		interval = retryInterval
	}
	return i.checked.IsZero() || now.Sub(i.checked) >= interval || now.Before(i.checked)
}

// open returns the Provider of a CredentialProvider as it and its Secrets are now.
func (r *Reconciler) open(ctx context.Context, provider *v1alpha1.CredentialProvider, kind credential.Kind) (*instance, outcome) {
	cluster, err := kube.ClusterUID(ctx, r.Live)
	if err != nil {
		return nil, failed(ctx, err)
	}
	made := fmt.Sprintf("%s/%d", provider.UID, provider.Generation)
	p, err := kind.New(ctx, credential.Settings{Provider: provider, Cluster: cluster, Secret: func(ctx context.Context, name string) (credential.Secret, error) {
		s, err := r.readSecret(ctx, name)
		made += fmt.Sprintf(" %s/%s", s.UID, s.ResourceVersion)
		return s, err
	}})
	if err != nil {
		return nil, failed(ctx, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.instances[provider.Name]; i != nil && i.made == made {
		go closeProvider(p)
		return i, outcome{}
	}
	if i := r.instances[provider.Name]; i != nil {
		go closeProvider(i.provider) // It waits for what is under way.
	}
	r.instances[provider.Name] = &instance{provider: p, made: made}
	return r.instances[provider.Name], outcome{}
}

// expire has a provider tried again when it is reconciled next.
func (r *Reconciler) expire(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.instances[name]; i != nil {
		i.checked = time.Time{}
	}
}

// close ends the connections of a provider.
func (r *Reconciler) close(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.instances[name]; i != nil {
		go closeProvider(i.provider)
		delete(r.instances, name)
	}
}

func closeProvider(p credential.Provider) {
	if c, is := p.(credential.Closer); is {
		c.Close()
	}
}

// check tries a Provider.
func (r *Reconciler) check(ctx context.Context, of *v1alpha1.CredentialProvider, p credential.Provider) outcome {
	c, is := p.(credential.Checker)
	if !is {
		return outcome{metav1.ConditionTrue, v1alpha1.ReasonReady, "it can be used", 0}
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	credentials, err := r.credentialsOf(ctx, of)
	if err != nil {
		return failed(ctx, err)
	}
	findings, err := c.Check(ctx, credentials)
	switch {
	case err != nil:
		return failed(ctx, err)
	case len(findings) > 0:
		return outcome{metav1.ConditionFalse, v1alpha1.ReasonNotIsolated, describe(findings), retryInterval}
	}
	return outcome{metav1.ConditionTrue, v1alpha1.ReasonReady, "a credential was issued, saw nothing of any tenant, and was revoked", secretInterval}
}

// credentialsOf returns the tenants' credentials of a CredentialProvider.
func (r *Reconciler) credentialsOf(ctx context.Context, provider *v1alpha1.CredentialProvider) ([]v1alpha1.TenantCredential, error) {
	var tenants v1alpha1.TenantList
	if err := r.List(ctx, &tenants, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Tenants: %w", err)
	}
	var all []v1alpha1.TenantCredential
	for i := range tenants.Items {
		for _, c := range tenants.Items[i].Spec.Credentials {
			if c.ProviderRef.Name == provider.Name {
				all = append(all, c)
			}
		}
	}
	return all, nil
}

// maxFindings is how many findings a status message has.
const maxFindings = 10

func describe(findings []credential.Finding) string {
	texts := make([]string, 0, maxFindings+1)
	for n, f := range findings {
		if n == maxFindings {
			texts = append(texts, fmt.Sprintf("and %d more", len(findings)-n))
			break
		}
		text := f.Object + " " + f.Problem
		if f.Remedy != "" {
			text += ": " + f.Remedy
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// failed is the outcome for an error.
func failed(ctx context.Context, err error) outcome {
	if e := credential.AsError(err); e != nil {
		return outcome{metav1.ConditionFalse, e.Reason, e.Message, retryInterval}
	}
	log.FromContext(ctx).Error(err, "Trying a provider failed")
	return outcome{metav1.ConditionUnknown, v1alpha1.ReasonProgressing, "it could not be tried; the operator's log says why", retryInterval}
}
