package postgres

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A run of acme tries to reach what is globex's. Each statement must fail or tell nothing.
func TestHostileHolder(t *testing.T) {
	database := newApplication(t)
	server.Exec(t, database, `
		SET ROLE app_owner;
		CREATE MATERIALIZED VIEW app.report AS SELECT * FROM app.payments;
		CREATE VIEW app.everything AS SELECT * FROM app.payments;
		CREATE FUNCTION app.total() RETURNS bigint LANGUAGE sql STABLE RETURN (SELECT count(*) FROM app.payments);
		CREATE FUNCTION app.purge() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM app.payments';
		REVOKE EXECUTE ON FUNCTION app.purge() FROM PUBLIC;
		RESET ROLE;
		SELECT lo_from_bytea(4711, 'of globex');`)
	p := open(t, settings(database))
	mine, theirs := issue(t, p, request(p, "mine", acme)), issue(t, p, request(p, "theirs", globex))
	their := session(t, theirs.Values)
	mustExec(t, their, "SELECT 'a statement of globex'")
	theirRole := string(theirs.Values["username"])
	operatorLogin := "operator"
	group := queryText(t, their, "SELECT 'tenantry_connect_' || oid FROM pg_database WHERE datname = current_database()")

	tests := map[string]struct {
		statement string
		// code is the expected error. Without it the statement succeeds, and returns want.
		code string
		want string
		// alone means that it can't be in a transaction.
		alone bool
	}{
		"all rows":                           {statement: "SELECT string_agg(reference, ',') FROM app.payments", want: "of acme"},
		"row of the other":                   {statement: "SELECT count(*) FROM app.payments WHERE id = 2", want: "0"},
		"rows by the view":                   {statement: "SELECT count(*) FROM app.recent", want: "1"},
		"rows by a function":                 {statement: "SELECT app.total()", want: "1"},
		"TABLESAMPLE":                        {statement: "SELECT count(*) FROM app.payments TABLESAMPLE BERNOULLI (100)", want: "1"},
		"function that sees values":          {statement: "SELECT count(*) FROM app.payments WHERE 1 / (id - 2) IS NOT NULL", want: "1"},
		"cast that prints values":            {statement: "SELECT count(*) FROM app.payments WHERE (CASE reference WHEN 'of acme' THEN '1' ELSE reference END)::int = 1", want: "1"},
		"setting of a framework":             {statement: "SELECT set_config('app.tenant_id', '" + globex + "', false), (SELECT count(*) FROM app.payments)", want: globex},
		"row_security off":                   {statement: "SET row_security = off; SELECT count(*) FROM app.payments", code: codePermissionDenied},
		"session_replication_role":           {statement: "SET session_replication_role = replica", code: codePermissionDenied},
		"SET ROLE of the other":              {statement: "SET ROLE " + theirRole, code: codePermissionDenied},
		"SET ROLE of the group":              {statement: "SET ROLE tenantry_tenant", code: codePermissionDenied},
		"SET ROLE of its group":              {statement: "SET ROLE " + group, code: codePermissionDenied},
		"SET ROLE of the owner":              {statement: "SET ROLE app_owner", code: codePermissionDenied},
		"SET ROLE of the operator":           {statement: "SET ROLE tenantry_operator", code: codePermissionDenied},
		"SET ROLE none":                      {statement: "SET ROLE none; SELECT tenantry.current_tenant()", want: acme},
		"SET SESSION AUTHORIZATION":          {statement: "SET SESSION AUTHORIZATION " + theirRole, code: codePermissionDenied},
		"password of the other":              {statement: "ALTER ROLE " + theirRole + " PASSWORD 'known'", code: codePermissionDenied},
		"password of the operator":           {statement: "ALTER ROLE " + operatorLogin + " PASSWORD 'known'", code: codePermissionDenied},
		"its own expiry":                     {statement: "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'", code: codePermissionDenied},
		"its own connection limit":           {statement: "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1", code: codePermissionDenied},
		"BYPASSRLS":                          {statement: "ALTER ROLE CURRENT_USER BYPASSRLS", code: codePermissionDenied},
		"a role of its own":                  {statement: "CREATE ROLE mine LOGIN", code: codePermissionDenied},
		"membership for others":              {statement: "GRANT tenantry_tenant TO operator", code: codePermissionDenied},
		"password hashes":                    {statement: "SELECT count(*) FROM pg_authid", code: codePermissionDenied},
		"password hashes in the view":        {statement: "SELECT count(*) FROM pg_roles WHERE rolpassword <> '********'", want: "0"},
		"who is which tenant":                {statement: "SELECT count(*) FROM tenantry.runs", code: codePermissionDenied},
		"to be another tenant":               {statement: "UPDATE tenantry.runs SET tenant = '" + globex + "'", code: codePermissionDenied},
		"exceptions":                         {statement: "INSERT INTO tenantry.exceptions VALUES ('table app.t', 'x')", code: codePermissionDenied},
		"function of the operator":           {statement: "SELECT tenantry.fence('" + theirRole + "')", code: codePermissionDenied},
		"another current_tenant()":           {statement: "CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS text LANGUAGE sql RETURN '" + globex + "'", code: codePermissionDenied},
		"statements of others":               {statement: "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%of globex%' AND pid <> pg_backend_pid()", want: "0"},
		"end of another session":             {statement: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + theirRole + "'", code: codePermissionDenied},
		"end of another statement":           {statement: "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '" + theirRole + "'", code: codePermissionDenied},
		"statistics":                         {statement: "SELECT count(*) FROM pg_stats WHERE schemaname = 'app' AND tablename = 'payments'", want: "0"},
		"raw statistics":                     {statement: "SELECT count(*) FROM pg_statistic", code: codePermissionDenied},
		"pages of a table":                   {statement: "SELECT pg_read_binary_file('base')", code: codePermissionDenied},
		"INSERT for the other":               {statement: "INSERT INTO app.payments (tenant_id, reference) VALUES ('" + globex + "', 'forged')", code: codePermissionDenied},
		"INSERT with a conflict":             {statement: "INSERT INTO app.payments VALUES ('" + globex + "', 2, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET reference = 'x'", code: codePermissionDenied},
		"UPDATE of the other":                {statement: "WITH u AS (UPDATE app.payments SET reference = 'x' WHERE id = 2 RETURNING 1) SELECT count(*) FROM u", want: "0"},
		"UPDATE to the other":                {statement: "UPDATE app.payments SET tenant_id = '" + globex + "'", code: codePermissionDenied},
		"DELETE of the other":                {statement: "WITH d AS (DELETE FROM app.payments WHERE id = 2 RETURNING 1) SELECT count(*) FROM d", want: "0"},
		"MERGE":                              {statement: "MERGE INTO app.payments USING (VALUES (2)) v (id) ON payments.id = v.id WHEN MATCHED THEN DELETE", want: "MERGE 0"},
		"row lock of the other":              {statement: "SELECT count(*) FROM (SELECT FROM app.payments WHERE id = 2 FOR UPDATE) l", want: "0"},
		"TRUNCATE":                           {statement: "TRUNCATE app.payments CASCADE", code: codePermissionDenied},
		"COPY of the table":                  {statement: "COPY app.payments TO STDOUT", want: "COPY 1"},
		"COPY of a query":                    {statement: "COPY (SELECT * FROM app.payments) TO STDOUT", want: "COPY 1"},
		"COPY into the table":                {statement: "COPY app.payments FROM STDIN", code: "0A000"},
		"COPY to a file":                     {statement: "COPY app.payments TO '/tmp/stolen'", code: codePermissionDenied},
		"COPY to a program":                  {statement: "COPY app.payments TO PROGRAM 'cat'", code: codePermissionDenied},
		"materialized view":                  {statement: "SELECT count(*) FROM app.report", code: codePermissionDenied},
		"view of the owner":                  {statement: "SELECT count(*) FROM app.everything", code: codePermissionDenied},
		"function of the owner":              {statement: "SELECT app.purge()", code: codePermissionDenied},
		"large object of the other":          {statement: "SELECT lo_get(4711)", code: codePermissionDenied},
		"change of that large object":        {statement: "SELECT lo_put(4711, 0, 'x')", code: codePermissionDenied},
		"large objects of the catalogue":     {statement: "SELECT count(*) FROM pg_largeobject", code: codePermissionDenied},
		"temporary table":                    {statement: "CREATE TEMP TABLE payments (id int)", code: codePermissionDenied},
		"temporary view":                     {statement: "CREATE TEMP VIEW runs AS SELECT '" + globex + "' AS tenant", code: codePermissionDenied},
		"function in pg_temp":                {statement: "CREATE FUNCTION pg_temp.current_tenant() RETURNS text LANGUAGE sql RETURN 'x'", code: codePermissionDenied},
		"table in public":                    {statement: "CREATE TABLE public.runs (role name)", code: codePermissionDenied},
		"table in app":                       {statement: "CREATE TABLE app.mine ()", code: codePermissionDenied},
		"schema":                             {statement: "CREATE SCHEMA mine", code: codePermissionDenied},
		"extension":                          {statement: "CREATE EXTENSION hstore", code: codePermissionDenied},
		"operator that sees values":          {statement: "CREATE OPERATOR public.=== (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int)", code: codePermissionDenied},
		"policy":                             {statement: "CREATE POLICY mine ON app.payments USING (true)", code: codePermissionDenied},
		"trigger":                            {statement: "CREATE TRIGGER mine BEFORE INSERT ON app.payments FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", code: codePermissionDenied},
		"no row security":                    {statement: "ALTER TABLE app.payments DISABLE ROW LEVEL SECURITY", code: codePermissionDenied},
		"foreign key on the table":           {statement: "CREATE TEMP TABLE child (t uuid, p bigint, FOREIGN KEY (t, p) REFERENCES app.payments)", code: codePermissionDenied},
		"row that points at the other's":     {statement: "INSERT INTO app.refunds VALUES ('" + globex + "', 2)", code: codePermissionDenied},
		"row that exists only for the other": {statement: "INSERT INTO app.refunds VALUES ('" + acme + "', 2)", code: "23503"},
		"key that the other has":             {statement: "INSERT INTO app.payments VALUES ('" + acme + "', 2, 'of globex') RETURNING id", want: "2"},
		"value of the sequence":              {statement: "SELECT last_value FROM app.payments_id_seq", code: codePermissionDenied},
		"change of the sequence":             {statement: "SELECT setval('app.payments_id_seq', 1)", code: codePermissionDenied},
		"search_path":                        {statement: "SET search_path = app; SELECT tenantry.current_tenant()", want: acme},
		"DO":                                 {statement: "DO 'BEGIN PERFORM 1 / (SELECT count(*) FROM app.payments WHERE id = 2); END'", code: "22012"},
		"subscription":                       {statement: "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p", alone: true, code: codePermissionDenied},
		"replication slot":                   {statement: "SELECT pg_create_logical_replication_slot('s', 'test_decoding')", code: codePermissionDenied},
		"server settings":                    {statement: "ALTER SYSTEM SET log_statement = 'none'", alone: true, code: codePermissionDenied},
		"log settings":                       {statement: "SET log_statement = 'none'", code: codePermissionDenied},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn, err := login(t.Context(), mine.Values)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if !test.alone {
				mustExec(t, conn, "BEGIN")
			}
			got, err := lastValue(t.Context(), conn, test.statement)
			switch {
			case test.code == "" && err != nil:
				t.Errorf("error: %v", err)
			case test.code != "" && !hasCode(err, test.code):
				t.Errorf("result %q, error %v, want %s", got, err, test.code)
			case test.code == "" && got != test.want:
				t.Errorf("result %q, want %q", got, test.want)
			}
			if err != nil && (strings.Contains(fmt.Sprint(err), "of globex") || strings.Contains(fmt.Sprintf("%+v", err), "of globex")) {
				t.Errorf("the error tells a value of the other: %v", err)
			}
			if !test.alone {
				mustExec(t, conn, "ROLLBACK")
			}
		})
	}

	unchanged := "SELECT string_agg(reference, ',' ORDER BY id) FROM app.payments"
	if got := queryText(t, server.Admin(t, database), unchanged); got != "of acme,of globex" {
		t.Errorf("rows after all: %s", got)
	}
	if err := their.Ping(t.Context()); err != nil {
		t.Errorf("the other's session: %v", err)
	}
	for _, other := range []string{"postgres", "template1"} {
		values := map[string][]byte{"database": []byte(other), "username": mine.Values["username"], "password": mine.Values["password"]}
		if _, err := login(t.Context(), values); !hasCode(err, codePermissionDenied) {
			t.Errorf("logging in to %s: %v", other, err)
		}
	}
}

// lastValue executes statements and returns the last value, or else the last command's tag.
func lastValue(ctx context.Context, conn *pgx.Conn, statements string) (string, error) {
	if strings.HasPrefix(statements, "COPY") && strings.HasSuffix(statements, "STDOUT") {
		tag, err := conn.PgConn().CopyTo(ctx, io.Discard, statements)
		return tag.String(), err
	}
	results, err := conn.PgConn().Exec(ctx, statements).ReadAll()
	if err != nil {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 {
		return last.CommandTag.String(), nil
	}
	return string(last.Rows[len(last.Rows)-1][0]), nil
}

// What a run of one tenant can do to others is known, and stands in docs/credentials.md. When one of these fails, something has become
// better, and the page is to be changed.
func TestKnownLimits(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	mine, theirs := issue(t, p, request(p, "mine", acme)), issue(t, p, request(p, "theirs", globex))
	my, their := session(t, mine.Values), session(t, theirs.Values)

	t.Run("LOCK TABLE, for as long as the run lasts", func(t *testing.T) {
		mustExec(t, my, "BEGIN; LOCK TABLE app.payments IN ACCESS EXCLUSIVE MODE")
		if _, err := lastValue(t.Context(), their, "SET lock_timeout = '50ms'; SELECT count(*) FROM app.payments"); !hasCode(err, codeLockTimeout) {
			t.Errorf("error: %v", err)
		}
		if err := p.Revoke(t.Context(), request(p, "mine", acme).Handle); err != nil {
			t.Fatal(err)
		}
		if got, err := lastValue(t.Context(), their, "SELECT count(*) FROM app.payments"); err != nil || got != "1" {
			t.Errorf("afterwards: %s, %v", got, err)
		}
		issue(t, p, request(p, "mine", acme))
	})

	mine, err := p.Issue(t.Context(), request(p, "mine", acme))
	if err != nil {
		t.Fatal(err)
	}
	my = session(t, mine.Values)
	t.Run("column privileges do not allow it", func(t *testing.T) {
		server.Exec(t, database, `REVOKE UPDATE, DELETE ON app.refunds FROM tenantry_tenant; GRANT UPDATE (payment_id) ON app.refunds TO tenantry_tenant`)
		if _, err := lastValue(t.Context(), my, "BEGIN; LOCK TABLE app.refunds IN SHARE MODE"); !hasCode(err, codePermissionDenied) {
			t.Errorf("error: %v", err)
		}
		mustExec(t, my, "ROLLBACK")
	})
	t.Run("advisory locks and NOTIFY, without hardening", func(t *testing.T) {
		mustExec(t, my, "SELECT pg_advisory_lock(1); LISTEN news")
		mustExec(t, their, "SELECT pg_notify('news', 'of globex')")
		heard, err := my.WaitForNotification(t.Context())
		if err != nil || heard.Payload != "of globex" {
			t.Errorf("heard %v, error: %v", heard, err)
		}
		if got := queryText(t, their, "SELECT pg_try_advisory_lock(1)"); got != "false" {
			t.Errorf("the lock is %s", got)
		}
	})
	t.Run("advisory locks, with hardening", func(t *testing.T) {
		server.Exec(t, database, Hardening)
		server.Exec(t, database, Hardening)
		for _, statement := range []string{"SELECT pg_advisory_lock(2)", "SELECT pg_try_advisory_xact_lock(2)", "SELECT lo_create(0)", "SELECT pg_notify('a', 'b')"} {
			if _, err := lastValue(t.Context(), my, statement); !hasCode(err, codePermissionDenied) {
				t.Errorf("%s: %v", statement, err)
			}
		}
	})
	t.Run("names, roles and numbers of others in the catalogue", func(t *testing.T) {
		for _, query := range []string{
			"SELECT count(*) > 0 FROM pg_roles WHERE rolname = '" + string(theirs.Values["username"]) + "'",
			"SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '" + string(theirs.Values["username"]) + "'",
			"SELECT reltuples = 2 FROM pg_class WHERE relname = 'payments'",
		} {
			if got := queryText(t, my, query); got != "true" {
				t.Errorf("%s: %s", query, got)
			}
		}
	})
	t.Run("the planner's estimates come from all rows", func(t *testing.T) {
		var plan string
		if err := my.QueryRow(t.Context(), "EXPLAIN SELECT FROM app.payments WHERE reference = 'of globex'").Scan(&plan); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("its own password", func(t *testing.T) {
		mustExec(t, my, "ALTER ROLE CURRENT_USER PASSWORD 'known'")
		known := map[string][]byte{"database": []byte(database), "username": mine.Values["username"], "password": []byte("known")}
		if _, err := login(t.Context(), known); err != nil {
			t.Fatal(err)
		}
		if err := p.Revoke(t.Context(), request(p, "mine", acme).Handle); err != nil {
			t.Fatal(err)
		}
		if _, err := login(t.Context(), known); err == nil {
			t.Error("it lives on")
		}
	})
	t.Run("a unique key without the tenant tells that a value exists", func(t *testing.T) {
		server.Exec(t, database, "ALTER TABLE app.payments ADD UNIQUE (reference)")
		mine, err := p.Issue(t.Context(), request(p, "mine", acme))
		if err != nil {
			t.Fatal(err)
		}
		_, err = lastValue(t.Context(), session(t, mine.Values), "INSERT INTO app.payments VALUES ('"+acme+"', 9, 'of globex')")
		if !hasCode(err, codeUniqueViolation) {
			t.Errorf("error: %v", err)
		}
	})
}

// What somebody creates in a schema that is in everybody's search_path does not run as the operator.
func TestHijack(t *testing.T) {
	database := newApplication(t)
	server.Exec(t, database, `CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''hijacked''; END';
		GRANT EXECUTE ON FUNCTION public.format(text, text) TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC;
		ALTER ROLE operator SET search_path = public`)
	t.Cleanup(func() {
		exec(t, server.Config("postgres", "postgres", server.Password), "ALTER ROLE operator RESET search_path")
	})
	if _, err := lastValue(t.Context(), server.Connect(t, database, "operator", operatorPassword), "SELECT format('a'::text, 'b'::text)"); err == nil {
		t.Error("the trap does not work, so this test proves nothing")
	}
	p := open(t, settings(database))
	r := request(p, "run", acme)
	mustExec(t, session(t, issue(t, p, r).Values), "BEGIN; UPDATE app.payments SET reference = 'x'; PREPARE TRANSACTION 'p'")
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Error(err)
	}
}

// The policy that the documentation recommends uses an index on the tenant's column, and computes the tenant once.
func TestPlan(t *testing.T) {
	database := newApplication(t)
	server.Exec(t, database, `INSERT INTO app.payments SELECT gen_random_uuid(), n, 'x' FROM generate_series(10, 3000) n; ANALYZE app.payments`)
	p := open(t, settings(database))
	run := session(t, issue(t, p, request(p, "run", acme)).Values)
	rows, err := run.Query(t.Context(), "EXPLAIN SELECT * FROM app.payments")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(lines, "\n")
	for _, part := range []string{"InitPlan", "Index Cond: (tenant_id = "} {
		if !strings.Contains(plan, part) {
			t.Errorf("no %q in the plan:\n%s", part, plan)
		}
	}
}
