package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/conformance"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

// newOwnDatabase makes a database of a tenant, as docs/credentials.md says.
func newOwnDatabase(t *testing.T, name, tenant string) {
	t.Helper()
	server.Exec(t, "postgres", "CREATE DATABASE "+name)
	t.Cleanup(func() {
		exec(t, server.Config("postgres", postgrestest.Superuser, server.Password), "DROP DATABASE "+name+" WITH (FORCE)")
	})
	server.Exec(t, name, fmt.Sprintf(`
		REVOKE CONNECT, TEMPORARY ON DATABASE %[1]s FROM PUBLIC;
		GRANT CONNECT ON DATABASE %[1]s TO tenantry_operator WITH GRANT OPTION;
		GRANT USAGE ON SCHEMA public TO tenantry_tenant;
		CREATE TABLE payments AS SELECT 'of %[2]s' AS reference;
		GRANT SELECT, INSERT, UPDATE, DELETE ON payments TO tenantry_tenant`, name, tenant))
}

// newOwnSchema makes a schema of a tenant.
func newOwnSchema(t *testing.T, database, name string) {
	t.Helper()
	server.Exec(t, database, fmt.Sprintf(`
		CREATE SCHEMA %[1]s;
		GRANT USAGE ON SCHEMA %[1]s TO tenantry_operator WITH GRANT OPTION;
		CREATE TABLE %[1]s.payments AS SELECT 'of %[1]s' AS reference;
		GRANT SELECT, INSERT, UPDATE, DELETE ON %[1]s.payments TO tenantry_tenant`, name))
}

// requestOwn asks for a credential of a tenant that shares no tables.
func requestOwn(p *Provider, run, externalID string, own v1alpha1.TenantPostgres) credential.Request {
	r := request(p, run, externalID)
	r.Credential = v1alpha1.TenantCredential{Name: "database", Postgres: &own}
	return r
}

func TestOwnDatabase(t *testing.T) {
	database := newDatabase(t)
	newOwnDatabase(t, "own_acme", "acme")
	newOwnDatabase(t, "own_globex", "globex")
	p := open(t, settings(database))
	own := []v1alpha1.TenantCredential{{Postgres: &v1alpha1.TenantPostgres{Database: "own_acme"}}, {Postgres: &v1alpha1.TenantPostgres{Database: "own_globex"}}}
	r := requestOwn(p, "run", acme, *own[0].Postgres)
	c := issue(t, p, r)
	other := issue(t, p, requestOwn(p, "other", globex, *own[1].Postgres))
	run := session(t, c.Values)
	if got := queryText(t, run, "SELECT reference FROM payments"); got != "of acme" {
		t.Errorf("reads %s", got)
	}
	for _, elsewhere := range []string{"own_globex", database, "postgres", "template1"} {
		values := credential.Values{"database": []byte(elsewhere), "username": c.Values["username"], "password": c.Values["password"]}
		if _, err := login(t.Context(), values); !hasCode(err, codePermissionDenied) {
			t.Errorf("logging in to %s: %v", elsewhere, err)
		}
	}
	if diff := cmp.Diff([]string(nil), objects(check(t, p, own...))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}

	// What it has made there goes with it.
	mustExec(t, run, "SELECT lo_from_bytea(0, 'x')")
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Fatal(err)
	}
	if got := queryText(t, server.Admin(t, "own_acme"), "SELECT count(*) FROM pg_largeobject_metadata"); got != "0" {
		t.Errorf("%s large objects are left", got)
	}
	session(t, other.Values)
}

func TestOwnSchema(t *testing.T) {
	database := newApplication(t)
	newOwnSchema(t, database, "acme")
	newOwnSchema(t, database, "globex")
	p := open(t, settings(database))
	own := []v1alpha1.TenantCredential{{Postgres: &v1alpha1.TenantPostgres{Schema: "acme"}}, {Postgres: &v1alpha1.TenantPostgres{Schema: "globex"}}}
	c := issue(t, p, requestOwn(p, "run", acme, *own[0].Postgres))
	issue(t, p, requestOwn(p, "other", globex, *own[1].Postgres))
	run := session(t, c.Values)
	if got := queryText(t, run, "SELECT reference FROM payments"); got != "of acme" {
		t.Errorf("reads %s", got)
	}
	if _, err := lastValue(t.Context(), run, "SELECT * FROM globex.payments"); !hasCode(err, codePermissionDenied) {
		t.Errorf("reading the other's: %v", err)
	}
	// Others share the tables of the same database: then row security is looked at, too.
	shared := append([]v1alpha1.TenantCredential{{}}, own...)
	if diff := cmp.Diff([]string(nil), objects(check(t, p, shared...))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	server.Exec(t, database, "ALTER TABLE app.payments DISABLE ROW LEVEL SECURITY")
	if diff := cmp.Diff([]string(nil), objects(check(t, p, own...))); diff != "" {
		t.Errorf("findings where nobody shares tables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"table app.payments"}, objects(check(t, p, shared...))); diff != "" {
		t.Errorf("findings where somebody does (-want +got):\n%s", diff)
	}
}

// A schema that takes the name of another one is another schema.
func TestRenamedSchema(t *testing.T) {
	database := newDatabase(t)
	newOwnSchema(t, database, "acme")
	p := open(t, settings(database))
	issue(t, p, requestOwn(p, "first", acme, v1alpha1.TenantPostgres{Schema: "acme"}))
	server.Exec(t, database, "ALTER SCHEMA acme RENAME TO archive")
	newOwnSchema(t, database, "acme")
	run := session(t, issue(t, p, requestOwn(p, "second", acme, v1alpha1.TenantPostgres{Schema: "acme"})).Values)
	if got := queryText(t, run, "SELECT reference FROM payments"); got != "of acme" {
		t.Errorf("reads %s", got)
	}
	if _, err := lastValue(t.Context(), run, "SELECT * FROM archive.payments"); !hasCode(err, codePermissionDenied) {
		t.Errorf("reading the old one: %v", err)
	}
}

// PostgreSQL cuts a name that is too long, and then it is that of another tenant. Tenants of before may have one.
func TestNamesOfTooManyBytes(t *testing.T) {
	database := newDatabase(t)
	cut := strings.Repeat("a", 63)
	newOwnDatabase(t, cut, "acme")
	newOwnSchema(t, database, cut)
	p := open(t, settings(database))
	own := []v1alpha1.TenantCredential{
		{Postgres: &v1alpha1.TenantPostgres{Database: cut + "b"}},
		{Postgres: &v1alpha1.TenantPostgres{Schema: cut + "b"}},
		{Postgres: &v1alpha1.TenantPostgres{Database: cut + "b", Schema: "acme"}},
	}
	for n, c := range own {
		_, err := p.Issue(t.Context(), requestOwn(p, fmt.Sprint("run-", n), globex, *c.Postgres))
		expectError(t, err, v1alpha1.ReasonDatabaseNotFound, "has 64 bytes", false)
		if got := Kind().Refuses(credential.TenantsEntry{Tenant: c}); !strings.Contains(got, "name another database or schema") {
			t.Errorf("the kind says %q", got)
		}
	}
	if diff := cmp.Diff([]credential.Finding(nil), check(t, p, own...)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// Each hole between tenants with databases or schemas of their own is found, and gone when its remedy was executed.
func TestFindingsOfOwn(t *testing.T) {
	database := newDatabase(t)
	newOwnDatabase(t, "own_acme", "acme")
	newOwnDatabase(t, "own_globex", "globex")
	newOwnSchema(t, database, "acme")
	newOwnSchema(t, "own_globex", "inner_globex")
	p := open(t, settings(database))
	own := []v1alpha1.TenantCredential{
		{Postgres: &v1alpha1.TenantPostgres{Database: "own_acme"}},
		{Postgres: &v1alpha1.TenantPostgres{Schema: "acme"}},
		{Postgres: &v1alpha1.TenantPostgres{Database: "own_globex", Schema: "inner_globex"}},
		{Postgres: &v1alpha1.TenantPostgres{Database: "does_not_exist"}},
		{Postgres: &v1alpha1.TenantPostgres{Schema: "does_not_exist"}},
		{Postgres: &v1alpha1.TenantPostgres{Database: "does_not_exist", Schema: "either"}},
	}
	for n, c := range own[:3] {
		issue(t, p, requestOwn(p, fmt.Sprint("run-", n), acme, *c.Postgres))
	}
	for n, c := range own[3:] {
		_, err := p.Issue(t.Context(), requestOwn(p, fmt.Sprint("missing-", n), acme, *c.Postgres))
		expectError(t, err, v1alpha1.ReasonDatabaseNotFound, "does not exist", false)
	}
	if diff := cmp.Diff([]credential.Finding(nil), check(t, p, own...)); diff != "" {
		t.Fatalf("findings before (-want +got):\n%s", diff)
	}
	connect := queryText(t, server.Admin(t, database), "SELECT 'tenantry_connect_' || oid FROM pg_database WHERE datname = 'own_acme'")
	schema := queryText(t, server.Admin(t, database), "SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenantry_schema_%' "+
		"AND has_schema_privilege(rolname, 'acme', 'USAGE')")
	tests := map[string]struct{ in, hole, object string }{
		"everybody may connect":          {in: "own_acme", hole: "GRANT CONNECT ON DATABASE own_acme TO PUBLIC", object: "database own_acme"},
		"all tenants may connect":        {in: "own_acme", hole: "GRANT CONNECT ON DATABASE own_acme TO tenantry_tenant", object: "database own_acme"},
		"another tenant may connect":     {in: "own_globex", hole: "GRANT CONNECT ON DATABASE own_globex TO " + connect, object: "database own_globex"},
		"everybody may use a schema":     {in: database, hole: "GRANT USAGE ON SCHEMA acme TO PUBLIC", object: "schema acme of database " + database},
		"all tenants may use a schema":   {in: "own_globex", hole: "GRANT USAGE ON SCHEMA inner_globex TO tenantry_tenant", object: "schema inner_globex of database own_globex"},
		"another tenant may use it":      {in: "own_globex", hole: "GRANT CREATE ON SCHEMA inner_globex TO " + schema, object: "schema inner_globex of database own_globex"},
		"everybody may create in it":     {in: database, hole: "GRANT CREATE ON SCHEMA acme TO PUBLIC", object: "schema acme of database " + database},
		"everybody may make temp tables": {in: "own_acme", hole: "GRANT TEMPORARY ON DATABASE own_acme TO PUBLIC", object: "database own_acme"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server.Exec(t, test.in, test.hole)
			findings := check(t, p, own...)
			if diff := cmp.Diff([]string{test.object}, objects(findings)); diff != "" {
				t.Fatalf("findings (-want +got):\n%s", diff)
			}
			server.Exec(t, test.in, findings[0].Remedy)
			if diff := cmp.Diff([]credential.Finding(nil), check(t, p, own...)); diff != "" {
				t.Errorf("findings after the remedy (-want +got):\n%s", diff)
			}
		})
	}
}

// What the operator may not grant is said with the statement that mends it.
func TestMissingGrantOption(t *testing.T) {
	database := newDatabase(t)
	newOwnDatabase(t, "own_acme", "acme")
	newOwnSchema(t, database, "acme")
	server.Exec(t, database, "REVOKE ALL ON DATABASE own_acme FROM tenantry_operator; REVOKE ALL ON SCHEMA acme FROM tenantry_operator")
	p := open(t, settings(database))
	for name, own := range map[string]v1alpha1.TenantPostgres{"database": {Database: "own_acme"}, "schema": {Schema: "acme"}} {
		t.Run(name, func(t *testing.T) {
			r := requestOwn(p, name, acme, own)
			_, err := p.Issue(t.Context(), r)
			expectError(t, err, v1alpha1.ReasonPermissionDenied, "WITH GRANT OPTION", false)
			_, remedy, _ := strings.Cut(err.Error(), "GRANT ")
			remedy, _, _ = strings.Cut("GRANT "+remedy, " (")
			server.Exec(t, database, remedy)
			session(t, issue(t, p, r).Values)
		})
	}
}

// The groups of a database go with it.
func TestUnusedGroups(t *testing.T) {
	database := newDatabase(t)
	server.Exec(t, "postgres", "CREATE DATABASE short_lived")
	server.Exec(t, "short_lived", "REVOKE CONNECT, TEMPORARY ON DATABASE short_lived FROM PUBLIC; GRANT CONNECT ON DATABASE short_lived "+
		"TO tenantry_operator WITH GRANT OPTION")
	newOwnSchema(t, "short_lived", "acme")
	p := open(t, settings(database))
	r := requestOwn(p, "run", acme, v1alpha1.TenantPostgres{Database: "short_lived", Schema: "acme"})
	if _, err := p.Issue(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	groups := "SELECT count(*) FROM pg_roles WHERE rolname ~ $1"
	pattern := "^tenantry_(connect|schema)_" + queryText(t, server.Admin(t, database), "SELECT oid FROM pg_database WHERE datname = 'short_lived'")
	if got := queryText(t, server.Admin(t, database), groups, pattern); got != "2" {
		t.Errorf("%s groups while it lives", got)
	}
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Fatal(err)
	}
	check(t, p, r.Credential)
	if got := queryText(t, server.Admin(t, database), groups, pattern); got != "2" {
		t.Errorf("%s groups while no run uses it", got)
	}
	server.Exec(t, "postgres", "DROP DATABASE short_lived")
	check(t, p, r.Credential)
	if got := queryText(t, server.Admin(t, database), groups, pattern); got != "0" {
		t.Errorf("%s groups after its end", got)
	}
}

func TestConformanceInOwnDatabase(t *testing.T) {
	database := newDatabase(t)
	newOwnDatabase(t, "own_acme", "acme")
	newOwnSchema(t, "own_acme", "billing")
	o := conformanceOptions(t, database, &v1alpha1.TenantPostgres{Database: "own_acme", Schema: "billing"}, false)
	conformance.Run(t, o)
}

// An administrator who is no superuser, as cloud providers have them, installs the schema and runs everything.
func TestWithoutSuperuser(t *testing.T) {
	own, err := postgrestest.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Remove()
	own.Exec(t, "postgres", "CREATE ROLE dba LOGIN CREATEROLE PASSWORD 'dba'; REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1 FROM PUBLIC")
	own.Exec(t, "postgres", "CREATE DATABASE billing OWNER dba")
	dba := own.Connect(t, "billing", "dba", "dba")
	for range 2 {
		mustExec(t, dba, Migration)
	}
	mustExec(t, dba, `
		REVOKE CONNECT, TEMPORARY ON DATABASE billing FROM PUBLIC;
		CREATE ROLE operator LOGIN PASSWORD 'operator'; GRANT tenantry_operator TO operator;
		CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO tenantry_tenant;
		CREATE TABLE app.payments (tenant_id text); GRANT SELECT ON app.payments TO tenantry_tenant;
		INSERT INTO tenantry.exceptions VALUES ('nothing', 'to see that it may')`)
	s := settings("billing")
	s.Port, s.CA, s.Password = int32(own.Port), own.CA, "operator"
	p := open(t, s)
	findings := check(t, p)
	if diff := cmp.Diff([]string{"table app.payments"}, objects(findings)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	for _, f := range findings {
		mustExec(t, dba, f.Remedy)
	}
	if got := queryText(t, dba, "SELECT count(*) FROM tenantry.findings()"); got != "0" {
		t.Errorf("%s findings after the remedies", got)
	}
	r := request(p, "run", "acme")
	c, err := p.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	run, err := pgx.ConnectConfig(t.Context(), own.Config("billing", string(c.Values["username"]), string(c.Values["password"])))
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close(context.Background())
	mustExec(t, run, "SELECT lo_create(0)")
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Fatal(err)
	}
	if err := run.Ping(t.Context()); err == nil {
		t.Error("the session goes on")
	}
}

// An older file does not replace a newer schema, and a schema of somebody else is none of ours.
func TestMigrationRefuses(t *testing.T) {
	database := newDatabase(t)
	server.Exec(t, database, "CREATE OR REPLACE FUNCTION tenantry.version() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 99")
	admin := server.Admin(t, database)
	if _, err := lastValue(t.Context(), admin, Migration); err == nil || !strings.Contains(err.Error(), "newer release") {
		t.Errorf("over a newer one: %v", err)
	}
	mustExec(t, admin, "ROLLBACK; DROP SCHEMA tenantry CASCADE; CREATE SCHEMA tenantry AUTHORIZATION app_owner")
	if _, err := lastValue(t.Context(), admin, Migration); err == nil || !strings.Contains(err.Error(), "not owned by tenantry_owner") {
		t.Errorf("over somebody else's: %v", err)
	}
	mustExec(t, admin, "ROLLBACK")
}

// A run does not depend on what PUBLIC may do, which somebody takes away as the check asks for.
func TestConnectWithoutPublic(t *testing.T) {
	database := newApplication(t)
	server.Exec(t, database, "GRANT CONNECT ON DATABASE "+database+" TO PUBLIC")
	p := open(t, settings(database))
	c := issue(t, p, request(p, "run", acme))
	server.Exec(t, database, "REVOKE CONNECT ON DATABASE "+database+" FROM PUBLIC")
	session(t, c.Values)
}
