package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/conformance"
)

// runSession is a session of a run.
type runSession struct{ *pgx.Conn }

func (s runSession) Use(ctx context.Context) error { return s.Ping(ctx) }

func (s runSession) Close() { _ = s.Conn.Close(context.Background()) }

// conformanceOptions returns how to test the provider of a database. A process dies before its statements, or with `lost` after them.
func conformanceOptions(t *testing.T, database string, own *v1alpha1.TenantPostgres, lost bool) conformance.Options {
	s := settings(database)
	s.MaxConnections = 2
	admin := server.Admin(t, database)
	stranger := s
	stranger.Cluster = "another cluster"
	return conformance.Options{
		Capabilities: (&Provider{Settings: s}).Capabilities(),
		Cluster:      s.Cluster, Provider: s.Provider,
		Request: credential.Request{
			Tenant:     credential.Tenant{Name: "acme", UID: "uid-of-acme", ExternalID: acme},
			Credential: v1alpha1.TenantCredential{Name: "database", Postgres: own},
			Lifetime:   10 * time.Minute,
		},
		New:      func() (credential.Provider, error) { return New(s) },
		Stranger: func() (credential.Provider, error) { return New(stranger) },
		Login: func(ctx context.Context, c credential.Credential) (conformance.Session, error) {
			conn, err := login(ctx, c.Values)
			if hasCode(err, codeInvalidPassword, codeInvalidAuthorization) {
				return nil, conformance.ErrRefused
			}
			return runSession{conn}, err
		},
		Dying: func(step int) (credential.Provider, func() bool, error) {
			dying := &process{dieAt: step, lost: lost}
			p, err := newProvider(s, dying.connect)
			return p, dying.dead, err
		},
		Expire: func(ctx context.Context, h credential.Handle) error {
			_, err := admin.Exec(ctx, fmt.Sprintf("ALTER ROLE %s%s VALID UNTIL 'yesterday'", rolePrefix, h))
			return err
		},
		Left: func(ctx context.Context) (left int, err error) {
			query := "SELECT (SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)) + (SELECT count(*) FROM tenantry.runs)"
			return left, admin.QueryRow(ctx, query, rolePrefix).Scan(&left)
		},
	}
}

func TestConformance(t *testing.T) {
	conformance.Run(t, conformanceOptions(t, newApplication(t), nil, false))
}

func TestConformanceWithLostAnswers(t *testing.T) {
	conformance.Run(t, conformanceOptions(t, newApplication(t), nil, true))
}
