package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// check returns the findings, as `object: problem`.
func check(t *testing.T, p *Provider, credentials ...v1alpha1.TenantCredential) []credential.Finding {
	t.Helper()
	findings, err := p.Check(t.Context(), credentials)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// ownRows is what a policy says that lets tenants reach their own rows.
const ownRows = "USING (tenant_id = (SELECT tenantry.current_tenant()::uuid)) WITH CHECK (tenant_id = (SELECT tenantry.current_tenant()::uuid))"

// runRoles counts the roles of runs, of checks too.
const runRoles = "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, '" + rolePrefix + "')"

func objects(findings []credential.Finding) []string {
	var all []string
	for _, f := range findings {
		all = append(all, f.Object)
	}
	return all
}

func TestCheckOfSoundDatabase(t *testing.T) {
	p := open(t, settings(newApplication(t)))
	if diff := cmp.Diff([]credential.Finding(nil), check(t, p)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	listed, err := p.List(t.Context())
	if err != nil || len(listed) > 0 {
		t.Errorf("left: %v, error: %v", listed, err)
	}
	if got := queryText(t, server.Admin(t, "postgres"), runRoles); got != "0" {
		t.Errorf("%s roles are left", got)
	}
}

// Each hole is found, and gone when its remedy was executed.
func TestFindings(t *testing.T) {
	tests := map[string]struct {
		hole string
		// undo removes what is not in the test's own database.
		undo   string
		object string
		// problem is a part of it.
		problem string
	}{
		"table without row security": {
			hole:    "CREATE TABLE app.t (tenant_id uuid); GRANT SELECT ON app.t TO tenantry_tenant",
			object:  "table app.t",
			problem: "row security is not enabled",
		},
		"table without row security, of which tenants see one column": {
			hole:    "CREATE TABLE app.t (tenant_id uuid, name text); GRANT SELECT (name) ON app.t TO tenantry_tenant",
			object:  "table app.t",
			problem: "row security is not enabled",
		},
		"table without row security and tenant_id": {
			hole:    "CREATE TABLE app.t (id int); GRANT SELECT ON app.t TO PUBLIC",
			object:  "table app.t",
			problem: "row security is not enabled",
		},
		"table with a policy that is not enabled": {
			hole: `ALTER TABLE app.payments DISABLE ROW LEVEL SECURITY`, object: "table app.payments", problem: "row security is not enabled",
		},
		"table with bigint ids": {
			hole: `CREATE TABLE app.t (tenant_id bigint); INSERT INTO app.t VALUES (1);
				GRANT SELECT ON app.t TO tenantry_tenant`,
			object: "table app.t", problem: "row security is not enabled",
		},
		"name that needs quotes": {
			hole:   `CREATE TABLE app."T; --" (tenant_id text); GRANT SELECT ON app."T; --" TO tenantry_tenant`,
			object: `table app."T; --"`, problem: "row security is not enabled",
		},
		"partition that tenants reach past its parent": {
			hole: `CREATE TABLE app.t (tenant_id uuid) PARTITION BY HASH (tenant_id);
				CREATE TABLE app.t0 PARTITION OF app.t FOR VALUES WITH (MODULUS 1, REMAINDER 0);
				GRANT SELECT ON app.t0 TO tenantry_tenant`,
			object: "table app.t0", problem: "row security is not enabled",
		},
		"owner without FORCE": {
			hole: "ALTER TABLE app.payments NO FORCE ROW LEVEL SECURITY", object: "table app.payments", problem: "not forced",
		},
		"common table that tenants write": {
			hole: "GRANT INSERT ON app.currencies TO tenantry_tenant", object: "writes to table app.currencies", problem: "may change rows",
		},
		"policy that compares with nothing": {
			hole:   "CREATE POLICY everything ON app.payments FOR SELECT TO tenantry_tenant USING (true)",
			object: "policy everything on table app.payments", problem: "without comparing",
		},
		"policy of the application for everybody": {
			hole:   "CREATE POLICY application ON app.payments USING (true)",
			object: "policy application on table app.payments", problem: "name the roles",
		},
		"policy that checks nothing": {
			hole: `CREATE POLICY half ON app.payments
				USING (tenant_id = (SELECT tenantry.current_tenant()::uuid)) WITH CHECK (true)`,
			object: "policy half on table app.payments", problem: "without comparing",
		},
		"policy that reads a setting": {
			hole: `CREATE POLICY setting ON app.payments
				USING (tenant_id = coalesce(current_setting('app.tenant_id', true), tenantry.current_tenant())::uuid)`,
			object: "policy setting on table app.payments", problem: "a setting",
		},
		"policy that names current_tenant() in a value only": {
			hole:   "CREATE POLICY named ON app.payments USING (reference <> 'tenantry.current_tenant()')",
			object: "policy named on table app.payments", problem: "without comparing",
		},
		"policy that a run can drop": {
			hole:   "DROP POLICY tenantry ON app.payments; CREATE POLICY tenantry ON app.payments TO tenantry_tenant " + ownRows,
			object: "policy tenantry on table app.payments", problem: "DROP OWNED",
		},
		"policy for the runs of one database": {
			hole:   "DO $$ BEGIN EXECUTE format('CREATE POLICY runs_of_one ON app.payments TO %I " + ownRows + "', tenantry.connect_group(current_database())); END $$",
			object: "policy runs_of_one on table app.payments", problem: "DROP OWNED",
		},
		"restriction that a run can drop": {
			hole:   "CREATE POLICY narrower ON app.payments AS RESTRICTIVE TO tenantry_tenant USING (reference <> 'hidden') WITH CHECK (reference <> 'x')",
			object: "policy narrower on table app.payments", problem: "DROP OWNED",
		},
		"table without policy": {
			hole:   "DROP POLICY tenantry ON app.payments",
			object: "table app.payments", problem: "find no rows",
		},
		"table without policy and tenant_id": {
			hole:   "CREATE TABLE app.t (id int); ALTER TABLE app.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; GRANT SELECT ON app.t TO tenantry_tenant",
			object: "table app.t", problem: "find no rows",
		},
		"default privileges for sequences": {
			hole:   "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT USAGE ON SEQUENCES TO tenantry_tenant",
			object: "default privileges of role app_owner", problem: "DROP OWNED",
		},
		"default privileges for functions of a schema": {
			hole:   "ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT EXECUTE ON FUNCTIONS TO tenantry_tenant",
			object: "default privileges of role app_owner in schema app", problem: "DROP OWNED",
		},
		"policy that compares and lets everything through": {
			hole: `CREATE POLICY anything ON app.payments
				USING (tenant_id = (SELECT tenantry.current_tenant()::uuid) OR reference <> '')`,
			object: "table app.payments", problem: readByNobody,
		},
		"policy on a table with bigint ids that lets everything through": {
			hole: `CREATE TABLE app.t (tenant_id bigint); INSERT INTO app.t VALUES (1);
				CREATE POLICY p ON app.t USING (tenant_id <> (SELECT tenantry.current_tenant()::bigint));
				ALTER TABLE app.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; GRANT SELECT ON app.t TO tenantry_tenant`,
			object: "table app.t", problem: readByNobody,
		},
		"view with its owner's rights": {
			hole:   "CREATE VIEW app.v AS SELECT * FROM app.payments; GRANT SELECT ON app.v TO tenantry_tenant",
			object: "view app.v", problem: "rights of its owner",
		},
		"view that is a security barrier only": {
			hole: `CREATE VIEW app.v WITH (security_barrier = true, security_invoker = false) AS SELECT * FROM app.payments;
				GRANT SELECT ON app.v TO tenantry_tenant`,
			object: "view app.v", problem: "rights of its owner",
		},
		"materialized view": {
			hole:   "CREATE MATERIALIZED VIEW app.v AS SELECT * FROM app.payments; GRANT SELECT ON app.v TO tenantry_tenant",
			object: "materialized view app.v", problem: "does not apply",
		},
		"TRUNCATE": {
			hole: "GRANT TRUNCATE ON app.payments TO tenantry_tenant", object: "table app.payments", problem: "TRUNCATE",
		},
		"ALL": {
			hole: "GRANT ALL ON app.payments TO tenantry_tenant", object: "table app.payments", problem: "TRUNCATE, REFERENCES, TRIGGER",
		},
		"grant option": {
			hole: "GRANT SELECT ON app.payments TO tenantry_tenant WITH GRANT OPTION", object: "table app.payments", problem: "grant",
		},
		"sequence that tenants set": {
			hole: "GRANT UPDATE ON SEQUENCE app.payments_id_seq TO PUBLIC", object: "sequence app.payments_id_seq", problem: "set its value",
		},
		"function with its owner's rights": {
			hole: `CREATE FUNCTION app.f(text) RETURNS bigint LANGUAGE sql SECURITY DEFINER
				RETURN (SELECT count(*) FROM app.payments)`,
			object: "function app.f(text)", problem: "SECURITY DEFINER",
		},
		"procedure with its owner's rights": {
			hole: `CREATE PROCEDURE app.p() LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC DELETE FROM app.payments; END;
				REVOKE ALL ON PROCEDURE app.p FROM PUBLIC; GRANT EXECUTE ON PROCEDURE app.p TO tenantry_tenant`,
			object: "procedure app.p()", problem: "SECURITY DEFINER",
		},
		"CREATE in a schema": {
			hole: "GRANT CREATE ON SCHEMA public TO PUBLIC", object: "schema public", problem: "create objects",
		},
		"default privileges": {
			hole: `ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app
				GRANT SELECT ON TABLES TO tenantry_tenant`,
			object: "default privileges of role app_owner in schema app", problem: "every new table",
		},
		"large object for everybody": {
			hole: "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC", object: "large object 4711", problem: "every tenant",
		},
		"foreign server": {
			hole: `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
				GRANT USAGE ON FOREIGN SERVER s TO tenantry_tenant`,
			object: "foreign server s", problem: "connect through it",
		},
		"foreign table": {
			hole: `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
				CREATE FOREIGN TABLE app.f (id int) SERVER s; GRANT SELECT ON app.f TO tenantry_tenant`,
			object: "foreign table app.f", problem: "does not apply",
		},
		"tenants who own a table": {
			hole: "CREATE TABLE app.t (); ALTER TABLE app.t OWNER TO tenantry_tenant", object: "role tenantry_tenant", problem: "owns objects",
		},
		"tenants who are members of another role": {
			hole: "GRANT pg_read_all_data TO tenantry_tenant", undo: "REVOKE pg_read_all_data FROM tenantry_tenant",
			object: "role pg_read_all_data", problem: "members",
		},
		"database that everybody may connect to": {
			hole: "GRANT CONNECT, TEMPORARY ON DATABASE postgres TO PUBLIC", undo: "REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC",
			object: "database postgres", problem: "CONNECT, TEMPORARY",
		},
		"setting that only superusers may change": {
			hole:   "GRANT SET ON PARAMETER session_replication_role TO PUBLIC",
			undo:   "REVOKE ALL ON PARAMETER session_replication_role FROM PUBLIC",
			object: "setting session_replication_role", problem: "may change it",
		},
		"large objects without rights": {
			hole:   "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lo_compat_privileges = on', current_database()); END $$",
			object: "setting lo_compat_privileges", problem: "open to everybody",
		},
	}
	database := newApplication(t)
	p := open(t, settings(database))
	admin := server.Config(database, "postgres", server.Password)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				exec(t, admin, "DROP SCHEMA app CASCADE; DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE; DELETE FROM tenantry.exceptions; "+
					application+test.undo)
			})
			exec(t, admin, test.hole)
			p.pool.Reset() // some settings are read when a session starts
			findings := check(t, p)
			i := slices.IndexFunc(findings, func(f credential.Finding) bool {
				return f.Object == test.object && strings.Contains(f.Problem, test.problem)
			})
			if i < 0 {
				t.Fatalf("%s: %s is not in %+v", test.object, test.problem, findings)
			}
			for len(findings) > 0 {
				before := fmt.Sprint(findings)
				for _, f := range findings {
					exec(t, admin, f.Remedy)
				}
				p.pool.Reset()
				if findings = check(t, p); fmt.Sprint(findings) == before {
					t.Fatalf("the remedies change nothing: %s", before)
				}
			}
		})
	}
}

// What a person has accepted is no finding.
func TestExceptions(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	server.Exec(t, database, `CREATE TABLE app.plans (); INSERT INTO app.plans DEFAULT VALUES; GRANT SELECT ON app.plans TO tenantry_tenant;
		CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1`)
	if diff := cmp.Diff([]string{"function app.f()", "table app.plans"}, objects(check(t, p))); diff != "" {
		t.Errorf("without exceptions (-want +got):\n%s", diff)
	}
	server.Exec(t, database, "INSERT INTO tenantry.exceptions VALUES ('function app.f()', 'harmless'), ('table app.plans', 'public')")
	if diff := cmp.Diff([]string(nil), objects(check(t, p))); diff != "" {
		t.Errorf("with exceptions (-want +got):\n%s", diff)
	}
}

// A trigger function can't be called, and a table that tenants do not reach is none of their business.
func TestHarmless(t *testing.T) {
	database := newApplication(t)
	server.Exec(t, database, `
		CREATE FUNCTION app.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END';
		CREATE TABLE app.internal (id int);
		CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int); GRANT SELECT ON hidden.t TO tenantry_tenant;
		CREATE VIEW app.internal_view AS SELECT * FROM app.payments;
		CREATE POLICY application ON app.payments TO app_owner USING (true);
		CREATE POLICY narrower ON app.payments AS RESTRICTIVE USING (reference <> 'hidden');
		ALTER DEFAULT PRIVILEGES FOR ROLE app_owner GRANT USAGE ON SEQUENCES TO operator`)
	if diff := cmp.Diff([]string(nil), objects(check(t, open(t, settings(database))))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// What a check leaves that was killed is listed when no check can use it any more.
func TestCheckIsKilled(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	handle := request(p, "check", acme).Handle
	killed := trial{provider: p, id: string(handle), role: rolePrefix + string(handle), target: target{database: database}}
	conn, err := killed.login(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
	if listed, err := p.List(t.Context()); err != nil || len(listed) > 0 {
		t.Errorf("while it goes on: %v, error: %v", listed, err)
	}
	server.Exec(t, database, "UPDATE tenantry.runs SET expiration_time = now()")
	listed, err := p.List(t.Context())
	if err != nil || len(listed) != 1 || listed[0].Handle != handle || listed[0].Run.UID == "" {
		t.Fatalf("afterwards: %v, error: %v", listed, err)
	}
	if err := p.Revoke(t.Context(), handle); err != nil {
		t.Fatal(err)
	}
}

// A check that is cancelled leaves nothing.
func TestCheckIsCancelled(t *testing.T) {
	database := newApplication(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := open(t, settings(database), onStatement(func(statement string) {
		if strings.Contains(statement, "tenantry.current_tenant()") {
			cancel()
		}
	}))
	if _, err := p.Check(ctx, nil); err == nil {
		t.Error("a cancelled check succeeds")
	}
	if listed, err := p.List(t.Context()); err != nil || len(listed) > 0 {
		t.Errorf("left: %v, error: %v", listed, err)
	}
	if got := queryText(t, server.Admin(t, "postgres"), runRoles); got != "0" {
		t.Errorf("%s roles are left", got)
	}
}
