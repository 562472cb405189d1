package issuer

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/job"
)

// run is what is known of the credentials of one TenantJob.
type run struct {
	key         types.NamespacedName
	uid         types.UID
	tenant      types.UID
	tenantName  string
	credentials map[string]*runCredential
	// order are the names of the credentials as the template has them.
	order []string
	// issuingSince is when Issue was called that made the first of its credentials pending.
	issuingSince time.Time
	// unknown means that an earlier process may have issued credentials. The sweep finds out which.
	unknown bool
	// gone means that there is no TenantJob that has to be told.
	gone bool
	// released is the version of the TenantJob from which on it does not have the finalizer.
	released string
}

// runCredential is one credential of a run.
type runCredential struct {
	name, source string
	// perRun means that it is issued for this run. Otherwise it is the tenant's own.
	perRun bool
	// found means that it was found at its source. Its name is its handle then.
	found   bool
	request credential.Request
	env     []v1alpha1.CredentialEnv
	// wanted means that it is to be issued, or stay so. Otherwise it is to be revoked.
	wanted bool
	state  state
	// failure is why the last attempt failed.
	failure string
	// secret is the Secret with its values. It is empty for a token.
	secret            string
	bindingType       string
	token             *credential.Token
	issued, expiresAt time.Time
	revoked           time.Time
	// unwanted is since when it is to be revoked. Zero means that it is not.
	unwanted time.Time
}

// state is how far a credential has come.
type state int

const (
	// pending means that nobody knows whether it exists: it is being issued or revoked, or will be.
	pending state = iota
	// issued means that the run can have it.
	issued
	// failed means that it could not be issued. It may exist all the same.
	failed
	// revoked means that it does not exist.
	revoked
)

func newRun(key types.NamespacedName, uid types.UID) *run {
	return &run{key: key, uid: uid, credentials: map[string]*runCredential{}}
}

func namesOf(template *v1alpha1.TenantJobTemplate) []string {
	names := make([]string, 0, len(template.Spec.Credentials))
	for _, c := range template.Spec.Credentials {
		names = append(names, c.Name)
	}
	return names
}

// id is the TenantJob.
func (r *run) id() credential.Run {
	return credential.Run{Namespace: r.key.Namespace, Name: r.key.Name, UID: r.uid}
}

// hasFound says whether credentials that were found at a source are not revoked yet. Nobody knows which of the run's they are.
func (r *run) hasFound() bool {
	for _, c := range r.credentials {
		if c.found && c.state != revoked {
			return true
		}
	}
	return false
}

// isOutdated says whether some that are not revoked are from another provider than the tenant names now, or the template does not name
// them any more.
func (r *run) isOutdated(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) bool {
	named := namesOf(template)
	for _, c := range r.credentials {
		if c.state == revoked {
			continue
		}
		if has := credentialOf(tenant, c.name); !slices.Contains(named, c.name) || has != nil && has.ProviderRef.Name != c.source {
			return true
		}
	}
	return false
}

// mustBeRevoked says whether it is to be revoked, and is not yet.
func (c *runCredential) mustBeRevoked() bool { return !c.wanted && c.state != revoked }

// withHandle returns the credential of the run that has a handle. Nil means that none has.
func (r *run) withHandle(h credential.Handle) *runCredential {
	for _, c := range r.credentials {
		if c.request.Handle == h {
			return c
		}
	}
	return nil
}

// standing returns what is known at a time.
func (r *run) standing(now time.Time) Standing {
	s := Standing{Known: true, Issued: !r.unknown, Revoked: !r.unknown, Released: r.released}
	issuing := false
	names := r.order
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(r.credentials))
	}
	for _, name := range names {
		c := r.credentials[name]
		if c == nil {
			s.Issued = false
			continue
		}
		s.Issued = s.Issued && c.wanted && c.state == issued
		issuing = issuing || c.wanted && c.state == pending
		s.Bindings = append(s.Bindings, c.binding())
		s.add(c)
	}
	for _, name := range slices.Sorted(maps.Keys(r.credentials)) {
		if !slices.Contains(names, name) { // The template does not name it any more.
			s.add(r.credentials[name])
		}
	}
	if issuing {
		s.IssuingFor = max(1, now.Sub(r.issuingSince))
	}
	return s
}

// add takes in what counts for each credential, whether the template still names it or not.
func (s *Standing) add(c *runCredential) {
	s.Revoked = s.Revoked && !c.wanted && c.state == revoked
	if c.mustBeRevoked() && c.failure != "" {
		s.Failure = c.failure
	}
	if !c.issued.IsZero() {
		s.Statuses = append(s.Statuses, c.status())
	}
}

// status is what the status of the TenantJob has to say. One that is the tenant's own is never revoked.
func (c *runCredential) status() v1alpha1.CredentialStatus {
	status := v1alpha1.CredentialStatus{Name: c.name, IssueTime: metaTime(c.issued), ExpirationTime: metaTime(c.expiresAt)}
	if c.perRun {
		status.RevocationTime = metaTime(c.revoked)
	}
	return status
}

func (c *runCredential) binding() job.Binding {
	b := job.Binding{Name: c.name, Secret: c.secret, Env: c.env}
	if c.token != nil {
		b.Token = &job.TokenBinding{
			Audience: c.token.Audience, ExpirationSeconds: int64(c.token.Lifetime / time.Second), Type: c.bindingType, Provider: c.source,
		}
	}
	return b
}

// revoke has all credentials of a run revoked.
func (i *Issuer) revoke(r *run) {
	for name, c := range r.credentials {
		if !c.wanted {
			continue
		}
		c.wanted, c.state, c.unwanted = false, pending, i.clock.Now()
		switch s := i.sources[c.source]; {
		case !c.perRun:
			c.state = revoked
		case s != nil: // Otherwise SetSource goes on with it.
			s.queue.Add(item{r.uid, name})
		}
	}
}
