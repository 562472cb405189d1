package credentials

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/kube"
)

// instance is a Provider and what it was made from.
type instance struct {
	provider credential.Provider
	// of are the UID and the generation of the CredentialProvider, and made are these and the versions of the Secrets that it was made from.
	of, made string
	// The lock of the Reconciler guards what follows. What is checked is when it was tried last, and found is what came of it. Zero means
	// that it was not tried.
	checked time.Time
	found   outcome
	// ready is when it was Ready last, and shaky says that it could not be tried since, for a reason that may pass.
	ready time.Time
	shaky bool
}

// shakyAfter is for how long a provider counts as Ready that can't be tried, while its server answers.
const shakyAfter = 15 * time.Minute

// instance returns the Provider of a CredentialProvider, and whether it can issue. It is nil when it can't be made.
func (r *Reconciler) instance(ctx context.Context, provider *v1alpha1.CredentialProvider, kind credential.Kind) (*instance, outcome) {
	i, o := r.open(ctx, provider, kind)
	if i == nil {
		return nil, o
	}
	now := r.Clock.Now()
	if !r.isDue(i, now) {
		return i, r.outcomeOf(i)
	}
	found := r.check(ctx, provider, i.provider)
	r.mu.Lock()
	i.learn(found, now)
	if i.shaky {
		log.FromContext(ctx).Info("A provider could not be tried, and counts as Ready for now", "credentialProvider", klog.KObj(provider), "why", found.message)
	}
	r.mu.Unlock()
	return i, r.outcomeOf(i)
}

// learn takes in what a try has found. Any tenant can keep a server busy for a moment, so that alone does not stop all the others: what
// may pass changes nothing at first.
func (i *instance) learn(found outcome, now time.Time) {
	i.checked = now
	i.shaky = found.mayPass && i.found.status == metav1.ConditionTrue && now.Sub(i.ready) < shakyAfter
	if i.shaky {
		return
	}
	if i.found = found; found.status == metav1.ConditionTrue {
		i.ready = now
	}
}

// outcomeOf is what is known of a provider.
func (r *Reconciler) outcomeOf(i *instance) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := i.found
	if i.shaky {
		o.after = retryInterval
	}
	return o
}

// isDue says whether a provider is to be tried now.
func (r *Reconciler) isDue(i *instance, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	interval := checkInterval
	if i.found.status != metav1.ConditionTrue || i.shaky {
		interval = retryInterval
	}
	return i.checked.IsZero() || now.Sub(i.checked) >= interval || now.Before(i.checked)
}

// open returns the Provider of a CredentialProvider as it and its Secrets are now.
func (r *Reconciler) open(ctx context.Context, provider *v1alpha1.CredentialProvider, kind credential.Kind) (*instance, outcome) {
	of := fmt.Sprintf("%s/%d", provider.UID, provider.Generation)
	made, p, err := r.make(ctx, provider, kind)
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.instances[provider.Name]
	switch {
	case err != nil && credential.AsError(err) == nil && i != nil && i.of == of:
		log.FromContext(ctx).Error(err, "Reading what a provider is made from") // That says nothing of the provider.
		return i, outcome{}
	case err != nil:
		return nil, failed(ctx, err)
	case i != nil && i.made == of+made:
		go closeProvider(p)
		return i, outcome{}
	case i != nil:
		go closeProvider(i.provider) // It waits for what is under way.
	}
	i = &instance{provider: p, of: of, made: of + made}
	r.instances[provider.Name] = i
	return i, outcome{}
}

// make makes the Provider of a CredentialProvider, and returns from which versions of Secrets.
func (r *Reconciler) make(ctx context.Context, provider *v1alpha1.CredentialProvider, kind credential.Kind) (from string, p credential.Provider, err error) {
	cluster, err := kube.ClusterUID(ctx, r.Live)
	if err != nil {
		return "", nil, err
	}
	p, err = kind.New(ctx, credential.Settings{Provider: provider, Cluster: cluster, Secret: func(ctx context.Context, name string) (credential.Secret, error) {
		s, err := r.readSecret(ctx, name)
		from += fmt.Sprintf(" %s/%s", s.UID, s.ResourceVersion)
		return s, err
	}})
	return from, p, err
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
		return outcome{status: metav1.ConditionTrue, reason: v1alpha1.ReasonReady, message: "it can be used"}
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
		return outcome{metav1.ConditionFalse, v1alpha1.ReasonNotIsolated, describe(findings), retryInterval, false}
	}
	return outcome{metav1.ConditionTrue, v1alpha1.ReasonReady, "a credential was issued, saw nothing of any tenant, and was revoked", secretInterval, false}
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
		return outcome{metav1.ConditionFalse, e.Reason, e.Message, retryInterval, e.Transient && e.Reason == v1alpha1.ReasonServerError}
	}
	log.FromContext(ctx).Error(err, "Trying a provider failed")
	return outcome{metav1.ConditionUnknown, v1alpha1.ReasonProgressing, "it could not be tried; the operator's log says why", retryInterval, true}
}
