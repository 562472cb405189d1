package issuer

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/kube"
)

// silent is a provider that nobody calls: no worker runs in these tests.
type silent struct{}

func (silent) Issue(context.Context, credential.Request) (credential.Credential, error) {
	return credential.Credential{}, nil
}
func (silent) Revoke(context.Context, credential.Handle) error   { return nil }
func (silent) List(context.Context) ([]credential.Issued, error) { return nil, nil }

// world is an Issuer without workers, of which a test does the work, and a TenantJob that needs a credential.
type world struct {
	*Issuer
	tj       *v1alpha1.TenantJob
	tenant   *v1alpha1.Tenant
	template *v1alpha1.TenantJobTemplate
}

func newWorld(sources ...string) world {
	w := world{
		Issuer: New(logr.Discard(), testingclock.NewFakeClock(time.Unix(0, 0)), kube.Client{}),
		tj:     &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "report", UID: "run"}},
		tenant: &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme", UID: "acme"}},
		template: &v1alpha1.TenantJobTemplate{Spec: v1alpha1.TenantJobTemplateSpec{
			Credentials: []v1alpha1.TemplateCredential{{Name: "database"}},
		}},
	}
	for _, name := range sources {
		w.SetSource(Source{Name: name, UID: types.UID(name), Provider: silent{}, Capabilities: credential.Capabilities{PerRun: true}})
	}
	w.hasFrom(sources[0])
	return w
}

// hasFrom has the tenant's credential come from a source.
func (w world) hasFrom(source string) {
	w.tenant.Spec.Credentials = []v1alpha1.TenantCredential{{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: source}}}
}

func (w world) issue() { w.Issue(w.tj, w.tenant, w.template) }

func (w world) isIssuing() bool { return w.Standing(w.tj).IssuingFor > 0 }

// handle is that of the run's credential of a source.
func (w world) handle(source string) credential.Handle {
	return credential.NewHandle("", types.UID(source), w.tenant.UID, w.tj.UID, "database")
}

func (w world) found(source string) credential.Issued {
	return credential.Issued{Handle: w.handle(source), Run: credential.Run{Namespace: w.tj.Namespace, Name: w.tj.Name, UID: w.tj.UID}}
}

// TestIssueAfterRestart: what an earlier process has issued is revoked before the same handle is issued again, or the revocation could
// come last.
func TestIssueAfterRestart(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	w.Revoke(w.tj) // It has the finalizer, and does not start yet.
	w.revokeFound(w.sources["billing"], w.found("billing"))
	w.identified([]credential.Run{{UID: w.tj.UID}}, nil)
	if w.issue(); w.isIssuing() {
		t.Fatal("it is issued while what was found is being revoked")
	}
	w.revoked(item{w.tj.UID, string(w.handle("billing"))}, nil)
	if !w.Standing(w.tj).Revoked {
		t.Error("it should be revoked")
	}
	if w.issue(); !w.isIssuing() {
		t.Error("it should be issued when nothing is left")
	}
	w.revokeFound(w.sources["billing"], w.found("billing"))
	if !w.isIssuing() || w.runs[w.tj.UID].hasFound() {
		t.Error("what this process issues is not to be revoked since a list shows it")
	}
}

// TestLiveRunIsNotKnown: the credentials of a run that goes on stay, and are looked for again when it is over.
func TestLiveRunIsNotKnown(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	w.Revoke(w.tj)
	w.identified([]credential.Run{{UID: w.tj.UID}}, map[types.UID]bool{w.tj.UID: true})
	if w.Standing(w.tj).Known {
		t.Error("a run of which a credential lives must not count as one without credentials")
	}
}

// TestSourceOfTenantChanges: what is from the source that the Tenant has named before is revoked before anything else is issued.
func TestSourceOfTenantChanges(t *testing.T) {
	t.Parallel()
	w := newWorld("billing", "reports")
	w.issue()
	w.issued(w.sources["billing"], item{w.tj.UID, "database"}, delivered{secret: "s"}, nil)
	if !w.Standing(w.tj).Issued {
		t.Fatal("it should be issued")
	}
	w.hasFrom("reports")
	if w.issue(); w.isIssuing() || w.Standing(w.tj).Issued {
		t.Fatal("it should be revoked first")
	}
	w.revoked(item{w.tj.UID, "database"}, nil)
	w.issue()
	if got := w.runs[w.tj.UID].credentials["database"].source; got != "reports" || !w.isIssuing() {
		t.Errorf("it is issued by %s", got)
	}
}

// TestTemplateNamesFewer: what the template does not name any more is revoked, and until then nothing counts as revoked.
func TestTemplateNamesFewer(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	w.tenant.Spec.Credentials = append(w.tenant.Spec.Credentials,
		v1alpha1.TenantCredential{Name: "reports", ProviderRef: v1alpha1.LocalReference{Name: "billing"}})
	w.template.Spec.Credentials = append(w.template.Spec.Credentials, v1alpha1.TemplateCredential{Name: "reports"})
	w.issue()
	for _, name := range []string{"database", "reports"} {
		w.issued(w.sources["billing"], item{w.tj.UID, name}, delivered{secret: name}, nil)
	}
	w.template.Spec.Credentials = w.template.Spec.Credentials[:1]
	if w.issue(); w.Standing(w.tj).Issued {
		t.Fatal("it should be revoked first")
	}
	w.revoked(item{w.tj.UID, "database"}, nil)
	if w.Standing(w.tj).Revoked {
		t.Error("the one that the template named before still lives")
	}
	w.revoked(item{w.tj.UID, "reports"}, nil)
	if !w.Standing(w.tj).Revoked {
		t.Error("both are revoked")
	}
	w.issue()
	w.issued(w.sources["billing"], item{w.tj.UID, "database"}, delivered{secret: "database"}, nil)
	if s := w.Standing(w.tj); !s.Issued || len(s.Bindings) != 1 || len(s.Statuses) != 2 {
		t.Errorf("got %+v, want one binding, and the status of both", s)
	}
}

// TestProviderIsMadeLate: a provider of an operator that was restarted while its Secret was missing, and that is being deleted meanwhile,
// revokes what is left as soon as there is a Secret. It issues nothing.
func TestProviderIsMadeLate(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	per := credential.Capabilities{PerRun: true}
	s := w.sources["billing"]
	w.SetSource(Source{Name: "billing", UID: "billing", Blocked: "there is no Secret", Capabilities: per})
	w.Revoke(w.tj)
	w.revokeFound(s, w.found("billing"))
	it, _ := s.queue.Get()
	if done := w.process(t.Context(), s, it); !done || w.Standing(w.tj).Revoked {
		t.Fatal("nobody can revoke it, and nobody should try again before there is a Secret")
	}
	s.queue.Done(it)
	w.SetSource(Source{Name: "billing", UID: "billing", Provider: silent{}, Blocked: "it is being deleted", Capabilities: per})
	if got := s.queue.Len(); got != 1 {
		t.Errorf("%d are to be tried, want the one that is to be revoked", got)
	}
}

// TestCheckSaysWhatAPersonHasToChange: a source that is not ready yet does not hide a credential that the tenant lacks.
func TestCheckSaysWhatAPersonHasToChange(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	w.SetSource(Source{Name: "billing", UID: "billing", Blocked: "there is no Secret"})
	if c := w.Check(w.tenant, w.template); c == nil || c.Blocked == "" {
		t.Errorf("got %+v, want a source that is not ready", c)
	}
	w.template.Spec.Credentials = append(w.template.Spec.Credentials, v1alpha1.TemplateCredential{Name: "reports"})
	if c := w.Check(w.tenant, w.template); c == nil || c.Missing == "" {
		t.Errorf("got %+v, want the credential that is missing", c)
	}
}

// listing is a provider that lists.
type listing struct {
	silent
	found []credential.Issued
	err   error
}

func (l listing) List(context.Context) ([]credential.Issued, error) { return l.found, l.err }

// TestRevokeTenantAsksAllSources: what was issued by a provider that the Tenant named before is revoked, too, and a provider that it never
// named can't hold it up.
func TestRevokeTenantAsksAllSources(t *testing.T) {
	t.Parallel()
	w := newWorld("billing", "before", "others")
	per := credential.Capabilities{PerRun: true}
	set := func(name string, p credential.Provider) {
		w.SetSource(Source{Name: name, UID: types.UID(name), Provider: p, Capabilities: per})
	}
	set("before", listing{found: []credential.Issued{{Handle: w.handle("before"), Run: credential.Run{Namespace: w.tenant.NamespaceName(), Name: "report", UID: "run"}}}})
	set("others", listing{err: errors.New("down")})
	left, err := w.RevokeTenant(t.Context(), w.tenant)
	if err != nil || len(left) != 1 {
		t.Errorf("got %v and %v, want one run", left, err)
	}
	set("billing", listing{err: errors.New("down")})
	w.clock.(*testingclock.FakeClock).Step(listingLasts)
	if _, err := w.RevokeTenant(t.Context(), w.tenant); err == nil {
		t.Error("nobody knows what the tenant's own source has")
	}
}

// TestRevokedIsFoundAgain: an operator that has lost its lease may issue what was just revoked. It is revoked once more.
func TestRevokedIsFoundAgain(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	w.issue()
	w.issued(w.sources["billing"], item{w.tj.UID, "database"}, delivered{}, nil)
	w.Revoke(w.tj)
	w.revoked(item{w.tj.UID, "database"}, nil)
	if !w.Standing(w.tj).Revoked {
		t.Fatal("it should be revoked")
	}
	w.revokeFound(w.sources["billing"], w.found("billing"))
	if w.Standing(w.tj).Revoked {
		t.Error("it lives")
	}
}

// TestHolds: failures of a tenant hold back that tenant, and failures of a source everybody, for longer and longer until something is
// issued.
func TestHolds(t *testing.T) {
	t.Parallel()
	w := newWorld("billing")
	other := w.tenant.DeepCopy()
	other.UID = "globex"
	s := w.sources["billing"]
	retryOf := func(tenant *v1alpha1.Tenant) time.Duration {
		if c := w.Check(tenant, w.template); c != nil {
			return c.RetryAfter
		}
		return 0
	}
	w.failed(s, w.tenant.UID, credential.Errorf(v1alpha1.ReasonDatabaseNotFound, "no such database"))
	if a, b := retryOf(w.tenant), retryOf(other); a != time.Second || b != 0 {
		t.Errorf("held for %s and %s, want the first tenant alone for 1s", a, b)
	}
	w.failed(s, w.tenant.UID, credential.Errorf(v1alpha1.ReasonDatabaseNotFound, "no such database"))
	if a := retryOf(w.tenant); a != 2*time.Second {
		t.Errorf("held for %s, want twice as long", a)
	}
	w.failed(s, w.tenant.UID, credential.Transientf(v1alpha1.ReasonUnreachable, "nobody answers"))
	if b := retryOf(other); b != time.Second {
		t.Errorf("the other tenant is held for %s, want 1s", b)
	}
	s.succeeded(other.UID)
	if a, b := retryOf(w.tenant), retryOf(other); a != 2*time.Second || b != 0 {
		t.Errorf("held for %s and %s after the source has issued for the other tenant", a, b)
	}
}
