package issuer

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/tenantry/tenantry/internal/credential"
)

// item is one credential of a run that is to be issued or revoked.
type item struct {
	run  types.UID
	name string
}

// startWorkers starts the workers of a source. They end when its queue is shut down.
func (i *Issuer) startWorkers(s *source) {
	for range workersPerSource {
		go func() {
			for {
				it, shutdown := s.queue.Get()
				if shutdown {
					return
				}
				if i.process(i.work, s, it) {
					s.queue.Forget(it)
				} else {
					s.queue.AddRateLimited(it)
				}
				s.queue.Done(it)
			}
		}()
	}
}

// task is what a worker has to do.
type task struct {
	run        run
	credential runCredential
	provider   credential.Provider
}

// process issues or revokes a credential. It is false when it has to be tried again.
func (i *Issuer) process(ctx context.Context, s *source, it item) bool {
	t, wanted := i.taskOf(s, it)
	switch {
	case t == nil:
		return true
	case t.provider == nil:
		return true // SetSource goes on with it.
	case wanted && !i.beginIssue(t):
		return false // A copy for the same credential is being deleted.
	case wanted:
		defer i.endIssue(t)
		issued, err := i.issueOne(ctx, *t)
		i.issued(s, it, issued, err)
		return true // The TenantJob asks again.
	}
	err := i.revokeOne(ctx, *t)
	i.revoked(it, err)
	return err == nil
}

// taskOf is what is to be done for an item. Nil means nothing.
func (i *Issuer) taskOf(s *source, it item) (t *task, wanted bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.runs[it.run]
	if r == nil || r.credentials[it.name] == nil || r.credentials[it.name].source != s.name || r.credentials[it.name].state != pending {
		return nil, false
	}
	c := r.credentials[it.name]
	return &task{*r, *c, s.provider}, c.wanted
}

// delivered is a credential that was issued, and the Secret with its values.
type delivered struct {
	credential.Credential
	secret string
}

// issueOne issues a credential and delivers it. Between any two of its steps the tenant may be suspended: then either the second look
// at the Tenant sees it, or the tenant's controller finds the credential when it revokes what is left.
func (i *Issuer) issueOne(ctx context.Context, t task) (delivered, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	tenant, err := i.findTenant(ctx, t.run.tenantName, t.run.tenant)
	if err != nil {
		return delivered{}, err
	}
	c, err := t.provider.Issue(ctx, t.credential.request)
	if err != nil {
		return delivered{}, fmt.Errorf("issuing credential %s of TenantJob %s: %w", t.credential.name, t.run.key, err)
	}
	d := delivered{Credential: c}
	if c.Token == nil {
		if d.secret, err = i.deliver(ctx, t, tenant, c); err != nil {
			return d, err
		}
	}
	_, err = i.findTenant(ctx, t.run.tenantName, t.run.tenant)
	return d, err
}

// revokeOne deletes the Secret with a credential and revokes it. In this order nothing is left that nobody remembers: a source lists what
// is not revoked.
func (i *Issuer) revokeOne(ctx context.Context, t task) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var deletion error
	if t.run.key.Namespace != "" { // The source may have lost it.
		deletion = i.DeleteSecret(ctx, types.NamespacedName{Namespace: t.run.key.Namespace, Name: secretOfRun(t.credential.request.Handle)})
	}
	if err := t.provider.Revoke(ctx, t.credential.request.Handle); err != nil {
		return errors.Join(deletion, fmt.Errorf("revoking credential %s of TenantJob %s: %w", t.credential.name, t.run.key, err))
	}
	return deletion
}

// issued takes in what came of issuing a credential.
func (i *Issuer) issued(s *source, it item, d delivered, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, c := i.find(it)
	if c == nil {
		return
	}
	now := i.clock.Now()
	count(err, &s.issues, &s.issueFailures)
	if err == nil {
		c.bindingType, c.token, c.secret, c.expiresAt, c.issued = d.Type, d.Token, d.secret, d.ExpirationTime, now
		s.succeeded(r.tenant)
	}
	switch {
	case !c.wanted: // It was revoked meanwhile, and an item for that is in the queue.
		return
	case err != nil:
		c.state, c.failure = failed, credential.MessageOf(err)
		if !errors.Is(err, context.Canceled) {
			i.failed(s, r.tenant, err)
		}
		i.log.Error(err, "Issuing a credential failed", "tenantJob", klog.KRef(r.key.Namespace, r.key.Name), "credentialProvider", s.name)
	default:
		c.state = issued
		i.log.V(2).Info("Issued a credential", "tenantJob", klog.KRef(r.key.Namespace, r.key.Name), "credentialProvider", s.name)
	}
	i.request(r.key)
}

// revoked takes in what came of revoking a credential.
func (i *Issuer) revoked(it item, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r, c := i.find(it)
	if c == nil {
		return
	}
	if s := i.sources[c.source]; s != nil {
		count(err, &s.revocations, &s.revocationFailures)
	}
	if err != nil {
		c.failure = credential.MessageOf(err)
		i.log.Error(err, "Revoking a credential failed", "tenantJob", klog.KRef(r.key.Namespace, r.key.Name), "credentialProvider", c.source)
		i.request(r.key)
		return
	}
	c.failure = ""
	if c.wanted { // It is to be issued again, and an item for that is in the queue.
		return
	}
	c.state, c.revoked = revoked, i.clock.Now()
	i.log.V(2).Info("Revoked a credential", "tenantJob", klog.KRef(r.key.Namespace, r.key.Name), "credentialProvider", c.source)
	if r.gone && r.standing(i.clock.Now()).Revoked {
		delete(i.runs, r.uid)
		return
	}
	i.request(r.key)
}

// count counts an attempt.
func count(err error, succeeded, failed *uint64) {
	if err == nil {
		*succeeded++
	} else {
		*failed++
	}
}

func (i *Issuer) find(it item) (*run, *runCredential) {
	r := i.runs[it.run]
	if r == nil {
		return nil, nil
	}
	return r, r.credentials[it.name]
}
