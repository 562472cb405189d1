package credentials_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/credential/postgres"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

// billing is a database whose tenants share a table, as docs/credentials.md says.
const billing = `
CREATE ROLE operator LOGIN PASSWORD 'first';
GRANT tenantry_operator TO operator;
CREATE ROLE billing_owner NOLOGIN;
CREATE SCHEMA app AUTHORIZATION billing_owner;
SET ROLE billing_owner;
CREATE TABLE app.subscriptions (tenant_id text NOT NULL, id int NOT NULL, state text NOT NULL, PRIMARY KEY (tenant_id, id));
CREATE POLICY tenantry ON app.subscriptions
	USING (tenant_id = (SELECT tenantry.current_tenant())) WITH CHECK (tenant_id = (SELECT tenantry.current_tenant()));
CREATE POLICY owner ON app.subscriptions TO billing_owner USING (true);
ALTER TABLE app.subscriptions ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA app TO tenantry_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON app.subscriptions TO tenantry_tenant;
RESET ROLE;`

// newBilling starts a server with the database, and makes its CredentialProvider.
func newBilling(t *testing.T) (*postgrestest.Server, *v1alpha1.CredentialProvider) {
	t.Helper()
	server, err := postgrestest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Remove)
	server.Exec(t, "postgres", "CREATE DATABASE billing")
	for _, database := range []string{"postgres", "template1", "billing"} {
		server.Exec(t, "postgres", "REVOKE CONNECT, TEMPORARY ON DATABASE "+database+" FROM PUBLIC")
	}
	server.Exec(t, "billing", postgres.Migration)
	server.Exec(t, "billing", billing)
	name := fmt.Sprintf("billing-%d", Serial.Add(1))
	for suffix, data := range map[string]map[string]string{
		"admin": {"username": "operator", "password": "first"}, "ca": {"ca.crt": string(server.CA)},
	} {
		Create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: name + "-" + suffix}, StringData: data})
	}
	return server, Create(t, &v1alpha1.CredentialProvider{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.CredentialProviderSpec{Postgres: &v1alpha1.PostgresProvider{
			AdminSecretRef: v1alpha1.LocalReference{Name: name + "-admin"}, CASecretRef: &v1alpha1.LocalReference{Name: name + "-ca"},
			Host: postgrestest.Host, Port: new(int32(server.Port)), Database: "billing",
		}},
	})
}

// text returns the one value of a query.
func text(t *testing.T, conn *pgx.Conn, query string) (value string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// TestPostgres: the leak that does not happen. The same UPDATE without a WHERE, by a run of each of two tenants, changes each one's rows
// only, and nobody logs in with the credentials of a run that is over.
func TestPostgres(t *testing.T) {
	t.Parallel()
	server, provider := newBilling(t)
	awaitProvider(t, provider, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	template := NewReadyTemplate(t, NeedsDatabase)
	admin := server.Admin(t, "billing")
	rolesBefore := text(t, admin, "SELECT count(*)::text FROM pg_roles")
	var passwords []string
	for i := range 2 {
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{
			Credentials: []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider.Name}}},
		})
		server.Exec(t, "billing", fmt.Sprintf("INSERT INTO app.subscriptions VALUES ('%s', 1, 'new'), ('%s', 2, 'new')", tenant.Name, tenant.Name))
		changed := func() string {
			return text(t, admin, "SELECT string_agg(DISTINCT tenant_id, ',') FROM app.subscriptions WHERE state = 'run "+fmt.Sprint(i)+"'")
		}
		tj := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
		AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
		values := boundSecret(t, tj).Data
		passwords = append(passwords, string(values["password"]))
		login := func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, server.Config(string(values["database"]), string(values["username"]), string(values["password"])))
		}
		session, err := login(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = session.Close(context.Background()) }()
		if _, err := session.Exec(t.Context(), "UPDATE app.subscriptions SET state = $1", fmt.Sprintf("run %d", i)); err != nil {
			t.Fatal(err)
		}
		if got := changed(); got != tenant.Name {
			t.Errorf("a run of tenant %s has changed rows of %s", tenant.Name, got)
		}

		Finish(t, tj, corev1.PodSucceeded)
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(Get(t, g, tj).Finalizers).To(gomega.BeEmpty())
			g.Expect(session.Ping(t.Context())).NotTo(gomega.Succeed(), "the session of the run should be ended")
			_, err := login(t.Context())
			g.Expect(err).To(gomega.HaveOccurred(), "nobody should log in after the run")
		})
		expectNoSecret(t, server, tj, passwords)
	}
	if got := text(t, admin, "SELECT count(*)::text FROM pg_roles"); got != rolesBefore {
		t.Errorf("there are %s roles, and were %s before", got, rolesBefore)
	}
}

// expectNoSecret looks for passwords in what a person can read.
func expectNoSecret(t *testing.T, server *postgrestest.Server, tj *v1alpha1.TenantJob, passwords []string) {
	t.Helper()
	var events eventsv1.EventList
	if err := Admin.List(t.Context(), &events); err != nil {
		t.Fatal(err)
	}
	job := JobOf(tj)
	if err := Read(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	for what, obj := range map[string]any{"events": events, "the TenantJob": tj, "the Job": job} {
		written, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		for _, password := range passwords {
			if strings.Contains(string(written), password) {
				t.Errorf("a password is in %s", what)
			}
		}
	}
	for _, password := range passwords {
		if strings.Contains(server.Log(), password) {
			t.Error("a password is in the log of the server")
		}
	}
}

// TestPostgresProblems: what is wrong is said with what mends it, and no run starts until then.
func TestPostgresProblems(t *testing.T) {
	t.Parallel()
	server, provider := newBilling(t)
	awaitProvider(t, provider, metav1.ConditionTrue, v1alpha1.ReasonReady, "")

	// The admin's password is changed, first at the server.
	server.Exec(t, "billing", "ALTER ROLE operator PASSWORD 'second'")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: provider.Spec.Postgres.AdminSecretRef.Name}}
	Patch(t, secret, func(o *corev1.Secret) { o.Data["password"] = []byte("wrong") })
	Patch(t, provider, func(o *v1alpha1.CredentialProvider) { o.Spec.Postgres.ConnectionLimit = new(int32(3)) })
	awaitProvider(t, provider, metav1.ConditionFalse, v1alpha1.ReasonAuthenticationFailed, "")
	Patch(t, secret, func(o *corev1.Secret) { o.Data["password"] = []byte("second") })
	awaitProvider(t, provider, metav1.ConditionTrue, v1alpha1.ReasonReady, "")

	// Somebody makes a table without a policy.
	server.Exec(t, "billing", "CREATE TABLE app.payments (tenant_id text, amount int); GRANT SELECT ON app.payments TO tenantry_tenant")
	Patch(t, provider, func(o *v1alpha1.CredentialProvider) { o.Spec.Postgres.ConnectionLimit = new(int32(4)) })
	awaitProvider(t, provider, metav1.ConditionFalse, v1alpha1.ReasonNotIsolated, "app.payments")
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{
		Credentials: []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider.Name}}},
	})
	tj := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonIssuingCredentials, "app.payments")
	server.Exec(t, "billing", "DROP TABLE app.payments")
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	Finish(t, tj, corev1.PodSucceeded)
	Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, tj).Finalizers).To(gomega.BeEmpty()) })
}
