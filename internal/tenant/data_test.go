package tenant

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestSameExternalID(t *testing.T) {
	tenant := func(name, externalID string, age int64) *v1alpha1.Tenant {
		return &v1alpha1.Tenant{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000-age, 0))},
			Spec:       v1alpha1.TenantSpec{ExternalID: externalID},
		}
	}
	this := tenant("acme", "42", 5)
	cases := map[string]struct {
		others []*v1alpha1.Tenant
		want   string
	}{
		"alone":                                {nil, ""},
		"an older one":                         {[]*v1alpha1.Tenant{tenant("zeta", "42", 6)}, "zeta"},
		"the oldest of several":                {[]*v1alpha1.Tenant{tenant("b", "42", 6), tenant("c", "42", 8), tenant("d", "42", 7)}, "c"},
		"a younger one":                        {[]*v1alpha1.Tenant{tenant("abc", "42", 4)}, ""},
		"as old, and its name comes first":     {[]*v1alpha1.Tenant{tenant("abc", "42", 5)}, "abc"},
		"as old, and its name comes later":     {[]*v1alpha1.Tenant{tenant("zeta", "42", 5)}, ""},
		"another id":                           {[]*v1alpha1.Tenant{tenant("zeta", "43", 6)}, ""},
		"one whose name is the id, by default": {[]*v1alpha1.Tenant{tenant("42", "", 6)}, "42"},
		"the same number":                      {[]*v1alpha1.Tenant{tenant("zeta", "0042", 6)}, "zeta"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := SameExternalID(this, append(tc.others, this)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// What PostgreSQL's types read as the same value is the same id, see the input functions uuid_in and int8in.
func TestCanonicalExternalID(t *testing.T) {
	for _, same := range [][]string{
		{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"},
		{"42", "042", "0_042", "4_2", "0x2A", "0X2a", "0o52", "0b101010"},
		{"0", "00", "0x0"},
		{"acme"}, {"Acme"}, {"42a"}, {"4-2"}, {"4.2"}, {"0x"}, {"0xyz"}, {"a0eebc99"}, {"123456789012345678901234567890"},
	} {
		for _, id := range same {
			if got, want := CanonicalExternalID(id), CanonicalExternalID(same[0]); got != want {
				t.Errorf("%s: got %s, want %s", id, got, want)
			}
		}
		if n := len(same); n == 1 && CanonicalExternalID(same[0]) != same[0] {
			t.Errorf("%s: got %s", same[0], CanonicalExternalID(same[0]))
		}
	}
	if CanonicalExternalID("42") == CanonicalExternalID("52") {
		t.Error("two numbers are one")
	}
}

// No two tenants have a database, or a schema, in common that is to be the tenant's own.
func TestDatabases(t *testing.T) {
	providers := map[string]*v1alpha1.PostgresProvider{
		"billing": {Host: "db.example.com", Port: new(int32(5432)), Database: "billing"},
		"same":    {Host: "DB.example.com", Database: "billing"},
		"sibling": {Host: "db.example.com", Database: "other"},
		"crm":     {Host: "db.example.com", Port: new(int32(5433)), Database: "billing"},
	}
	settings := func(name string) *v1alpha1.PostgresProvider { return providers[name] }
	at := func(name string, minutes int, credentials ...v1alpha1.TenantCredential) *v1alpha1.Tenant {
		return &v1alpha1.Tenant{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(int64(60*minutes), 0)}, Spec: v1alpha1.TenantSpec{Credentials: credentials},
		}
	}
	own := func(provider, database, schema string) v1alpha1.TenantCredential {
		return v1alpha1.TenantCredential{
			Name: "database", ProviderRef: v1alpha1.LocalReference{Name: provider}, Postgres: &v1alpha1.TenantPostgres{Database: database, Schema: schema},
		}
	}
	shared := v1alpha1.TenantCredential{Name: "database", ProviderRef: v1alpha1.LocalReference{Name: "billing"}}
	for name, tc := range map[string]struct {
		older, younger v1alpha1.TenantCredential
		conflict       bool
	}{
		"the same database":                   {own("billing", "acme", ""), own("billing", "acme", ""), true},
		"another database":                    {own("billing", "acme", ""), own("billing", "globex", ""), false},
		"another server":                      {own("billing", "acme", ""), own("crm", "acme", ""), false},
		"another provider of the server":      {own("billing", "acme", ""), own("same", "acme", ""), true},
		"another database's provider":         {own("billing", "acme", ""), own("sibling", "acme", ""), true},
		"the provider's database by its name": {own("billing", "", "acme"), own("billing", "billing", "acme"), true},
		"the database of another provider's":  {own("billing", "", "acme"), own("sibling", "billing", ""), true},
		"another schema of that":              {own("billing", "", "acme"), own("sibling", "billing", "globex"), false},
		"the same schema":                     {own("billing", "", "acme"), own("billing", "", "acme"), true},
		"another schema":                      {own("billing", "", "acme"), own("billing", "", "globex"), false},
		"the same schema of another database": {own("billing", "", "acme"), own("sibling", "", "acme"), false},
		"a schema in the other's database":    {own("billing", "acme", ""), own("billing", "acme", "s"), true},
		"a database with the other's schema":  {own("billing", "acme", "s"), own("billing", "acme", ""), true},
		"both share the tables":               {shared, shared, false},
		"one shares the tables":               {shared, own("billing", "", "b"), false},
		"a provider that does not exist":      {own("none", "acme", ""), own("none", "acme", ""), false},
		"a name that differs in case":         {own("billing", "acme", ""), own("billing", "Acme", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, minutes := range []int{0, 1} { // Of two as old the name decides.
				older, younger := at("a", 0, tc.older), at("b", minutes, tc.younger)
				all := []*v1alpha1.Tenant{younger, older}
				names := func(of *v1alpha1.Tenant) int {
					if _, known := databaseOf(&of.Spec.Credentials[0], settings); known {
						return 1
					}
					return 0
				}
				for range 2 { // Before and after it was written down who has what.
					has, conflict := Databases(older, all, settings)
					if len(has) != names(older) || conflict != "" {
						t.Errorf("the older one has %v: %q", has, conflict)
					}
					has2, conflict := Databases(younger, all, settings)
					if (conflict != "") != tc.conflict || (len(has2) < names(younger)) != tc.conflict {
						t.Errorf("the younger one has %v: %q", has2, conflict)
					}
					older.Status.Databases, younger.Status.Databases = has, has2
				}
				if tc.conflict {
					// Now the younger one was there first.
					older.Status.Databases = nil
					younger.Status.Databases, _ = Databases(younger, []*v1alpha1.Tenant{younger}, settings)
					if _, conflict := Databases(younger, all, settings); conflict != "" {
						t.Errorf("the younger one has lost what it had: %q", conflict)
					}
					if _, conflict := Databases(older, all, settings); conflict == "" {
						t.Error("the older one takes what the younger one has")
					}
				}
				if !tc.conflict {
					continue
				}
				for _, pair := range [][2]*v1alpha1.Tenant{{older, younger}, {younger, older}} {
					found := map[string]bool{}
					for _, key := range DatabaseKeys(pair[1]) {
						found[key] = true
					}
					if keys := OverlappingKeys(pair[0], providers); !containsAny(found, keys) {
						t.Errorf("%s is found by %v, and %s looks for %v", pair[1].Name, found, pair[0].Name, keys)
					}
				}
			}
		})
	}
}

func containsAny(set map[string]bool, keys []string) bool {
	for _, key := range keys {
		if set[key] {
			return true
		}
	}
	return false
}

// A tenant keeps what it has beside what it can't have.
func TestDatabasesOfTenantInConflict(t *testing.T) {
	settings := func(string) *v1alpha1.PostgresProvider {
		return &v1alpha1.PostgresProvider{Host: "db.example.com", Database: "billing"}
	}
	own := func(schema string) v1alpha1.TenantCredential {
		return v1alpha1.TenantCredential{Name: schema, Postgres: &v1alpha1.TenantPostgres{Schema: schema}}
	}
	globex := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "globex"}, Spec: v1alpha1.TenantSpec{Credentials: []v1alpha1.TenantCredential{own("globex")}}}
	acme := &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: "acme"},
		Spec:       v1alpha1.TenantSpec{Credentials: []v1alpha1.TenantCredential{own("acme"), own("globex"), own("acme")}},
	}
	globex.Status.Databases, _ = Databases(globex, nil, settings)
	has, conflict := Databases(acme, []*v1alpha1.Tenant{acme, globex}, settings)
	if diff := cmp.Diff([]v1alpha1.TenantDatabase{{Server: "db.example.com:5432", Database: "billing", Schema: "acme"}}, has); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if want := "`spec.credentials[globex].postgres` must be the tenant's own, and Tenant globex names it already: name another database or schema"; conflict != want {
		t.Errorf("got %s", conflict)
	}
}
