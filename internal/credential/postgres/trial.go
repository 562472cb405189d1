package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

const (
	// readByNobody is the problem of what a tenant can read that does not exist.
	readByNobody = "a tenant that does not exist reads rows of it"
	// trialLifetime is how long the role of a trial is valid. Until then List leaves it out.
	trialLifetime = time.Minute
	// trialStatementTimeout is how long a trial looks for a row in a table, and trialLockTimeout how long it waits for whoever has locked
	// it. A table in which that takes longer was looked at in vain.
	trialStatementTimeout = "2s"
	trialLockTimeout      = "200ms"
	// trialBudget is how long a trial looks at tables, in random order. The next check begins with others.
	trialBudget = 6 * time.Second
)

// trial is the credential of a tenant that does not exist.
type trial struct {
	provider *Provider
	// id is random.
	id, role string
	target   target
}

// findingsOfTrial logs in as a tenant that does not exist and returns what it can read. Where tenants do not share tables, it must not
// even be let in.
func (p *Provider) findingsOfTrial(ctx context.Context, shared bool) (findings []credential.Finding, err error) {
	random := make([]byte, handleLength/2)
	_, _ = rand.Read(random)
	id := hex.EncodeToString(random)
	t := trial{provider: p, id: id, role: rolePrefix + id}
	if shared {
		t.target.database = p.Database
	}
	defer func() {
		// Also when the check was cancelled: otherwise the role stays until it has expired and somebody lists it.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), operationTimeout)
		defer cancel()
		err = errors.Join(err, p.revoke(cleanup, t.role))
	}()
	if !shared {
		return nil, t.refused(ctx)
	}
	exceptions, err := p.exceptions(ctx)
	if err != nil {
		return nil, err
	}
	names, err := t.find(ctx, string(uuid.NewUUID()), nil)
	if err != nil {
		return nil, err
	}
	if len(names.unlike) > 0 {
		// The tenants' ids are numbers there. No tenant has a negative one.
		numbers, err := t.find(ctx, strconv.Itoa(-1-int(mathrand.Int32N(1<<30))), names.unlike)
		if err != nil {
			return nil, err
		}
		names.read = append(names.read, numbers.read...)
	}
	for _, r := range names.read {
		if !exceptions[r.Object] {
			findings = append(findings, credential.Finding{Object: r.Object, Problem: readByNobody,
				Remedy: "REVOKE ALL ON TABLE " + r.Name + " FROM PUBLIC, tenantry_tenant"})
		}
	}
	return findings, nil
}

// relation is a table or something that can be read like one.
type relation struct{ Name, Object string }

// reading is the result of reading relations.
type reading struct {
	// read are those in which there was a row.
	read []relation
	// unlike are those whose tenants' ids are of another type.
	unlike []relation
}

// login issues the credential for a tenant and connects with it.
func (t trial) login(ctx context.Context, tenant string) (*pgx.Conn, error) {
	p := t.provider
	issued, err := p.issue(ctx, t.role, t.target, credential.Request{
		// A UID that no TenantJob has. tenantry.list knows it by its prefix.
		Run:    credential.Run{UID: types.UID("check-" + t.id)},
		Tenant: credential.Tenant{ExternalID: tenant}, Lifetime: trialLifetime,
	})
	if err != nil {
		return nil, err
	}
	config := p.config.ConnConfig.Copy()
	config.User, config.Password = t.role, string(issued.Values["password"])
	config.RuntimeParams = map[string]string{
		"application_name":              "tenantry check",
		"search_path":                   "pg_catalog, pg_temp",
		"default_transaction_read_only": "on",
		"statement_timeout":             trialStatementTimeout,
		"lock_timeout":                  trialLockTimeout,
	}
	return pgx.ConnectConfig(ctx, config)
}

// refused logs in where nobody is let in.
func (t trial) refused(ctx context.Context) error {
	conn, err := t.login(ctx, string(uuid.NewUUID()))
	if err == nil {
		// What lets it in is a finding about the database.
		closeConnection(conn)
		return nil
	}
	if hasCode(err, codePermissionDenied) {
		return nil
	}
	return err
}

// find logs in as a tenant and reads the relations, or all when none are given.
func (t trial) find(ctx context.Context, tenant string, relations []relation) (reading, error) {
	conn, err := t.login(ctx, tenant)
	if err != nil {
		return reading{}, err
	}
	defer closeConnection(conn)
	var current *string
	if err := conn.QueryRow(ctx, "SELECT tenantry.current_tenant()").Scan(&current); err != nil {
		return reading{}, err
	}
	if current == nil || *current != tenant {
		return reading{}, credential.Errorf(v1alpha1.ReasonServerError, "tenantry.current_tenant() does not return the tenant")
	}
	if relations == nil {
		if relations, err = readable(ctx, conn); err != nil {
			return reading{}, err
		}
	}
	var found reading
	// The budget ends the loop and no query, since a query that is ended closes its connection.
	budget, cancel := context.WithTimeout(ctx, trialBudget)
	defer cancel()
	for _, r := range relations {
		if budget.Err() != nil {
			break
		}
		var exists bool
		err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+r.Name+")").Scan(&exists)
		switch {
		case ctx.Err() != nil || conn.IsClosed():
			return reading{}, err
		case hasCode(err, codeInvalidText):
			found.unlike = append(found.unlike, r)
		case exists:
			found.read = append(found.read, r)
		}
	}
	return found, nil
}

// readable returns what a session can read outside of the catalogue, in random order. The names are quoted by the server.
func readable(ctx context.Context, conn *pgx.Conn) ([]relation, error) {
	query := `SELECT c.oid::regclass::text, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
			WHEN 'f' THEN 'foreign table' ELSE 'table' END || ' ' || c.oid::regclass
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname, 'pg_')
			AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
		ORDER BY random()`
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
}
