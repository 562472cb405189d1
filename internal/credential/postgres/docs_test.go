package postgres

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

// section returns the statements of a section of docs/credentials.md, a string for each block.
func section(t *testing.T, heading string) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/credentials.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n### "+heading+"\n")
	if !ok {
		t.Fatalf("docs/credentials.md has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n### ")
	var blocks []string
	for _, match := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, match[1])
	}
	return blocks
}

// An application goes on while its database is brought in, step by step as the documentation says.
func TestBringingAnExistingDatabaseIn(t *testing.T) {
	newDatabase(t) // makes the roles
	server.Exec(t, "postgres", "CREATE DATABASE billing")
	admin := server.Config("postgres", postgrestest.Superuser, server.Password)
	t.Cleanup(func() { exec(t, admin, "DROP DATABASE billing WITH (FORCE)") })
	t.Cleanup(func() {
		exec(t, server.Config("billing", postgrestest.Superuser, server.Password), "DROP OWNED BY web; DROP ROLE web; ALTER ROLE app_owner NOLOGIN")
	})
	server.Exec(t, "billing", `
		CREATE ROLE web LOGIN PASSWORD 'web';
		ALTER ROLE app_owner LOGIN PASSWORD 'owner';
		GRANT CREATE ON SCHEMA public TO app_owner;
		SET ROLE app_owner;
		CREATE TABLE payments (tenant_id uuid, id bigint, PRIMARY KEY (tenant_id, id));
		INSERT INTO payments VALUES ('`+acme+`', 1), ('`+globex+`', 2);
		GRANT SELECT, INSERT, UPDATE, DELETE ON payments TO web;`)
	var clients []*pgx.Conn
	expectAllRows := func(step string) {
		t.Helper()
		clients = append(clients, server.Connect(t, "billing", "web", "web"))
		if len(clients) == 1 {
			clients = append(clients, server.Connect(t, "billing", "app_owner", "owner"))
		}
		for _, client := range clients {
			if got := queryText(t, client, "SELECT count(*) FROM payments"); got != "2" {
				t.Errorf("%s: %s rows", step, got)
			}
			mustExec(t, client, "INSERT INTO payments VALUES (gen_random_uuid(), 3); DELETE FROM payments WHERE id = 3")
		}
	}
	server.Exec(t, "billing", Migration)
	expectAllRows("before")
	for _, statements := range section(t, "Bringing an existing database in") {
		server.Exec(t, "billing", statements)
		expectAllRows(statements)
	}
	p := open(t, settings("billing"))
	if findings := check(t, p); len(findings) > 0 {
		t.Errorf("findings: %v", findings)
	}
	run := session(t, issue(t, p, request(p, "run", acme)).Values)
	if got := queryText(t, run, "SELECT string_agg(id::text, ',') FROM payments"); got != "1" {
		t.Errorf("a run reads %s", got)
	}
}

// The other statements of the page work as they stand there.
func TestDocumentedStatements(t *testing.T) {
	database := newDatabase(t)
	server.Exec(t, database, "CREATE TABLE currencies (code text); CREATE TABLE payments (tenant_id uuid); "+
		"GRANT USAGE ON SCHEMA public TO tenantry_tenant")
	server.Exec(t, "postgres", "CREATE DATABASE tenant_acme")
	server.Exec(t, "tenant_acme", "CREATE TABLE payments (); CREATE SCHEMA acme; CREATE TABLE acme.payments ()")
	admin := server.Config("postgres", postgrestest.Superuser, server.Password)
	t.Cleanup(func() { exec(t, admin, "DROP DATABASE tenant_acme WITH (FORCE)") })
	t.Cleanup(func() { exec(t, admin, "DROP ROLE tenantry_login") })
	for heading, in := range map[string]string{
		"Once per database": database, "Shared tables": database, "A database or a schema for each tenant": "tenant_acme",
	} {
		blocks := section(t, heading)
		if len(blocks) == 0 {
			t.Errorf("%s has no statements", heading)
		}
		for _, statements := range blocks {
			server.Exec(t, in, statements)
		}
	}
	p := open(t, settings(database))
	for _, own := range []v1alpha1.TenantPostgres{{Database: "tenant_acme"}, {Database: "tenant_acme", Schema: "acme"}} {
		run := session(t, issue(t, p, requestOwn(p, own.Schema, acme, own)).Values)
		mustExec(t, run, "SELECT FROM payments")
		if findings := check(t, p, v1alpha1.TenantCredential{}, v1alpha1.TenantCredential{Postgres: &own}); len(findings) > 0 {
			t.Errorf("findings: %v", findings)
		}
	}
}
