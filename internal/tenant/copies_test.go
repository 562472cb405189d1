package tenant

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func copied(name, credential, provider, secret string) v1alpha1.CopiedSecret {
	return v1alpha1.CopiedSecret{
		Name: name, Credential: credential, ProviderRef: v1alpha1.LocalReference{Name: provider}, SecretRef: v1alpha1.LocalReference{Name: secret},
	}
}

func namesOf(all []v1alpha1.CopiedSecret) []string {
	names := []string{}
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// stripe has Tenants name a Secret as their credential stripe.
func stripe(secret string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) {
		t.Spec.Credentials = []v1alpha1.TenantCredential{{
			Name: "stripe", ProviderRef: v1alpha1.LocalReference{Name: "secrets"}, SecretRef: &v1alpha1.LocalReference{Name: secret},
		}}
	}
}

// copies has the Tenants' status say that there are copies of the Secret `a` with these names, oldest first.
func copies(names ...string) func(*v1alpha1.Tenant) {
	return func(t *v1alpha1.Tenant) {
		for _, name := range names {
			t.Status.CopiedSecrets = append(t.Status.CopiedSecrets, copied(name, "stripe", "secrets", "a"))
		}
	}
}

func TestOldCopies(t *testing.T) {
	for name, tc := range map[string]struct {
		tenant *v1alpha1.Tenant
		want   []string
	}{
		"none":                            {acme(stripe("a")), []string{}},
		"one":                             {acme(stripe("a"), copies("1")), []string{}},
		"replaced twice":                  {acme(stripe("a"), copies("1", "2", "3")), []string{"1", "2"}},
		"the credential is gone":          {acme(copies("1")), []string{"1"}},
		"the credential names another":    {acme(stripe("b"), copies("1")), []string{"1"}},
		"the credential names none":       {acme(stripe("a"), func(t *v1alpha1.Tenant) { t.Spec.Credentials[0].SecretRef = nil }, copies("1")), []string{"1"}},
		"the credential is of another":    {acme(stripe("a"), func(t *v1alpha1.Tenant) { t.Spec.Credentials[0].ProviderRef.Name = "vault" }, copies("1")), []string{"1"}},
		"the credential has another name": {acme(stripe("a"), func(t *v1alpha1.Tenant) { t.Spec.Credentials[0].Name = "payments" }, copies("1")), []string{"1"}},
		"another one, and back again": {acme(stripe("a"), copies("1"), func(t *v1alpha1.Tenant) {
			t.Status.CopiedSecrets = append(t.Status.CopiedSecrets, copied("2", "stripe", "secrets", "b"))
		}), []string{"2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, namesOf(OldCopies(tc.tenant))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecideCopies(t *testing.T) {
	two := acme(stripe("a"), copies("1", "2"))
	for name, tc := range map[string]decideCase{
		"one is current": {
			tenant: acme(stripe("a"), copies("1")), kept: true, want: []Action{unlock},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"one is old": {
			tenant: two, kept: true, change: func(w *world) { w.deleted = []string{"1"} }, want: []Action{unlock, ActionDeleteCopies},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"one is old, a Job mounts it": {
			tenant: two, kept: true, change: func(w *world) { w.mounted = map[string]bool{"1": true} }, want: []Action{unlock},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"one is old, a run has it of which the cache knows nothing": {
			tenant: two, kept: true, want: []Action{unlock, ActionDeleteCopies},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready", after: PollInterval,
		},
		"one is old, its deletion fails": {
			tenant: two, kept: true, change: func(w *world) { w.copiesErr = errOops }, want: []Action{unlock, ActionDeleteCopies},
			ready: "True Ready", suspended: "False Active", progress: "Reconciling Progressing", err: true,
		},
		"one is old, its deletion fails, suspended": {
			tenant: acme(suspended, stripe("a"), copies("1", "2")), kept: true, change: func(w *world) { w.copiesErr = errOops },
			want:  []Action{apply, lock, listJobs, listPods, revoke, ActionDeleteCopies},
			ready: "True Ready", suspended: "True Suspended", progress: "Reconciling Progressing", err: true,
		},
		"verified": {
			tenant: acme(stripe("a"), copies("1")), kept: true, change: func(w *world) { w.verify = true }, want: []Action{write, unlock, ActionCheckCopies, ActionListWorkloads},
			ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"verified, the original has changed": {
			tenant: acme(stripe("a"), copies("1")), kept: true, change: func(w *world) { w.verify, w.replaced, w.deleted = true, []string{"1"}, []string{"1"} },
			want: []Action{write, unlock, ActionCheckCopies, ActionDeleteCopies, ActionListWorkloads}, ready: "True Ready", suspended: "False Active", progress: "Current Ready",
		},
		"verified, the original can't be read": {
			tenant: acme(stripe("a"), copies("1")), kept: true, change: func(w *world) { w.verify, w.copiesErr = true, errOops },
			want: []Action{write, unlock, ActionCheckCopies, ActionListWorkloads}, ready: "True Ready", suspended: "False Active", progress: "Reconciling Progressing", err: true,
		},
	} {
		t.Run(name, tc.test)
	}
}
