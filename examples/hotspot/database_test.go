package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/postgres"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

// server is a real PostgreSQL.
var server *postgrestest.Server

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m, &server)) }

const loginPassword = "operator"

// newBilling makes the billing database, as its files say, and returns a provider of credentials for it.
func newBilling(t *testing.T) *postgres.Provider {
	t.Helper()
	server.Exec(t, "postgres", "CREATE DATABASE billing")
	t.Cleanup(func() {
		admin, err := pgx.ConnectConfig(context.Background(), server.Config("postgres", postgrestest.Superuser, server.Password))
		if err == nil {
			_, err = admin.Exec(context.Background(), "DROP DATABASE billing WITH (FORCE)")
			_ = admin.Close(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
	server.Exec(t, "billing", postgres.Migration)
	server.Exec(t, "billing", "DROP ROLE IF EXISTS tenantry_login; CREATE ROLE tenantry_login LOGIN PASSWORD '"+loginPassword+"';"+
		"GRANT tenantry_operator TO tenantry_login")
	schema, err := os.ReadFile("schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	server.Exec(t, "billing", string(schema))
	server.Exec(t, "billing", string(schema)) // it can be run again
	p, err := postgres.New(postgres.Settings{
		Cluster: "cluster", Provider: "provider",
		Host: postgrestest.Host, Port: int32(server.Port), Database: "billing", SSLMode: v1alpha1.SSLVerifyFull, CA: server.CA,
		Username: "tenantry_login", Password: loginPassword, ConnectionLimit: 5, MaxLifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// givenCredential issues the credential of a run, and returns the folder that its pod would have it in.
func givenCredential(t *testing.T, p *postgres.Provider, run, tenant string) string {
	t.Helper()
	issued, err := p.Issue(t.Context(), credential.Request{
		Handle: credential.NewHandle("cluster", "provider", "tenant", types.UID(run), bindingName),
		Run:    credential.Run{UID: types.UID(run), Namespace: "tenant-" + tenant, Name: run},
		Tenant: credential.Tenant{ExternalID: tenant}, Lifetime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return givenBinding(t, issued.Values)
}

func givenBinding(t *testing.T, values map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, bindingName), 0o700); err != nil {
		t.Fatal(err)
	}
	for key, value := range values {
		if err := os.WriteFile(filepath.Join(root, bindingName, key), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// digests returns a digest of each table for each customer: acme/users.
func digests(t *testing.T, admin *pgx.Conn, tenants ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, tenant := range tenants {
		rows, err := admin.Query(t.Context(), "SELECT name, digest FROM operations.tables($1)", tenant)
		if err != nil {
			t.Fatal(err)
		}
		var name, digest string
		if _, err := pgx.ForEachRow(rows, []any{&name, &digest}, func() error {
			found[tenant+"/"+name] = digest
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// changed returns what is not the same in both.
func changed(before, after map[string]string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	return names
}

// TestJobsChangeRowsOfTheirTenantOnly: no statement of any job names the tenant, and all customers have the same ids. Each job changes
// exactly what it should of its tenant's, once, and nothing of others.
func TestJobsChangeRowsOfTheirTenantOnly(t *testing.T) {
	p := newBilling(t)
	admin := server.Admin(t, "billing")
	findings, err := p.Check(t.Context(), nil)
	if err != nil || len(findings) > 0 {
		t.Fatalf("the check of the database: %v, error %v", findings, err)
	}
	want := map[string]struct {
		parameters map[string]v1alpha1.ParameterValue
		changes    string
		logged     string
	}{
		"check-expired-subscriptions": {
			changes: "sessions subscriptions users", logged: "subscriptions expired 10, users disconnected 10, sessions ended 10",
		},
		"send-payment-reminders": {changes: "reminders", logged: "reminders sent 10"},
		"process-payment": {
			parameters: map[string]v1alpha1.ParameterValue{"paymentID": "8231"},
			changes:    "payments", logged: "payments charged 1",
		},
		"disconnect-user": {
			parameters: map[string]v1alpha1.ParameterValue{"userID": "417"},
			changes:    "sessions users", logged: "sessions ended 1, users disconnected 1",
		},
		"process-grace-period": {changes: "users", logged: "users slowed down 10"},
		"check-routers":        {changes: "routers", logged: "routers asked 8, alerts changed 1"},
		"router-provisioning": {
			parameters: map[string]v1alpha1.ParameterValue{"routerID": "lobby-2"},
			changes:    "routers", logged: "routers provisioned 1",
		},
		"sync-access-point-status": {changes: "access_points", logged: "access points silent 4"},
		"update-vpn-status":        {changes: "vpn_peers", logged: "VPN peers down 5"},
		"update-dashboard-stats":   {changes: "dashboard_stats", logged: "dashboards computed 1"},
		"sync-radius-accounting":   {changes: "radius_accounting sessions", logged: "accounting records taken over 400"},
		"check-expired-sessions":   {changes: "sessions", logged: "sessions closed 5"},
	}
	templates := readTemplates(t)
	for _, j := range jobs {
		t.Run(j.name, func(t *testing.T) {
			server.Exec(t, "billing", "CALL operations.fill('acme', 'acme'); CALL operations.fill('globex', 'globex')")
			before := digests(t, admin, "acme", "globex")
			env := acme.with(resolve(t, templates[j.name], want[j.name].parameters)).with(environment{
				"TENANT_ID": "acme", "SERVICE_BINDING_ROOT": givenCredential(t, p, j.name, "acme"),
			})
			var out strings.Builder
			if code := run(t.Context(), []string{j.name}, env, time.Now(), &out); code != 0 {
				t.Fatalf("exit code %d, output\n%s", code, out.String())
			}
			after := digests(t, admin, "acme", "globex")
			var expected []string
			for table := range strings.FieldsSeq(want[j.name].changes) {
				expected = append(expected, "acme/"+table)
			}
			if got := changed(before, after); !slices.Equal(got, expected) {
				t.Errorf("changed %v, want %v", got, expected)
			}
			if got := logged(out.String()); got != want[j.name].logged {
				t.Errorf("logged %s, want %s", got, want[j.name].logged)
			}
		})
	}
}

// TestPendingAndRepeated: what events should have dispatched is found, and a job that is repeated finds nothing left to do.
func TestPendingAndRepeated(t *testing.T) {
	p := newBilling(t)
	server.Exec(t, "billing", "CALL operations.fill('acme', 'acme')")
	env := acme.with(environment{
		"TENANT_ID": "acme", "SERVICE_BINDING_ROOT": givenCredential(t, p, "pending", "acme"),
		"PAYMENT_ID": pending, "USER_ID": pending, "REASON": "left", "ROUTER_ID": pending, "PROFILE": "hotspot", "BATCH_SIZE": "7",
	})
	for _, step := range []struct{ command, first, second string }{
		{"process-payment", "payments charged 40", "payments charged 0"},
		{"disconnect-user", "sessions ended 2, users disconnected 2", "sessions ended 0, users disconnected 0"},
		{"router-provisioning", "routers provisioned 2", "routers provisioned 0"},
		{"sync-radius-accounting", "accounting records taken over 400", "accounting records taken over 0"},
	} {
		for _, want := range []string{step.first, step.second} {
			var out strings.Builder
			if code := run(t.Context(), []string{step.command}, env, time.Now(), &out); code != 0 || logged(out.String()) != want {
				t.Errorf("%s: exit code %d, want %s, output\n%s", step.command, code, want, out.String())
			}
		}
	}
}

// logged returns what the log says of rows: "users disconnected 10, sessions ended 10".
func logged(log string) string {
	var found []string
	for line := range strings.Lines(log) {
		var rows int
		if _, after, ok := strings.Cut(line, " rows="); ok {
			_, message, _ := strings.Cut(line, "msg=")
			message, _, _ = strings.Cut(message, " tenant=")
			if _, err := fmt.Sscan(after, &rows); err == nil {
				found = append(found, fmt.Sprintf("%s %d", strings.Trim(message, `"`), rows))
			}
		}
	}
	return strings.Join(found, ", ")
}

func TestDatabaseFailures(t *testing.T) {
	p := newBilling(t)
	server.Exec(t, "billing", "CALL operations.fill('acme', 'acme'); CALL operations.fill('globex', 'globex');"+
		"DELETE FROM payments WHERE tenant_id = 'acme' AND id = 8231")
	root := givenCredential(t, p, "failures", "acme")
	change := func(key, value string) string {
		values := map[string][]byte{}
		b, err := readBinding(environment{"SERVICE_BINDING_ROOT": root})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range b {
			values[k] = []byte(v)
		}
		values[key] = []byte(value)
		return givenBinding(t, values)
	}
	foreign, err := postgrestest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		root string
		code int
		want string
	}{
		"another customer's payment":    {root, exitFailed, `msg="there is no payment 8231"`},
		"a dead credential":             {change("password", "wrong"), exitFailed, "password authentication failed"},
		"a server of somebody else":     {change("ca.crt", string(foreign)), exitFailed, "certificate"},
		"a server that is not verified": {change("sslmode", "require"), exitRefused, `sslmode is \"require\"`},
		"a port that is none":           {change("port", "many"), exitRefused, `port is \"many\"`},
		"a CA that is none":             {change("ca.crt", "none"), exitRefused, "ca.crt has no certificate"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			env := acme.with(environment{"PAYMENT_ID": "8231", "SERVICE_BINDING_ROOT": tc.root})
			var out strings.Builder
			if code := run(t.Context(), []string{"process-payment"}, env, time.Now(), &out); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if !strings.Contains(out.String(), tc.want) || strings.Contains(out.String(), "would charge") {
				t.Errorf("output\n%swant %s", out.String(), tc.want)
			}
		})
	}
	t.Run("a signal", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		out := &stopper{at: "started", stop: cancel}
		env := acme.with(environment{"PAYMENT_ID": "8232", "SERVICE_BINDING_ROOT": root})
		if code := run(ctx, []string{"process-payment"}, env, time.Now(), out); code != exitStopped {
			t.Errorf("exit code %d, output\n%s", code, out.String())
		}
	})
}

func TestSQL(t *testing.T) {
	p := newBilling(t)
	env := environment{"SERVICE_BINDING_ROOT": givenCredential(t, p, "sql", "acme"), "STATEMENTS": `
		SELECT 1; SELECT 'last'
		SET row_security = on
		COPY users TO STDOUT
		SELECT 1 / 0

		SELECT pg_terminate_backend(pg_backend_pid())
		SELECT tenantry.current_tenant()`}
	var out strings.Builder
	if code := run(t.Context(), []string{"sql"}, env, now, &out); code != 0 {
		t.Errorf("exit code %d", code)
	}
	want := `{"statement":"SELECT 1; SELECT 'last'","value":"last"}
{"statement":"SET row_security = on","value":"SET"}
{"statement":"COPY users TO STDOUT","value":"COPY 0"}
{"statement":"SELECT 1 / 0","code":"22012","error":"division by zero"}
{"statement":"SELECT pg_terminate_backend(pg_backend_pid())","code":"57P01","error":"terminating connection due to administrator command"}
{"statement":"SELECT tenantry.current_tenant()","value":"acme"}
`
	if out.String() != want {
		t.Errorf("output\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if code := run(t.Context(), []string{"sql"}, environment{}, now, &out); code != exitRefused || !strings.Contains(out.String(), "no credential database") {
		t.Errorf("without a credential: exit code %d, output %s", code, out.String())
	}
}
