package operatortest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/postgres"
	"github.com/tenantry/tenantry/internal/credential/secret"
	"github.com/tenantry/tenantry/internal/credential/serviceaccounttoken"
)

// Kinds are the kinds of providers of the operators under test. That of postgres is a Source if there is one for its database.
func Kinds() credential.Kinds {
	return credential.Kinds{secret.Kind(), serviceaccounttoken.Kind(), {
		Name: "postgres",
		Has:  func(spec v1alpha1.CredentialProviderSpec) bool { return spec.Postgres != nil },
		Capabilities: func(v1alpha1.CredentialProviderSpec) credential.Capabilities {
			return credential.Capabilities{PerRun: true, Revocation: credential.RevocationImmediate, MaxLifetime: time.Hour}
		},
		New: func(ctx context.Context, s credential.Settings) (credential.Provider, error) {
			if source, known := sources.Load(s.Provider.Spec.Postgres.Database); known {
				return source.(*Source), nil
			}
			return postgres.Kind().New(ctx, s)
		},
	}}
}

// sources are the Sources that there are, by the database that a CredentialProvider names.
var sources sync.Map

// Source stands for a database server that issues credentials. Several operators may use it, as one is killed and another takes over.
type Source struct {
	// Provider is the CredentialProvider of the Source.
	Provider *v1alpha1.CredentialProvider

	mu     sync.Mutex
	live   map[credential.Handle]login
	issues map[credential.Handle]int
	step   func(step string, h credential.Handle) error
	down   bool
	// refused is the tenant for which nothing is issued.
	refused types.UID
}

// login is what a Source knows of a credential.
type login struct {
	credential.Request
	password string
	expires  time.Time
}

var _ credential.Checker = (*Source)(nil)

// NewSource makes a Source, and a CredentialProvider that is Ready soon.
func NewSource(t *testing.T) *Source {
	t.Helper()
	name := fmt.Sprintf("source-%d", Serial.Add(1))
	s := &Source{live: map[credential.Handle]login{}, issues: map[credential.Handle]int{}}
	sources.Store(name, s)
	s.Provider = Create(t, &v1alpha1.CredentialProvider{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.CredentialProviderSpec{Postgres: &v1alpha1.PostgresProvider{
			AdminSecretRef: v1alpha1.LocalReference{Name: name}, Host: "db.example.com", Database: name,
		}},
	})
	return s
}

// SetDown has the Source answer nothing but errors, or no longer.
func (s *Source) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// RefuseTenant has the Source issue nothing for a tenant. Empty means for none.
func (s *Source) RefuseTenant(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = uid
}

// OnStep has a function called before and after each issue and each revocation: "before issue", "issued", "before revoke", "revoked". An
// error of it is that of the call.
func (s *Source) OnStep(f func(step string, h credential.Handle) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step = f
}

// Live returns the UIDs of the TenantJobs whose credentials live, sorted.
func (s *Source) Live() []types.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := []types.UID{}
	for _, l := range s.live {
		runs = append(runs, l.Run.UID)
	}
	slices.Sort(runs)
	return runs
}

// Accepts says whether a password is that of a live credential.
func (s *Source) Accepts(password string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.live {
		if l.password == password {
			return true
		}
	}
	return false
}

func (s *Source) enter(step string, h credential.Handle) error {
	s.mu.Lock()
	f, down := s.step, s.down
	s.mu.Unlock()
	if down {
		return credential.Transientf(v1alpha1.ReasonUnreachable, "the server can't be reached")
	}
	if f != nil {
		return f(step, h)
	}
	return nil
}

// Issue implements credential.Provider.
func (s *Source) Issue(_ context.Context, r credential.Request) (credential.Credential, error) {
	if err := s.enter("before issue", r.Handle); err != nil {
		return credential.Credential{}, err
	}
	s.mu.Lock()
	if r.Tenant.UID == s.refused {
		s.mu.Unlock()
		return credential.Credential{}, credential.Errorf(v1alpha1.ReasonDatabaseNotFound, "the database does not exist")
	}
	s.issues[r.Handle]++
	l := login{r, fmt.Sprintf("secret-%s-%d", r.Handle, s.issues[r.Handle]), time.Now().Add(r.Lifetime)}
	s.live[r.Handle] = l
	s.mu.Unlock()
	if err := s.enter("issued", r.Handle); err != nil {
		return credential.Credential{}, err
	}
	return credential.Credential{
		Type: "postgresql", ExpirationTime: l.expires,
		Values: credential.Values{"username": []byte(r.Handle), "password": []byte(l.password)},
	}, nil
}

// Revoke implements credential.Provider.
func (s *Source) Revoke(_ context.Context, h credential.Handle) error {
	if err := s.enter("before revoke", h); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.live, h)
	s.mu.Unlock()
	return s.enter("revoked", h)
}

// List implements credential.Provider.
func (s *Source) List(context.Context) ([]credential.Issued, error) {
	if err := s.enter("list", ""); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []credential.Issued
	for h, l := range s.live {
		all = append(all, credential.Issued{Handle: h, Run: l.Run, ExpirationTime: l.expires})
	}
	return all, nil
}

// Check implements credential.Checker.
func (s *Source) Check(context.Context, []v1alpha1.TenantCredential) ([]credential.Finding, error) {
	return nil, s.enter("check", "")
}

// WithCredential is a Tenant with the credential `database` of a Source.
func (s *Source) WithCredential() v1alpha1.TenantSpec {
	return v1alpha1.TenantSpec{Credentials: []v1alpha1.TenantCredential{s.Credential()}}
}

// Credential is the credential `database` of a tenant.
func (s *Source) Credential() v1alpha1.TenantCredential {
	return v1alpha1.TenantCredential{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: s.Provider.Name}}
}

// NeedsDatabase is a template that needs the credential `database`.
func NeedsDatabase(o *v1alpha1.TenantJobTemplate) {
	o.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database", Env: []v1alpha1.CredentialEnv{{Name: "DB_PASSWORD", Key: "password"}}}}
}
