package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/internal/credential"
)

// dead fails the test unless nobody can use a credential and nothing of it is left.
func dead(t *testing.T, p *Provider, c credential.Credential, sessions ...*pgx.Conn) {
	t.Helper()
	if _, err := login(t.Context(), c.Values); err == nil {
		t.Error("somebody can log in")
	}
	for _, s := range sessions {
		if err := s.Ping(t.Context()); err == nil {
			t.Error("a session goes on")
		}
	}
	admin := server.Admin(t, p.Database)
	left := "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = $1) + (SELECT count(*) FROM tenantry.runs WHERE role = $1::name)"
	if got := queryText(t, admin, left, string(c.Values["username"])); got != "0" {
		t.Errorf("%s things are left", got)
	}
	listed, err := p.List(t.Context())
	isIt := func(i credential.Issued) bool { return rolePrefix+string(i.Handle) == string(c.Values["username"]) }
	if err != nil || slices.ContainsFunc(listed, isIt) {
		t.Errorf("listed: %v, error: %v", listed, err)
	}
}

func TestRevoke(t *testing.T) {
	p := open(t, settings(newApplication(t)))
	r := request(p, "run", acme)
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Errorf("revoking what does not exist: %v", err)
	}
	c := issue(t, p, r)
	idle, busy := session(t, c.Values), session(t, c.Values)
	ended := make(chan error)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(3600)")
		ended <- err
	}()
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the statement has ended as if nothing were")
	}
	dead(t, p, c, idle)
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Errorf("revoking again: %v", err)
	}
}

func TestIssueAgain(t *testing.T) {
	p := open(t, settings(newApplication(t)))
	r := request(p, "run", acme)
	first := issue(t, p, r)
	old := session(t, first.Values)
	// The settings of a role are its own to change.
	if _, err := old.Exec(t.Context(), "ALTER ROLE CURRENT_USER SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	second, err := p.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := login(t.Context(), first.Values); err == nil {
		t.Error("two secrets of a handle live")
	}
	if err := old.Ping(t.Context()); err == nil {
		t.Error("a session of the first secret goes on")
	}
	if got := queryText(t, session(t, second.Values), "SELECT current_setting('default_transaction_read_only')"); got != "off" {
		t.Errorf("default_transaction_read_only = %s", got)
	}
	if listed, err := p.List(t.Context()); err != nil || len(listed) != 1 {
		t.Errorf("listed: %v, error: %v", listed, err)
	}
}

// Revoke is never held up by what the role itself does.
func TestRevokeOfResistingRole(t *testing.T) {
	tests := map[string]func(t *testing.T, run *pgx.Conn){
		"an open transaction": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "BEGIN; UPDATE app.payments SET reference = 'changed'; LOCK TABLE app.payments IN ACCESS EXCLUSIVE MODE")
		},
		"an uncommitted change of its own role": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'known'")
		},
		"a password of its own": func(t *testing.T, run *pgx.Conn) { mustExec(t, run, "ALTER ROLE CURRENT_USER PASSWORD 'known'") },
		"an uncommitted setting of its own": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '1MB'")
		},
		"a prepared transaction": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "BEGIN; UPDATE app.payments SET reference = 'changed'; PREPARE TRANSACTION 'it''s prepared'")
		},
		"a prepared change of its own role": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'known'; PREPARE TRANSACTION 'held'")
		},
		"large objects": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "SELECT lo_from_bytea(0, 'x') FROM generate_series(1, 12000)")
		},
		"default privileges": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
		},
		"advisory locks": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "SELECT pg_advisory_lock(n) FROM generate_series(1, 100) n")
		},
		"locks on the catalogue": func(t *testing.T, run *pgx.Conn) {
			mustExec(t, run, "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM pg_roles, pg_auth_members, pg_database; DECLARE c CURSOR FOR SELECT FROM pg_locks")
		},
	}
	for name, resist := range tests {
		t.Run(name, func(t *testing.T) {
			database := newApplication(t)
			p := open(t, settings(database))
			r := request(p, "run", acme)
			c := issue(t, p, r)
			run := session(t, c.Values)
			resist(t, run)
			if err := p.Revoke(t.Context(), r.Handle); err != nil {
				t.Fatal(err)
			}
			dead(t, p, c, run)
			admin := server.Admin(t, database)
			left := "SELECT (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM pg_prepared_xacts)" +
				" + (SELECT count(*) FROM app.payments WHERE reference = 'changed') + (SELECT count(*) FROM pg_default_acl)"
			if got := queryText(t, admin, left); got != "0" {
				t.Errorf("%s things are left", got)
			}
		})
	}
}

// The first step of Revoke ends the tenant's rights in sessions that go on, and of one that is just starting.
func TestFence(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	c := issue(t, p, request(p, "run", acme))
	run := session(t, c.Values)
	if _, err := p.fence(t.Context(), string(c.Values["username"])); err != nil {
		t.Fatal(err)
	}
	if _, err := lastValue(t.Context(), run, "SELECT FROM app.payments"); !hasCode(err, codePermissionDenied) {
		t.Errorf("reading: %v", err)
	}
	if got := queryText(t, run, "SELECT tenantry.current_tenant()"); got != "NULL" {
		t.Errorf("current_tenant() = %s", got)
	}
	if got := queryText(t, run, "SELECT has_database_privilege(current_database(), 'CONNECT')"); got != "false" {
		t.Errorf("may connect: %s", got)
	}
}

// A holder that logs in again and again, while its credential is revoked, keeps no session, whatever the step at which it comes.
func TestRevokeWhileLoggingIn(t *testing.T) {
	p := open(t, settings(newApplication(t)))
	const rounds, holders = 10, 4
	for round := range rounds {
		r := request(p, fmt.Sprint("run-", round), acme)
		c := issue(t, p, r)
		var (
			group    sync.WaitGroup
			mutex    sync.Mutex
			sessions []*pgx.Conn
			started  = make(chan struct{}, holders)
		)
		for range holders {
			group.Go(func() {
				for {
					conn, err := login(context.Background(), c.Values)
					if err != nil && !hasCode(err, codeTooManyConnections) {
						return
					}
					if err == nil {
						mutex.Lock()
						sessions = append(sessions, conn)
						mutex.Unlock()
					}
					select {
					case started <- struct{}{}:
					default:
					}
				}
			})
		}
		<-started
		if err := p.Revoke(t.Context(), r.Handle); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		for _, s := range sessions {
			if err := s.Ping(t.Context()); err == nil {
				t.Error("a session goes on")
			}
		}
		if got := queryText(t, server.Admin(t, "postgres"), "SELECT count(*) FROM pg_stat_activity WHERE application_name = '' "+
			"AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND usename IS DISTINCT FROM 'postgres'"); got != "0" {
			t.Errorf("%s sessions go on", got)
		}
	}
}

// What a database that nobody can trust lists is its own: roles that were lost in a restore, rows whose role is on another server.
func TestListOfHalves(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	lostRow, lostRole, whole := request(p, "lost row", acme), request(p, "lost role", acme), request(p, "whole", acme)
	issue(t, p, lostRow)
	issue(t, p, lostRole)
	issue(t, p, whole)
	other := settings(database)
	other.Provider = "another"
	stranger := open(t, other)
	issue(t, stranger, request(stranger, "of another provider", acme))
	server.Exec(t, database, fmt.Sprintf("DELETE FROM tenantry.runs WHERE role = '%s%s'; DROP ROLE %[1]s%[3]s",
		rolePrefix, lostRow.Handle, lostRole.Handle))
	listed, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[credential.Handle]string{}
	for _, i := range listed {
		got[i.Handle] = string(i.Run.UID)
	}
	for _, r := range []credential.Request{lostRow, lostRole, whole} {
		if got[r.Handle] != string(r.Run.UID) {
			t.Errorf("run %q is listed as %q", r.Run.UID, got[r.Handle])
		}
		if err := p.Revoke(t.Context(), r.Handle); err != nil {
			t.Errorf("revoking %q: %v", r.Run.UID, err)
		}
	}
	if len(got) != 3 {
		t.Errorf("listed: %v", listed)
	}
	if listed, err = p.List(t.Context()); err != nil || len(listed) > 0 {
		t.Errorf("left: %v, error: %v", listed, err)
	}
}

// When the operator never returns, a credential dies by itself: nobody logs in with it, and a session sees no rows.
func TestExpiry(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	r := request(p, "run", acme)
	c := issue(t, p, r)
	run := session(t, c.Values)
	// The server's clock can't be set, so the time comes to the credential.
	server.Exec(t, database, fmt.Sprintf("ALTER ROLE %s VALID UNTIL 'yesterday'; UPDATE tenantry.runs SET expiration_time = now()",
		string(c.Values["username"])))
	if _, err := login(t.Context(), c.Values); err == nil {
		t.Error("somebody can log in after the expiry")
	}
	if got := queryText(t, run, "SELECT count(*) FROM app.payments"); got != "0" {
		t.Errorf("a session sees %s rows after the expiry", got)
	}
	if _, err := run.Exec(t.Context(), "INSERT INTO app.payments (tenant_id, reference) VALUES ($1, 'late')", acme); err == nil {
		t.Error("a session writes after the expiry")
	}
}

// Two operators, and four workers of each, issue and revoke the same and other credentials at the same time.
func TestConcurrency(t *testing.T) {
	database := newApplication(t)
	one, two := open(t, settings(database)), open(t, settings(database))
	shared := request(one, "shared", acme)
	var (
		group  sync.WaitGroup
		mutex  sync.Mutex
		issued []credential.Credential
	)
	for worker := range 4 {
		for n, p := range []*Provider{one, two} {
			group.Go(func() {
				for round := range 5 {
					c, err := p.Issue(t.Context(), shared)
					if err != nil {
						t.Error(err)
						continue
					}
					mutex.Lock()
					issued = append(issued, c)
					mutex.Unlock()
					own := request(p, fmt.Sprint(n, worker, round), globex)
					if _, err := p.Issue(t.Context(), own); err != nil {
						t.Error(err)
					}
					if err := p.Revoke(t.Context(), own.Handle); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	group.Wait()
	live := 0
	for _, c := range issued {
		if conn, err := login(t.Context(), c.Values); err == nil {
			live++
			_ = conn.Close(t.Context())
		}
	}
	if live != 1 {
		t.Errorf("%d of %d secrets live", live, len(issued))
	}
	for _, p := range []*Provider{one, two} {
		group.Go(func() {
			if err := p.Revoke(t.Context(), shared.Handle); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	dead(t, one, issued[0])
}

// A lock that somebody else holds for ever ends as an error that may pass.
func TestLockOfSomebodyElse(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	r := request(p, "run", acme)
	c := issue(t, p, r)
	admin := server.Admin(t, database)
	mustExec(t, admin, "BEGIN; SELECT FROM tenantry.runs FOR UPDATE")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := p.Revoke(ctx, r.Handle)
	if known := credential.AsError(err); known == nil || !known.Transient {
		t.Errorf("error: %v", err)
	}
	cancelled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	if err := p.Revoke(cancelled, r.Handle); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	mustExec(t, admin, "ROLLBACK")
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Fatal(err)
	}
	dead(t, p, c)
}

// mustExec executes statements.
func mustExec(t *testing.T, conn *pgx.Conn, statements string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), statements).ReadAll(); err != nil {
		t.Fatalf("executing %s: %v", statements, err)
	}
}
