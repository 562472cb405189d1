package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// target is where a run works.
type target struct {
	// database that it connects to.
	database string
	// schema that is the tenant's own. Empty means that it has none.
	schema string
}

// targetOf returns where the runs of a tenant work.
func (p *Provider) targetOf(c v1alpha1.TenantCredential) target {
	if c.Postgres == nil {
		return target{database: p.Database}
	}
	t := target{database: c.Postgres.Database, schema: c.Postgres.Schema}
	if t.database == "" {
		t.database = p.Database
	}
	return t
}

// maxNameBytes is how long a name is in PostgreSQL. It cuts a longer one, which then may be that of another tenant.
const maxNameBytes = 63

// tooLong says which name of a tenant's is too long. The schema of Tenants refuses it; one may be stored from before. It is empty when none is.
func tooLong(c v1alpha1.TenantCredential) string {
	if c.Postgres == nil {
		return ""
	}
	for _, name := range []string{c.Postgres.Database, c.Postgres.Schema} {
		if len(name) > maxNameBytes {
			return fmt.Sprintf("the name %s has %d bytes, and PostgreSQL has names of at most %d: name another database or schema in `postgres`", name, len(name), maxNameBytes)
		}
	}
	return ""
}

// executor is a pool or a connection.
type executor interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}

// schemaGroup returns the group of those who may use a tenant's own schema, which it makes if need be. The group's name has the OIDs
// of the database and of the schema, so that the group of a schema that was dropped or renamed is never that of another one.
func (p *Provider) schemaGroup(ctx context.Context, t target) (string, error) {
	if t.schema == "" {
		return "", nil
	}
	var there executor = p.pool
	grant := func(statement string) error {
		_, err := p.pool.Exec(ctx, statement)
		return err
	}
	if t.database != p.Database {
		// This says what to grant to the operator, which would not be let in.
		if err := p.try(ctx, func() error {
			_, err := p.pool.Exec(ctx, "SELECT tenantry.connect_group($1)", t.database)
			return err
		}); err != nil {
			return "", err
		}
		conn, err := p.elsewhere(ctx, t.database)
		if err != nil {
			return "", err
		}
		defer closeConnection(conn)
		there = conn
		grant = func(statement string) error {
			_, err := conn.Exec(ctx, statement)
			return err
		}
	}
	var group string
	query := `SELECT format('tenantry_schema_%s_%s', d.oid, n.oid) FROM pg_database d, pg_namespace n
		WHERE d.datname = current_database() AND n.nspname = $1`
	err := there.QueryRow(ctx, query, t.schema).Scan(&group)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", credential.Errorf(v1alpha1.ReasonDatabaseNotFound, "schema %s does not exist in database %s", t.schema, t.database)
	}
	if err != nil {
		return "", err
	}
	return group, p.try(ctx, func() error { return p.grantUsage(ctx, there, grant, t, group) })
}

// grantUsage makes the group and lets it use the schema.
func (p *Provider) grantUsage(ctx context.Context, there executor, grant func(string) error, t target, group string) error {
	if _, err := p.pool.Exec(ctx, "SELECT tenantry.make_group($1, tenantry.connect_group($2))", group, t.database); err != nil {
		return err
	}
	var granted, grantable bool
	query := `SELECT EXISTS (SELECT FROM aclexplode(n.nspacl) a JOIN pg_roles r ON r.oid = a.grantee
			WHERE r.rolname = $2 AND a.privilege_type = 'USAGE'), has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION')
		FROM pg_namespace n WHERE n.nspname = $1`
	if err := there.QueryRow(ctx, query, t.schema, group).Scan(&granted, &grantable); err != nil || granted {
		return err
	}
	name := pgx.Identifier{t.schema}.Sanitize()
	if !grantable {
		return credential.Errorf(v1alpha1.ReasonPermissionDenied, "run this in database %s as the owner of the schema: "+
			"GRANT USAGE ON SCHEMA %s TO tenantry_operator WITH GRANT OPTION", t.database, name)
	}
	return grant(fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", name, pgx.Identifier{group}.Sanitize()))
}
