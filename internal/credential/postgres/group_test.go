package postgres

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A run has the rights of the roles that it is a member of, and may do some things in their name. None of these changes what another run
// sees, or makes the check fail.
func TestRunActsAsItsGroups(t *testing.T) {
	database := newApplication(t)
	// With them, DROP OWNED fails in some versions of PostgreSQL, for a reason that has nothing to do with this.
	server.Exec(t, database, "REVOKE ALL ON ALL SEQUENCES IN SCHEMA app FROM tenantry_tenant")
	p := open(t, settings(database))
	mine, theirs := issue(t, p, request(p, "mine", acme)), issue(t, p, request(p, "theirs", globex))
	my, their := session(t, mine.Values), session(t, theirs.Values)
	group := queryText(t, my, "SELECT 'tenantry_connect_' || oid FROM pg_database WHERE datname = current_database()")
	for _, role := range []string{"tenantry_tenant", group, "CURRENT_USER"} {
		for _, objects := range []string{"TABLES", "SEQUENCES", "FUNCTIONS", "TYPES", "SCHEMAS"} {
			for _, grantee := range []string{"PUBLIC", "tenantry_tenant", string(theirs.Values["username"])} {
				mustExec(t, my, fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s GRANT ALL ON %s TO %s", role, objects, grantee))
			}
		}
		if role != "CURRENT_USER" {
			mustExec(t, my, "DROP OWNED BY "+role)
			mustExec(t, my, fmt.Sprintf("ALTER DEFAULT PRIVILEGES FOR ROLE %s GRANT ALL ON TABLES TO PUBLIC", role))
		}
	}
	mustExec(t, my, "SELECT lo_create(5000); GRANT ALL ON LARGE OBJECT 5000 TO PUBLIC; GRANT ALL ON LARGE OBJECT 5000 TO tenantry_tenant")
	for name, run := range map[string]*pgx.Conn{"of acme": my, "of globex": their} {
		if got := queryText(t, run, "SELECT string_agg(reference, ',') FROM app.payments"); got != name {
			t.Errorf("the run %s reads %s", name, got)
		}
		mustExec(t, run, "UPDATE app.payments SET reference = reference")
	}
	if findings := check(t, p); len(findings) > 0 {
		t.Errorf("findings: %v", findings)
	}
}

// Tables that a run has locked do not keep the check from looking at the others, in the time that each operation has.
func TestCheckOfLockedTables(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	run := session(t, issue(t, p, request(p, "run", acme)).Values)
	const tables = 20
	for n := range tables {
		server.Exec(t, database, fmt.Sprintf(`CREATE TABLE app.locked_%[1]d (LIKE app.payments INCLUDING ALL);
			CREATE POLICY tenantry ON app.locked_%[1]d %[2]s; GRANT UPDATE, SELECT ON app.locked_%[1]d TO tenantry_tenant;
			ALTER TABLE app.locked_%[1]d ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`, n, ownRows))
	}
	mustExec(t, run, "BEGIN; LOCK TABLE app.payments, app.refunds IN ACCESS EXCLUSIVE MODE")
	for n := range tables {
		mustExec(t, run, fmt.Sprintf("LOCK TABLE app.locked_%d IN ACCESS EXCLUSIVE MODE", n))
	}
	server.Exec(t, database, "CREATE TABLE app.t (tenant_id uuid); GRANT SELECT ON app.t TO tenantry_tenant")
	ctx, cancel := context.WithTimeout(t.Context(), operationTimeout)
	defer cancel()
	findings, err := p.Check(ctx, nil)
	if got := objects(findings); err != nil || !slices.Equal(got, []string{"table app.t"}) {
		t.Errorf("findings: %v, error: %v", got, err)
	}
}

// Whatever one run grants to another one, the other one's role is dropped when that is over. Only sessions of who is in the way end.
func TestRevokeOfRoleThatOthersHold(t *testing.T) {
	type act func(victim, helper string) string
	tests := map[string]struct{ statements, of act }{}
	add := func(name string, mine, helpers act) {
		tests[name] = struct{ statements, of act }{mine, helpers}
	}
	add("an open transaction with default privileges", func(victim, _ string) string {
		return "BEGIN; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO " + victim
	}, nil)
	add("default privileges of the group", func(victim, _ string) string {
		return "ALTER DEFAULT PRIVILEGES FOR ROLE tenantry_tenant GRANT SELECT ON TABLES TO " + victim
	}, nil)
	add("default privileges that another transaction changes", func(victim, _ string) string {
		return "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO " + victim + "; BEGIN; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"
	}, nil)
	add("a large object", func(victim, _ string) string {
		return "SELECT lo_create(6000); GRANT SELECT ON LARGE OBJECT 6000 TO " + victim
	}, nil)
	add("a large object in an open transaction", func(victim, _ string) string {
		return "BEGIN; SELECT lo_create(6000); GRANT SELECT ON LARGE OBJECT 6000 TO " + victim
	}, nil)
	add("a large object that is held", func(victim, _ string) string {
		return "SELECT lo_create(6000); GRANT SELECT ON LARGE OBJECT 6000 TO " + victim + "; BEGIN; COMMENT ON LARGE OBJECT 6000 IS 'held'"
	}, nil)
	add("a large object with grant option", func(_, helper string) string {
		return "SELECT lo_create(6000); GRANT SELECT ON LARGE OBJECT 6000 TO " + helper + " WITH GRANT OPTION"
	}, func(victim, _ string) string { return "GRANT SELECT ON LARGE OBJECT 6000 TO " + victim })
	add("a prepared transaction", func(victim, _ string) string {
		return "BEGIN; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO " + victim + "; PREPARE TRANSACTION 'held by another'"
	}, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			database := newApplication(t)
			p := open(t, settings(database))
			mine, helps, bystands := issue(t, p, request(p, "mine", acme)), issue(t, p, request(p, "helper", acme)), issue(t, p, request(p, "bystander", globex))
			bystander := session(t, bystands.Values)
			mustExec(t, bystander, "BEGIN; SELECT FROM app.payments")
			r := request(p, "victim", globex)
			victim := issue(t, p, r)
			role, helper := string(victim.Values["username"]), string(helps.Values["username"])
			mustExec(t, session(t, mine.Values), test.statements(role, helper))
			if test.of != nil {
				mustExec(t, session(t, helps.Values), test.of(role, helper))
			}
			if err := p.Revoke(t.Context(), r.Handle); err != nil {
				t.Fatal(err)
			}
			dead(t, p, victim)
			mustExec(t, bystander, "SELECT FROM app.payments; COMMIT")
		})
	}
}

// A run that gets hold of every role of a run as soon as it exists holds up neither the check nor a revocation.
func TestRunThatNamesEveryRole(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	mine := issue(t, p, request(p, "mine", acme))
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan struct{})
	attack := `DO $$
		DECLARE role name; n int := 0;
		BEGIN
			LOOP
				FOR role IN SELECT rolname FROM pg_roles WHERE starts_with(rolname, 'tenantry_run_') AND rolname <> session_user LOOP
					BEGIN
						EXECUTE format('ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO %I', role);
						n := n + 1;
						EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO %I', lo_create(0), role);
					EXCEPTION WHEN OTHERS THEN NULL;
					END;
				END LOOP;
			END LOOP;
		END $$`
	go func() {
		defer close(ended)
		for first := true; ctx.Err() == nil; first = false {
			conn, err := login(ctx, mine.Values)
			if err != nil {
				continue
			}
			if first {
				close(began)
			}
			_, _ = conn.Exec(ctx, attack)
			_ = conn.Close(context.Background())
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	<-began
	for n := range 10 {
		r := request(p, fmt.Sprint("victim", n), globex)
		victim, err := p.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		waitForLock(t, database, string(victim.Values["username"]))
		if err := p.Revoke(t.Context(), r.Handle); err != nil {
			t.Fatalf("revoking the %d. one: %v", n, err)
		}
		dead(t, p, victim)
	}
	if findings := check(t, p); len(findings) > 0 {
		t.Errorf("findings: %v", findings)
	}
}

// waitForLock waits until some session has a lock on a role.
func waitForLock(t *testing.T, database, role string) {
	t.Helper()
	admin := server.Admin(t, database)
	for queryText(t, admin, `SELECT count(*) FROM pg_locks WHERE classid = 'pg_authid'::regclass AND objid = $1::text::regrole`, role) == "0" {
		if err := pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
