package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

const (
	// rolePrefix and a handle are the name of a run's role, which has 53 bytes. PostgreSQL would cut one of more than 63.
	rolePrefix = "tenantry_run_"
	// handleLength is the length of a credential.Handle.
	handleLength = 40
	// operationTimeout bounds each call of a Provider, so that no server holds a worker of the operator.
	operationTimeout = 30 * time.Second
	// conflictRetries is how often a step is tried that somebody else disturbs.
	conflictRetries = 10
	// conflictPause is the longest pause before such a try.
	conflictPause = 20 * time.Millisecond
	// minLifetime leaves a run the time to start.
	minLifetime = time.Minute
)

var (
	_ credential.Provider = (*Provider)(nil)
	_ credential.Checker  = (*Provider)(nil)
)

// Provider issues roles of one server. It opens connections when they are needed, a few at most. The caller closes it, and makes a
// new one when the settings change, for example the password.
type Provider struct {
	Settings
	config *pgxpool.Config
	pool   *pgxpool.Pool
	// evicts lets one call at a time look for who is in its way.
	evicts sync.Mutex
}

// New returns a provider. It does not connect.
func New(s Settings) (*Provider, error) {
	return newProvider(s, func(*pgxpool.Config) {})
}

// newProvider lets tests come between the provider and the server.
func newProvider(s Settings, change func(*pgxpool.Config)) (*Provider, error) {
	config, err := s.config()
	if err != nil {
		return nil, err
	}
	change(config)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, credential.Errorf(v1alpha1.ReasonServerError, "the settings of the connections are not valid")
	}
	return &Provider{Settings: s, config: config, pool: pool}, nil
}

// Close waits for the calls that are going on, and closes the connections.
func (p *Provider) Close() { p.pool.Close() }

// Capabilities returns what it can do.
func (p *Provider) Capabilities() credential.Capabilities { return capabilities(p.MaxLifetime) }

func capabilities(longest time.Duration) credential.Capabilities {
	return credential.Capabilities{
		PerRun: true, Revocation: credential.RevocationImmediate, MinLifetime: minLifetime, MaxLifetime: longest,
	}
}

// Issue makes the role of a run and returns how to log in with it.
func (p *Provider) Issue(ctx context.Context, r credential.Request) (credential.Credential, error) {
	role, err := roleName(r.Handle)
	if err != nil {
		return credential.Credential{}, err
	}
	if r.Tenant.ExternalID == "" {
		return credential.Credential{}, errors.New("the tenant has no external id")
	}
	if problem := tooLong(r.Credential); problem != "" {
		return credential.Credential{}, credential.Errorf(v1alpha1.ReasonDatabaseNotFound, "%s", problem)
	}
	return p.issue(ctx, role, p.targetOf(r.Credential), r)
}

// issue does the same for a given target.
func (p *Provider) issue(ctx context.Context, role string, t target, r credential.Request) (credential.Credential, error) {
	const doing = "issuing a credential"
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	group, err := p.schemaGroup(ctx, t)
	if err != nil {
		return credential.Credential{}, p.describe(caller, err, doing)
	}
	password := newPassword()
	hashed, err := newVerifier(password)
	if err != nil {
		return credential.Credential{}, err
	}
	var expiration time.Time
	create := func(replace bool) error {
		query := "SELECT tenantry.issue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
		return p.try(ctx, func() error {
			return p.pool.QueryRow(ctx, query, replace, role, hashed, p.lifetime(r), p.ConnectionLimit, optional(t.database),
				optional(t.schema), optional(group), r.Tenant.ExternalID, p.Cluster, p.Provider, r.Run.UID, r.Run.Namespace,
				r.Run.Name).Scan(&expiration)
		})
	}
	err = create(false)
	if hasCode(err, codeDuplicateObject) {
		// The handle has a secret, which nobody may use from now on, and which sessions may have used.
		if err = p.silence(ctx, role); err == nil {
			err = create(true)
		}
	}
	if err != nil {
		return credential.Credential{}, p.describe(caller, err, doing)
	}
	return credential.Credential{Type: bindingType, Values: p.values(t, role, password), ExpirationTime: expiration}, nil
}

// lifetime returns how long a run's role is valid.
func (p *Provider) lifetime(r credential.Request) time.Duration {
	if p.MaxLifetime > 0 {
		return min(r.Lifetime, p.MaxLifetime)
	}
	return r.Lifetime
}

// List returns the roles that this provider has made and not removed, as it finds them on the server.
func (p *Provider) List(ctx context.Context) ([]credential.Issued, error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	var all []credential.Issued
	err := p.try(ctx, func() error {
		query := "SELECT role, run, namespace, name, CASE WHEN isfinite(expiration_time) THEN expiration_time END FROM tenantry.list($1, $2)"
		rows, err := p.pool.Query(ctx, query, p.Cluster, p.Provider)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, issued)
		return err
	})
	if err != nil {
		return nil, p.describe(caller, err, "listing credentials")
	}
	return all, nil
}

func issued(row pgx.CollectableRow) (credential.Issued, error) {
	var (
		role, run  string
		expiration *time.Time
		i          credential.Issued
	)
	err := row.Scan(&role, &run, &i.Run.Namespace, &i.Run.Name, &expiration)
	i.Handle = credential.Handle(strings.TrimPrefix(role, rolePrefix))
	i.Run.UID = types.UID(run)
	if expiration != nil {
		i.ExpirationTime = *expiration
	}
	return i, err
}

// try does a step that may be repeated. It repeats it when somebody else has changed the same role, and once when the connection has
// broken, as after a restart of the server.
func (p *Provider) try(ctx context.Context, step func() error) error {
	var err error
	disconnects := 0
	for range conflictRetries {
		if err = step(); err == nil || ctx.Err() != nil {
			return err
		}
		if isDisconnect(err) {
			disconnects++
			// The others are broken as well.
			p.pool.Reset()
		}
		if disconnects > 1 || !isDisconnect(err) && !isConflict(err) {
			return err
		}
		if pause(ctx) != nil {
			return err
		}
	}
	return err
}

// pause lets whoever is in the way finish. It differs for each, so that two do not stay in step.
func pause(ctx context.Context) error {
	timer := time.NewTimer(rand.N(conflictPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// roleName returns the name of a run's role.
func roleName(h credential.Handle) (string, error) {
	if len(h) != handleLength || strings.Trim(string(h), "0123456789abcdef") != "" {
		return "", errors.New("the handle of the credential is not one that credential.NewHandle returns")
	}
	return rolePrefix + string(h), nil
}

// optional returns nil, which is NULL, for an empty string.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
