package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// billingDB is the CredentialProvider of examples/hotspot, and the name of the database's Service in the namespace billing.
const billingDB = "billing-db"

var _ = Describe("A run with a credential for the database", func() {
	It("changes its own tenant's rows only, whichever job it is", func(ctx SpecContext) {
		acme, globex := givenCustomer(ctx, "acme"), givenCustomer(ctx, "globex")
		before, others := digests(ctx, acme), digests(ctx, globex)
		given := map[string]parameters{
			"process-payment": {"paymentID": "8231"}, "disconnect-user": {"userID": "417"}, "router-provisioning": {"routerID": "lobby-2"},
		}
		files, err := filepath.Glob("../../config/samples/templates/*-*.yaml")
		Expect(err).NotTo(HaveOccurred())
		Expect(files).To(HaveLen(12))
		var dispatched []*v1alpha1.TenantJob
		for _, file := range files {
			template := givenSample(ctx, file)
			name := strings.TrimSuffix(filepath.Base(file), ".yaml")
			dispatched = append(dispatched, dispatch(ctx, acme, template, name, given[name]))
		}
		for _, tj := range dispatched {
			expectReason(ctx, tj, v1alpha1.ReasonCompleted)
			pod := podOf(ctx, tj)
			Expect(logOf(ctx, &pod)).To(MatchRegexp(`rows=[1-9]`), tj.Name)
		}

		after := digests(ctx, acme)
		for table := range before {
			if table == "customers" {
				continue
			}
			Expect(after[table]).NotTo(Equal(before[table]), "%s of acme", table)
		}
		Expect(digests(ctx, globex)).To(Equal(others), "nothing of globex has changed")
	})

	It("has a role of its own in each of a fan-out's runs, which is gone afterwards", func(ctx SpecContext) {
		template := givenSQL(ctx, "SELECT session_user || ' is ' || tenantry.current_tenant()")
		tenants := map[string]*v1alpha1.Tenant{}
		for _, name := range []string{"acme", "globex", "hooli"} {
			tenant := givenCustomer(ctx, name)
			tenants[tenant.Spec.ExternalID] = tenant
		}
		fanOut := givenFanOut(ctx, template, v1alpha1.TenantSelection{Names: names(slices.Collect(maps.Values(tenants))...)})
		expectFanOut(ctx, fanOut, v1alpha1.ReasonCompleted)

		roles := map[string]bool{}
		for externalID, tenant := range tenants {
			tj := childOf(ctx, fanOut, tenant)
			role, is, _ := strings.Cut(answers(ctx, tj)[0].Value, " is ")
			Expect(is).To(Equal(externalID))
			roles[role] = true
			expectRevoked(ctx, tj)
			Expect(sql(ctx, "SELECT count(*) FROM pg_roles WHERE rolname = '"+role+"'")).To(Equal("0"))
		}
		Expect(roles).To(HaveLen(len(tenants)), "each run has a role of its own")
	})

	It("reaches nothing foreign, whatever it tries", func(ctx SpecContext) {
		acme, globex := givenCustomer(ctx, "acme"), givenCustomer(ctx, "globex")
		others := digests(ctx, globex)
		// A run of globex that is in its database all the while.
		neighbour := dispatch(ctx, globex, givenSQL(ctx,
			"SET application_name = 'a secret of globex'", "SELECT count(*) FROM users", "SELECT pg_sleep(20)", "SELECT count(*) FROM users",
		), "neighbour", none)
		runs(ctx, neighbour)
		var theirs string
		Eventually(ctx, func(ctx context.Context) string {
			theirs = sql(ctx, "SELECT usename FROM pg_stat_activity WHERE application_name = 'a secret of globex'")
			return theirs
		}).ShouldNot(BeEmpty())

		const denied = "42501"
		attempts := []struct{ statement, value, code string }{
			{"SELECT count(*) FROM users", "40", ""},
			{"SELECT count(*) FROM users WHERE tenant_id = '" + globex.Spec.ExternalID + "'", "0", ""},
			{"SET app.tenant_id = '" + globex.Spec.ExternalID + "'; SELECT count(*) FROM users WHERE tenant_id <> tenantry.current_tenant()", "0", ""},
			{"SET row_security = off; SELECT count(*) FROM users", "", denied},
			{"SET ROLE " + theirs, "", denied},
			{"SET ROLE hotspot_web", "", denied},
			{"SET SESSION AUTHORIZATION " + theirs, "", denied},
			{"ALTER ROLE " + theirs + " PASSWORD 'known'", "", denied},
			{"ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'", "", denied},
			{"SELECT count(*) FROM pg_authid", "", denied},
			{"SELECT count(*) FROM tenantry.runs", "", denied},
			{"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%of globex%' AND usename = '" + theirs + "'", "0", ""},
			{"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + theirs + "'", "", denied},
			{"SELECT count(*) FROM pg_stats WHERE tablename = 'users'", "0", ""},
			{"SELECT count(*) FROM pg_statistic", "", denied},
			{"UPDATE users SET name = 'x' WHERE tenant_id <> tenantry.current_tenant()", "UPDATE 0", ""},
			{"UPDATE users SET tenant_id = '" + globex.Spec.ExternalID + "'", "", denied},
			{"DELETE FROM customers WHERE tenant_id <> tenantry.current_tenant()", "DELETE 0", ""},
			{"INSERT INTO routers (tenant_id, id) VALUES ('" + globex.Spec.ExternalID + "', 'forged')", "", denied},
			{"INSERT INTO subscriptions (id, user_id, ends_on) VALUES (1, 1, now())", "", "23503"},
			{"TRUNCATE users CASCADE", "", denied},
			{"COPY users TO STDOUT", "COPY 40", ""},
			{"COPY users TO PROGRAM 'cat'", "", denied},
			{"CREATE TEMP TABLE users (id int)", "", denied},
			{"CREATE FUNCTION public.f() RETURNS int LANGUAGE sql RETURN 1", "", denied},
			{"CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS text LANGUAGE sql RETURN 'x'", "", denied},
			{"ALTER TABLE users DISABLE ROW LEVEL SECURITY", "", denied},
			{"CREATE POLICY mine ON users USING (true)", "", denied},
			{"SELECT operations.tables('" + globex.Spec.ExternalID + "')", "", denied},
			{"CALL operations.fill('" + globex.Spec.ExternalID + "', 'x')", "", denied},
			{"SET log_statement = 'none'", "", denied},
		}
		var statements []string
		for _, attempt := range attempts {
			statements = append(statements, attempt.statement)
		}
		hostile := dispatch(ctx, acme, givenSQL(ctx, statements...), "hostile", none)
		expectReason(ctx, hostile, v1alpha1.ReasonCompleted)
		got := answers(ctx, hostile)
		Expect(got).To(HaveLen(len(attempts)))
		for i, attempt := range attempts {
			Expect(got[i].Value).To(Equal(attempt.value), attempt.statement)
			Expect(got[i].Code).To(Equal(attempt.code), "%s: %s", attempt.statement, got[i].Error)
		}

		expectReason(ctx, neighbour, v1alpha1.ReasonCompleted)
		for _, answer := range answers(ctx, neighbour) {
			Expect(answer.Code).To(BeEmpty(), "the neighbour's %s: %s", answer.Statement, answer.Error)
		}
		Expect(digests(ctx, globex)).To(Equal(others), "nothing of globex has changed")
	})

	It("leaves neither a session nor a login behind, though somebody else has its password", func(ctx SpecContext) {
		acme := givenCustomer(ctx, "acme")
		run := dispatch(ctx, acme, givenSQL(ctx, "SELECT pg_sleep(15)"), "run", none)
		runs(ctx, run)
		stolen := secretOf(ctx, run)

		By("logging in with it from outside of all tenants, and staying there")
		outside := "e2e-outside-" + rand.String(5)
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: outside}}
		Expect(kube.Create(ctx, namespace)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(kube.Delete(ctx, namespace)).To(Succeed()) })
		Expect(kube.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: outside, Name: "stolen"}, Data: stolen.Data,
		})).To(Succeed())
		thief := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: outside, Name: "thief"}, Spec: samplePod("sql")}
		container := &thief.Spec.Containers[0]
		container.Env = []corev1.EnvVar{
			{Name: "SERVICE_BINDING_ROOT", Value: "/bindings"},
			{Name: "STATEMENTS", Value: "SELECT tenantry.current_tenant()\nSELECT pg_sleep(3600)\nSELECT tenantry.current_tenant()"},
		}
		container.VolumeMounts = []corev1.VolumeMount{{Name: "stolen", MountPath: "/bindings/database"}}
		thief.Spec.Volumes = []corev1.Volume{{Name: "stolen", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: "stolen"},
		}}}
		Eventually(ctx, func(ctx context.Context) error { return kube.Create(ctx, thief) }).Should(Succeed())
		role := string(stolen.Data["username"])
		Eventually(ctx, func(ctx context.Context) string {
			return sql(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = '"+role+"'")
		}).Should(Equal("2"), "the run and the thief have a session")

		By("waiting for the run's end")
		expectReason(ctx, run, v1alpha1.ReasonCompleted)
		expectRevoked(ctx, run)
		expectPhase(ctx, thief, corev1.PodSucceeded)
		got := decodeAnswers(logOf(ctx, thief))
		Expect(got[0].Value).To(Equal(acme.Spec.ExternalID), "the thief was in")
		Expect(got[1].Code).To(Equal("57P01"), "its session was ended: %s", got[1].Error)
		Expect(got[2].Code).To(Equal("28P01"), "it can't log in any more: %s", got[2].Error)
		Expect(sql(ctx, "SELECT count(*) FROM pg_roles WHERE rolname = '"+role+"'")).To(Equal("0"))
	})

	It("does not reach the database of a Tenant that does not let it out", func(ctx SpecContext) {
		acme := givenCustomer(ctx, "acme")
		change(ctx, acme, func(t *v1alpha1.Tenant) { t.Spec.Isolation = nil })
		expectReady(ctx, acme)
		run := dispatch(ctx, acme, givenSQL(ctx, "SELECT 1"), "run", none)
		expectReason(ctx, run, v1alpha1.ReasonCompleted)
		Expect(answers(ctx, run)[0].Code).To(Equal("connection"))
		expectRevoked(ctx, run)
	})

	It("has its password in its Secret and nowhere else", func(ctx SpecContext) {
		acme := givenCustomer(ctx, "acme")
		template := givenSQL(ctx, "SELECT pg_sleep(3)", "SELECT no_such_function()", "SELECT 1")
		change(ctx, template, func(t *v1alpha1.TenantJobTemplate) {
			t.Spec.Credentials[0].Env = []v1alpha1.CredentialEnv{{Name: "DB_PASSWORD", Key: "password"}}
		})
		run := dispatch(ctx, acme, template, "run", none)
		runs(ctx, run)
		role, password := string(secretOf(ctx, run).Data["username"]), string(secretOf(ctx, run).Data["password"])
		Expect(len(password)).To(BeNumerically(">=", 32))
		expectReason(ctx, run, v1alpha1.ReasonCompleted)
		expectRevoked(ctx, run)

		looked := map[string]string{"the operator's log": operatorLog(ctx)}
		for _, kind := range []string{"tenants", "tenantjobs", "jobs", "pods", "events", "credentialproviders", "secrets", "configmaps"} {
			looked[kind] = kubectl(ctx, "get", kind, "--all-namespaces", "--output", "yaml", "--show-managed-fields")
		}
		maps.Copy(looked, clusterLogs())
		// What is not secret is found.
		Expect(looked).To(HaveKeyWithValue("tenantjobs", ContainSubstring(acme.NamespaceName())))
		for name, content := range looked {
			if strings.HasSuffix(name, "billing-db.log") {
				Expect(strings.Contains(content, role)).To(BeTrue(), "the log of the database should name the role")
			}
		}
		encoded := base64.StdEncoding.EncodeToString([]byte(password))
		for where, content := range looked {
			// Not with a matcher, which would print all of it.
			Expect(strings.Contains(content, password) || strings.Contains(content, encoded)).To(BeFalse(), "the password is in %s", where)
		}
	})
})

// givenCustomer creates a Tenant that is a customer in the billing database, whose runs can connect to it.
func givenCustomer(ctx context.Context, name string) *v1alpha1.Tenant {
	GinkgoHelper()
	externalID := "customer-" + rand.String(8)
	sql(ctx, fmt.Sprintf("CALL operations.fill('%s', '%s')", externalID, name))
	DeferCleanup(func(ctx SpecContext) {
		sql(ctx, fmt.Sprintf("DELETE FROM customers WHERE tenant_id = '%s'", externalID))
	})
	return givenTenant(ctx, name, v1alpha1.TenantSpec{
		ExternalID:  externalID,
		Credentials: []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: billingDB}}},
		Isolation: &v1alpha1.TenantIsolation{Egress: []networkingv1.NetworkPolicyEgressRule{{
			To: []networkingv1.NetworkPolicyPeer{
				{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: "billing"}}},
				// Beside the pods of the local cluster.
				{IPBlock: &networkingv1.IPBlock{CIDR: "10.244.0.1/32"}},
			},
			Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(5432))}},
		}}},
	})
}

// needsDatabase makes a run get the credential `database` of its tenant.
func needsDatabase(spec *v1alpha1.TenantJobTemplateSpec) {
	spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
}

// givenSQL creates a template that executes statements with the run's credential.
func givenSQL(ctx context.Context, statements ...string) *v1alpha1.TenantJobTemplate {
	GinkgoHelper()
	return givenTemplate(ctx, "sql", needsDatabase, func(spec *v1alpha1.TenantJobTemplateSpec) {
		spec.JobTemplate.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "STATEMENTS", Value: strings.Join(statements, "\n")}}
	})
}

// givenSample creates a template of the samples under another name, without its queue, and with the credential.
func givenSample(ctx context.Context, file string) *v1alpha1.TenantJobTemplate {
	GinkgoHelper()
	content, err := os.ReadFile(file)
	Expect(err).NotTo(HaveOccurred())
	var sample v1alpha1.TenantJobTemplate
	Expect(yaml.UnmarshalStrict(content, &sample)).To(Succeed(), file)
	return givenTemplate(ctx, "sample", func(spec *v1alpha1.TenantJobTemplateSpec) {
		*spec = sample.Spec
		spec.QueueRef, spec.MaxConcurrentPerTenant = nil, nil
		needsDatabase(spec)
	})
}

// answer is one of those of the subcommand sql.
type answer struct{ Statement, Value, Code, Error string }

// answers returns what the statements of a run came to, which has ended.
func answers(ctx context.Context, tj *v1alpha1.TenantJob) []answer {
	GinkgoHelper()
	pod := podOf(ctx, tj)
	return decodeAnswers(logOf(ctx, &pod))
}

func decodeAnswers(log string) []answer {
	GinkgoHelper()
	var all []answer
	for line := range strings.Lines(log) {
		var a answer
		Expect(json.Unmarshal([]byte(line), &a)).To(Succeed(), line)
		all = append(all, a)
	}
	Expect(all).NotTo(BeEmpty())
	return all
}

// secretOf returns the Secret that was made for a run, which is running.
func secretOf(ctx context.Context, tj *v1alpha1.TenantJob) corev1.Secret {
	GinkgoHelper()
	var secrets corev1.SecretList
	Expect(kube.List(ctx, &secrets, client.InNamespace(tj.Namespace))).To(Succeed())
	for _, secret := range secrets.Items {
		if metav1.IsControlledBy(&secret, tj) || len(secret.OwnerReferences) > 0 && secret.OwnerReferences[0].UID == tj.UID {
			return secret
		}
	}
	Fail(fmt.Sprintf("TenantJob %s/%s has no Secret", tj.Namespace, tj.Name))
	return corev1.Secret{}
}

// expectRevoked waits until the credentials of a TenantJob are revoked, which it says.
func expectRevoked(ctx context.Context, tj *v1alpha1.TenantJob) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(tj), tj)).To(Succeed())
		g.Expect(tj.Status.Credentials).To(HaveEach(HaveField("RevocationTime", Not(BeNil()))))
		g.Expect(tj.Status.Credentials).NotTo(BeEmpty())
		g.Expect(tj.Finalizers).NotTo(ContainElement(v1alpha1.FinalizerCredentials))
	}).Should(Succeed())
}

// sql executes statements in the billing database as a superuser, and returns the last value.
func sql(ctx context.Context, statements string) string {
	GinkgoHelper()
	lines := strings.Split(strings.TrimSpace(query(ctx, statements)), "\n")
	if len(lines) < 2 { // the heading is the first
		return ""
	}
	return lines[len(lines)-1]
}

func query(ctx context.Context, statements string) string {
	GinkgoHelper()
	command := exec.CommandContext(ctx, "../../hack/database.sh", "query", statements)
	var printed, complained bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complained
	Expect(command.Run()).To(Succeed(), "%s: %s", statements, &complained)
	return printed.String()
}

// digests returns a digest of each table's rows of a tenant.
func digests(ctx context.Context, tenant *v1alpha1.Tenant) map[string]string {
	GinkgoHelper()
	found := map[string]string{}
	for _, line := range table(query(ctx, fmt.Sprintf("SELECT name, digest FROM operations.tables('%s')", tenant.Spec.ExternalID)))[1:] {
		found[line[0]] = strings.Join(line[1:], " ")
	}
	Expect(len(found)).To(BeNumerically(">", 10))
	return found
}

// operatorLog returns what the operator's pods have written.
func operatorLog(ctx context.Context) string {
	GinkgoHelper()
	return kubectl(ctx, "logs", "--namespace", operatorNamespace, "--selector", "control-plane=controller-manager", "--tail", "-1")
}

// clusterLogs returns the logs of the local cluster's components, of its database and of its pods, and its audit log. On another cluster
// there are none of them to be had.
func clusterLogs() map[string]string {
	GinkgoHelper()
	logs := map[string]string{}
	dir := filepath.Dir(os.Getenv("KUBECONFIG"))
	for _, part := range []string{"logs", "varlog"} {
		_ = filepath.WalkDir(filepath.Join(dir, part), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return nil // of a pod that is gone by now
				}
				logs[path] = string(content)
			}
			return nil
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "logs", "audit.log")); err == nil {
		Expect(logs).To(HaveKey(HaveSuffix("billing-db.log")))
	}
	return logs
}
