package credentials_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
	"github.com/tenantry/tenantry/internal/job"
)

// noteIssues has the database note each time that a role is issued for a run.
const noteIssues = `
CREATE SCHEMA audit;
CREATE TABLE audit.issues (run text);
CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	IF NEW.expiration_time > clock_timestamp() THEN
		INSERT INTO audit.issues VALUES (NEW.run);
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON tenantry.runs FOR EACH ROW EXECUTE FUNCTION audit.note();`

// listOnce has the database answer one sweep, and tell the later ones that there is no role.
const listOnce = `
DO $$ BEGIN EXECUTE replace(pg_get_functiondef('tenantry.list'::regproc), 'FUNCTION tenantry.list(', 'FUNCTION audit.list('); END $$;
CREATE SEQUENCE audit.lists;
CREATE OR REPLACE FUNCTION tenantry.list(cluster text, provider text)
	RETURNS TABLE (role name, run text, namespace text, name text, expiration_time timestamptz) LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	IF nextval('audit.lists') = 1 THEN
		RETURN QUERY SELECT * FROM audit.list(cluster, provider);
	END IF;
END
$$;
ALTER FUNCTION tenantry.list OWNER TO CURRENT_USER;`

// billingRun is a run that has a role of its own, and a session that it has opened.
type billingRun struct {
	*v1alpha1.TenantJob
	login   *pgx.ConnConfig
	session *pgx.Conn
}

// newBillingRun waits until a TenantJob runs, and logs in as it.
func newBillingRun(t *testing.T, server *postgrestest.Server, tj *v1alpha1.TenantJob) billingRun {
	t.Helper()
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	values := boundSecret(t, tj).Data
	database, user, password := string(values["database"]), string(values["username"]), string(values["password"])
	r := billingRun{tj, server.Config(database, user, password), server.Connect(t, database, user, password)}
	if got := text(t, r.session, "SELECT tenantry.current_tenant()"); got != tj.Spec.TenantRef.Name {
		t.Fatalf("the run has logged in as tenant %s", got)
	}
	return r
}

func (r billingRun) awaitJobEnded(t *testing.T) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) { g.Expect(job.Ended(Get(t, g, JobOf(r.TenantJob)))).To(gomega.BeTrue()) })
}

// TestOperatorIsAwayWhileCredentialsExpire: the operator is killed, and for longer than the roles of its runs are valid nobody takes its
// place. They expire by the server's clock. The first sweep of the next operator leaves none of those whose run is over, whatever has
// ended it. No role was issued twice, and what has waited meanwhile runs with a role of its own.
func TestOperatorIsAwayWhileCredentialsExpire(t *testing.T) {
	server, provider := newBilling(t)
	server.Exec(t, "billing", noteIssues)
	Patch(t, provider, func(o *v1alpha1.CredentialProvider) { o.Spec.Postgres.MaxLifetimeSeconds = new(int32(60)) })
	awaitProvider(t, provider, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	endings := map[string]func(*testing.T, billingRun){
		"succeeds": func(t *testing.T, r billingRun) { Finish(t, r.TenantJob, corev1.PodSucceeded); r.awaitJobEnded(t) },
		"fails":    func(t *testing.T, r billingRun) { Finish(t, r.TenantJob, corev1.PodFailed); r.awaitJobEnded(t) },
		"exceeds its deadline": func(t *testing.T, r billingRun) {
			Patch(t, JobOf(r.TenantJob), func(o *batchv1.Job) { o.Spec.ActiveDeadlineSeconds = new(int64(1)) })
			r.awaitJobEnded(t)
		},
		"is deleted, its finalizer removed": func(t *testing.T, r billingRun) {
			Patch(t, r.TenantJob, func(o *v1alpha1.TenantJob) { o.Finalizers = nil })
			Remove(t, r.TenantJob)
			AwaitGone(t, JobOf(r.TenantJob))
		},
	}
	spec := AtMost(int32(len(endings)))
	spec.Credentials = []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider.Name}}}
	tenant, template := NewReadyTenant(t, spec), NewReadyTemplate(t, NeedsDatabase)
	WithoutOperator(t)
	k := newKiller("")
	first := &OtherOperator{Through: k.through}
	first.Start(t)
	runs := map[string]billingRun{}
	for name := range endings {
		runs[name] = newBillingRun(t, server, NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {}))
	}
	waiting := NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, waiting, metav1.ConditionUnknown, v1alpha1.ReasonQueued, "")
	k.dead.Store(true)
	first.Stop()

	for name, end := range endings {
		end(t, runs[name])
	}
	for name, r := range runs {
		Eventually(t, func(g gomega.Gomega) {
			conn, err := pgx.ConnectConfig(t.Context(), r.login)
			if err == nil {
				_ = conn.Close(context.Background())
			}
			g.Expect(err).To(gomega.MatchError(gomega.ContainSubstring("password authentication failed")), name)
			g.Expect(text(t, r.session, "SELECT coalesce(tenantry.current_tenant(), 'nobody')")).To(gomega.Equal("nobody"), name)
		})
	}
	admin := server.Admin(t, "billing")
	roles := func() string {
		return text(t, admin, `SELECT count(*)::text FROM pg_roles WHERE rolname LIKE 'tenantry\_run\_%'`)
	}
	if got, want := roles(), fmt.Sprint(len(runs)); got != want {
		t.Fatalf("there are %s roles while no operator is there, want %s", got, want)
	}
	server.Exec(t, "billing", listOnce)

	second := &OtherOperator{}
	second.Start(t)
	last := newBillingRun(t, server, waiting)
	Eventually(t, func(g gomega.Gomega) { g.Expect(roles()).To(gomega.Equal("1"), "only the one that runs has a role") })
	for name, r := range runs {
		if r.session.Ping(t.Context()) == nil {
			t.Errorf("%s: its session goes on", name)
		}
		if name == "is deleted, its finalizer removed" {
			continue
		}
		Eventually(t, func(g gomega.Gomega) {
			Get(t, g, r.TenantJob)
			g.Expect(job.IsOver(r.TenantJob)).To(gomega.BeTrue(), name)
			g.Expect(r.Finalizers).To(gomega.BeEmpty(), name)
			g.Expect(r.Status.Credentials).To(gomega.HaveLen(1), name)
			g.Expect(r.Status.Credentials[0].RevocationTime).NotTo(gomega.BeNil(), name)
		})
	}
	Finish(t, waiting, corev1.PodSucceeded)
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Get(t, g, waiting).Finalizers).To(gomega.BeEmpty())
		g.Expect(secretsOf(t, g, tenant)).To(gomega.BeEmpty())
		g.Expect(roles()).To(gomega.Equal("0"))
	})
	if last.session.Ping(t.Context()) == nil {
		t.Error("the session of the last run goes on")
	}
	if got := text(t, admin, "SELECT count(*) || ' for ' || count(DISTINCT run) FROM audit.issues WHERE run NOT LIKE 'check-%'"); got != "5 for 5" {
		t.Errorf("issued for runs: %s, want one for each of 5", got)
	}
	Remove(t, provider)
	AwaitGone(t, provider) // Its server is there until the test ends.
}
