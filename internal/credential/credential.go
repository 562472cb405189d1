package credential

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Provider is the source of credentials that one CredentialProvider object configures. Its methods may be called concurrently, by
// several operators, and again after any error. Their errors are of type *Error where the cause is known.
type Provider interface {
	// Issue makes the credential of a run and returns it. When the handle exists already, it replaces the secret, so that what was
	// returned before is no longer accepted: never do two secrets of a handle live.
	Issue(ctx context.Context, r Request) (Credential, error)
	// Revoke makes a credential dead: when it returns nil, nobody can log in with it, and no session that did goes on. A handle that
	// does not exist is a success.
	Revoke(ctx context.Context, h Handle) error
	// List returns every credential at the source that this provider has issued for this cluster and that is not revoked completely,
	// whoever remembers it.
	List(ctx context.Context) ([]Issued, error)
}

// Checker is what a Provider also is that can try whether it works. The CredentialProvider is Ready when Check succeeds.
type Checker interface {
	// Check issues a credential for a tenant that does not exist, logs in with it, sees that nothing of a tenant can be read, and
	// revokes it. The credentials are the entries of all Tenants that name this provider: what is a tenant's own must not be another
	// one's. The findings are what a person has to change, sorted; with findings the provider must not be used. The error, of type
	// *Error, is why the check could not be done. A tenant's own database or schema that does not exist is neither: it is that
	// tenant's problem, which Issue returns.
	Check(ctx context.Context, credentials []v1alpha1.TenantCredential) ([]Finding, error)
}

// Finding is one thing at the source that lets a tenant's credential do more than it should.
type Finding struct {
	// Object names what is wrong, for example `table public.payments`.
	Object string
	// Problem says what is wrong with it, without a full stop.
	Problem string
	// Remedy is the statement that mends it. It may be empty.
	Remedy string
}

// Capabilities is what a kind of provider can do.
type Capabilities struct {
	// PerRun means that each run gets a credential of its own, which is issued and revoked. Otherwise what Issue returns is the
	// tenant's own, Revoke does nothing, and List is empty.
	PerRun bool
	// Revocation is how a credential dies.
	Revocation Revocation
	// MinLifetime and MaxLifetime bound Request.Lifetime. A MaxLifetime of zero means no bound.
	MinLifetime, MaxLifetime time.Duration
}

// Revocation is how a credential dies.
type Revocation string

const (
	// RevocationImmediate means that Revoke kills it.
	RevocationImmediate Revocation = "Immediate"
	// RevocationAtExpiry means that it lives until it expires.
	RevocationAtExpiry Revocation = "AtExpiry"
	// RevocationNone means that it outlives the run.
	RevocationNone Revocation = "None"
)

// Handle identifies a credential at its source. It is no secret. It has 40 characters, lower-case hexadecimal digits.
type Handle string

// NewHandle returns the handle of a run's credential. It is the same whenever it is computed, and no other run, tenant, provider,
// cluster or credential of the run has it.
func NewHandle(cluster, provider, tenant, run types.UID, name string) Handle {
	sum := sha256.New()
	for _, part := range []string{string(cluster), string(provider), string(tenant), string(run), name} {
		// A hash never returns an error.
		_, _ = fmt.Fprintf(sum, "%d:%s;", len(part), part)
	}
	return Handle(hex.EncodeToString(sum.Sum(nil))[:40])
}

// Request asks for the credential of a run.
type Request struct {
	Handle Handle
	// Run is what the credential is made for.
	Run Run
	// Tenant is whose run it is.
	Tenant Tenant
	// Credential is the entry of the Tenant's spec.credentials.
	Credential v1alpha1.TenantCredential
	// Lifetime is after which time the source has to make the credential unusable by itself. The source's clock counts.
	Lifetime time.Duration
}

// Run is the TenantJob that a credential is made for.
type Run struct {
	Namespace, Name string
	UID             types.UID
}

// Tenant is whose run a credential is made for.
type Tenant struct {
	Name       string
	UID        types.UID
	ExternalID string
}

// Credential is what a run gets. Either Values or Token is set.
type Credential struct {
	// Values are the files of the binding, without `type` and `provider`.
	Values Values
	// Type is the key `type` of the binding, for example postgresql.
	Type string
	// Token asks the kubelet for a token of the run's service account.
	Token *Token
	// Version identifies the values of a credential that is the tenant's own: they change with it. It is empty for one that is issued
	// for each run.
	Version string
	// ExpirationTime is when the source makes it unusable. Zero means never.
	ExpirationTime time.Time
}

// Token is a token that the kubelet requests and renews, for a pod.
type Token struct {
	Audience string
	// Lifetime of a token, a whole number of seconds.
	Lifetime time.Duration
}

// Issued is a credential that a source has.
type Issued struct {
	Handle Handle
	// Run is what it was issued for. Its namespace and name are empty when the source has lost them, its UID never is.
	Run Run
	// ExpirationTime is when the source makes it unusable. Zero means that it does not say.
	ExpirationTime time.Time
}

// Values are secret. They are printed as their number only.
type Values map[string][]byte

// String returns the number of values.
func (v Values) String() string { return fmt.Sprintf("%d secret values", len(v)) }

// GoString returns the same as String.
func (v Values) GoString() string { return v.String() }

// Format prints the same as String for every verb.
func (v Values) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, v.String()) }

// LogValue returns the same as String.
func (v Values) LogValue() slog.Value { return slog.StringValue(v.String()) }

// MarshalJSON returns the same as String.
func (v Values) MarshalJSON() ([]byte, error) { return []byte(`"` + v.String() + `"`), nil }
