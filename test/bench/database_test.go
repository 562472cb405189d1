package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/postgres"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

const (
	// databaseName is the name of the database and of its CredentialProvider.
	databaseName = "bench"
	// operatorRole is whom the operator logs in as, and sourceRole whom the benchmark does when it issues credentials itself.
	operatorRole, sourceRole = "operator", "source"
	// sourceWorkers is how many credentials of a provider the operator issues or revokes at once, and how many connections of a
	// provider are open at most.
	sourceWorkers = 4
)

// database is a PostgreSQL server with the schema tenantry in one database.
type database struct {
	*postgrestest.Server
	password string

	// mu guards conn, which is a session of the superuser.
	mu   sync.Mutex
	conn *pgx.Conn
}

// startDatabase starts a server that writes to the disk as one that is in use does.
func startDatabase(b *testing.B) *database {
	b.Helper()
	server, err := postgrestest.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(server.Remove)
	d := &database{Server: server, password: rand.Text(), conn: server.Admin(b, "postgres")}
	// ALTER SYSTEM and CREATE DATABASE must be alone in a transaction.
	for _, statement := range []string{
		"ALTER SYSTEM SET fsync = on", "ALTER SYSTEM SET log_statement = none", "SELECT pg_reload_conf()", "CREATE DATABASE " + databaseName,
		"REVOKE CONNECT, TEMPORARY ON DATABASE postgres, template1, " + databaseName + " FROM PUBLIC",
	} {
		server.Exec(b, "postgres", statement)
	}
	server.Exec(b, databaseName, postgres.Migration)
	server.Exec(b, databaseName, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'; CREATE ROLE %s LOGIN PASSWORD '%s'; GRANT tenantry_operator TO %[1]s, %[3]s",
		operatorRole, d.password, sourceRole, d.password))
	return d
}

// makeProvider creates the CredentialProvider, waits until it is ready, and returns the credential of a tenant.
func (d *database) makeProvider(b *testing.B, c client.Client) v1alpha1.TenantCredential {
	b.Helper()
	create := func(obj client.Object) {
		if err := c.Create(b.Context(), obj); err != nil {
			b.Fatal(err)
		}
	}
	admin := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenantry-system", Name: "admin"},
		StringData: map[string]string{"username": operatorRole, "password": d.password},
	}
	ca := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: admin.Namespace, Name: "ca"}, Data: map[string][]byte{"ca.crt": d.CA}}
	provider := &v1alpha1.CredentialProvider{
		ObjectMeta: metav1.ObjectMeta{Name: databaseName},
		Spec: v1alpha1.CredentialProviderSpec{Postgres: &v1alpha1.PostgresProvider{
			AdminSecretRef: v1alpha1.LocalReference{Name: admin.Name}, CASecretRef: &v1alpha1.LocalReference{Name: ca.Name},
			Host: postgrestest.Host, Port: new(int32(d.Port)), Database: databaseName,
		}},
	}
	create(admin)
	create(ca)
	create(provider)
	waitFor(b, "the provider to be ready", func() bool {
		if err := c.Get(b.Context(), client.ObjectKeyFromObject(provider), provider); err != nil {
			b.Fatal(err)
		}
		return meta.IsStatusConditionTrue(provider.Status.Conditions, v1alpha1.ConditionReady)
	})
	return v1alpha1.TenantCredential{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider.Name}}
}

// makeTenantRoles does for n tenants what a person does without the operator: it makes a role for each, and a Secret with the role's
// password in the tenant's namespace.
func (d *database) makeTenantRoles(b *testing.B, c client.Client, n int) {
	b.Helper()
	var statements strings.Builder
	statements.WriteString("CREATE ROLE application NOLOGIN;")
	passwords := make([]string, n)
	for i := range passwords {
		passwords[i] = rand.Text()
		fmt.Fprintf(&statements, "CREATE ROLE %s LOGIN PASSWORD '%s' IN ROLE application;", tenantName(i), passwords[i])
	}
	d.Exec(b, databaseName, statements.String())
	inParallel(b, 0, n, func(i int) error {
		return c.Create(b.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + tenantName(i), Name: handSecret},
			StringData: map[string]string{"username": tenantName(i), "password": passwords[i]},
		})
	})
}

// handSecret is the name of the Secrets that a person makes.
const handSecret = "database-login"

// mountHandSecret has the pods of a template mount it.
func mountHandSecret(template *v1alpha1.TenantJobTemplateSpec) {
	pod := &template.JobTemplate.Spec.Template.Spec
	pod.Volumes = []corev1.Volume{{Name: "login", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: handSecret}}}}
	pod.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "login", MountPath: "/login", ReadOnly: true}}
}

// serverState is what the server has.
type serverState struct {
	// roles are all but those of the checks of providers.
	roles int
	// connections are those of the operator.
	connections int
	// transactions is the number of the next transaction that writes.
	transactions int
}

func (d *database) state(ctx context.Context) (s serverState, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	query := `SELECT
		(SELECT count(*) FROM pg_roles WHERE coalesce(shobj_description(oid, 'pg_authid'), '') NOT LIKE '% run=check-%'),
		(SELECT count(*) FROM pg_stat_activity WHERE usename = $1),
		pg_snapshot_xmax(pg_current_snapshot())::text::bigint`
	err = d.conn.QueryRow(ctx, query, operatorRole).Scan(&s.roles, &s.connections, &s.transactions)
	return s, err
}

// follow looks at the server again and again. It returns what the server has now, and a function that ends that and returns the most
// that there was.
func (d *database) follow(b *testing.B) (before serverState, stop func() (most serverState)) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	before, err := d.state(ctx)
	if err != nil {
		b.Fatal(err)
	}
	most := before
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
			// A query that is cancelled would close the connection.
			now, err := d.state(context.WithoutCancel(ctx))
			if err != nil {
				b.Error(err)
				return
			}
			most = serverState{max(most.roles, now.roles), max(most.connections, now.connections), now.transactions}
		}
	}()
	stop = func() serverState {
		cancel()
		<-done
		return most
	}
	b.Cleanup(func() { stop() })
	return before, stop
}

// runRoles are the roles that were made for runs, by the UIDs of their TenantJobs.
type runRoles map[types.UID][]string

// add looks up the roles of the run that a Job belongs to.
func (r runRoles) add(b *testing.B, d *database, j *batchv1.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	run := metav1.GetControllerOf(j).UID
	var roles []string
	query := `SELECT coalesce(array_agg(r.rolname::text), '{}') FROM pg_shdescription d JOIN pg_roles r ON r.oid = d.objoid
		WHERE d.classoid = 'pg_authid'::regclass AND d.description LIKE '% run=' || $1`
	if err := d.conn.QueryRow(context.WithoutCancel(b.Context()), query, string(run)).Scan(&roles); err != nil {
		b.Error(err)
	}
	r[run] = append(r[run], roles...)
}

// verify checks that each of n runs has had so many roles, which no other has had.
func (r runRoles) verify(b *testing.B, n, each int) {
	b.Helper()
	of := map[string]types.UID{}
	for run, roles := range r {
		if len(roles) != each {
			b.Errorf("the run of TenantJob %s has had %d roles, not %d, when its Job was created", run, len(roles), each)
		}
		for _, role := range roles {
			if other, taken := of[role]; taken {
				b.Errorf("the runs of TenantJobs %s and %s have had the same role", run, other)
			}
			of[role] = run
		}
	}
	if len(r) != n {
		b.Errorf("%d of %d runs had a Job of their own", len(r), n)
	}
	if b.Failed() {
		b.FailNow()
	}
}

// latencies are sorted.
type latencies []time.Duration

// milliseconds returns a percentile.
func (l latencies) milliseconds(percentile int) float64 {
	return float64(l[(len(l)-1)*percentile/100].Microseconds()) / 1000
}

// benchSource measures how long the source takes to issue and to revoke the credentials of n runs, as many at once as the operator
// does, and beside as many as live in the other parts.
func (d *database) benchSource(b *testing.B, n int) (issue, revoke latencies) {
	b.Helper()
	provider, err := postgres.New(postgres.Settings{
		Cluster: "bench", Provider: "bench", Host: postgrestest.Host, Port: int32(d.Port), Database: databaseName,
		SSLMode: v1alpha1.SSLVerifyFull, CA: d.CA, Username: sourceRole, Password: d.password, ConnectionLimit: 5, MaxLifetime: time.Hour,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer provider.Close()
	issue, revoke = make(latencies, n), make(latencies, n)
	timed := func(into *time.Duration, do func() error) error {
		began := time.Now()
		err := do()
		*into = time.Since(began)
		return err
	}
	requestOf := func(i int) credential.Request {
		run, tenant := types.UID(fmt.Sprintf("run-%d", i)), tenantName(i%credentialTenants)
		return credential.Request{
			Handle: credential.NewHandle("bench", "bench", types.UID(tenant), run, "database"),
			Run:    credential.Run{Namespace: "tenant-" + tenant, Name: string(run), UID: run},
			Tenant: credential.Tenant{Name: tenant, UID: types.UID(tenant), ExternalID: tenant}, Lifetime: time.Hour,
		}
	}
	for from := 0; from < n; from += credentialSlots {
		to := min(from+credentialSlots, n)
		withWorkers(b, sourceWorkers, from, to, func(i int) error {
			return timed(&issue[i], func() error {
				_, err := provider.Issue(b.Context(), requestOf(i))
				return err
			})
		})
		withWorkers(b, sourceWorkers, from, to, func(i int) error {
			return timed(&revoke[i], func() error { return provider.Revoke(b.Context(), requestOf(i).Handle) })
		})
	}
	slices.Sort(issue)
	slices.Sort(revoke)
	return issue, revoke
}
