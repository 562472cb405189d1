package tenant

import (
	"fmt"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// SameExternalID returns the name of the Tenant that has the external id of t and is the oldest of those that have it, of two as
// old the one whose name comes first. It is empty when that is t itself: the others are not ready.
func SameExternalID(t *v1alpha1.Tenant, all []*v1alpha1.Tenant) string {
	oldest := t
	id := CanonicalExternalID(t.ExternalID())
	for _, other := range all {
		if CanonicalExternalID(other.ExternalID()) == id && precedes(other, oldest) {
			oldest = other
		}
	}
	if oldest.Name == t.Name {
		return ""
	}
	return oldest.Name
}

// uuidText is a UUID as PostgreSQL reads it: a hyphen may follow each group of four digits.
var uuidText = regexp.MustCompile(`^([0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}$`)

// CanonicalExternalID returns the same text for all external ids that an application's column of type uuid or integer can't tell apart:
// it ignores the case and the hyphens of a UUID, and the leading zeros, underscores and base of an integer.
func CanonicalExternalID(id string) string {
	if uuidText.MatchString(id) {
		return strings.ToLower(strings.ReplaceAll(id, "-", ""))
	}
	digits, base := id, 10
	for prefix, of := range map[string]int{"0x": 16, "0o": 8, "0b": 2} {
		if len(id) > len(prefix) && strings.EqualFold(id[:len(prefix)], prefix) {
			digits, base = id[len(prefix):], of
		}
	}
	if n, ok := new(big.Int).SetString(strings.ReplaceAll(digits, "_", ""), base); ok {
		return n.String()
	}
	return id
}

// Databases returns the databases and schemas of its own that a Tenant has. When it names one that another Tenant has, that is left out,
// and the message says what a person can do. Whoever has a database has all of its schemas. A Tenant that has one keeps it, whatever
// others name later; of two that have it not yet, the older one gets it. The settings of a provider are nil when it does not exist, or is
// of another kind: then nobody has anything there.
func Databases(t *v1alpha1.Tenant, all []*v1alpha1.Tenant, settings func(provider string) *v1alpha1.PostgresProvider) (own []v1alpha1.TenantDatabase, conflict string) {
	for i := range t.Spec.Credentials {
		mine, known := databaseOf(&t.Spec.Credentials[i], settings)
		if !known {
			continue
		}
		if other := hasBefore(t, mine, all, settings); other != "" {
			conflict = fmt.Sprintf("`spec.credentials[%s].postgres` must be the tenant's own, and Tenant %s names it already: name another database or schema",
				t.Spec.Credentials[i].Name, other)
		} else if !slices.Contains(own, mine) {
			own = append(own, mine)
		}
	}
	return own, conflict
}

// hasBefore returns which other Tenant has what a Tenant names. It is empty when none has.
func hasBefore(t *v1alpha1.Tenant, mine v1alpha1.TenantDatabase, all []*v1alpha1.Tenant, settings func(string) *v1alpha1.PostgresProvider) string {
	has := slices.Contains(t.Status.Databases, mine)
	for _, other := range all {
		if other.Name == t.Name {
			continue
		}
		for i := range other.Spec.Credentials {
			theirs, known := databaseOf(&other.Spec.Credentials[i], settings)
			if !known || !overlap(mine, theirs) {
				continue
			}
			if otherHas := slices.Contains(other.Status.Databases, theirs); otherHas && !has || otherHas == has && precedes(other, t) {
				return other.Name
			}
		}
	}
	return ""
}

// databaseOf returns where a credential of a tenant leads that has something of its own.
func databaseOf(c *v1alpha1.TenantCredential, settings func(provider string) *v1alpha1.PostgresProvider) (v1alpha1.TenantDatabase, bool) {
	if c.Postgres == nil {
		return v1alpha1.TenantDatabase{}, false
	}
	p := settings(c.ProviderRef.Name)
	if p == nil {
		return v1alpha1.TenantDatabase{}, false
	}
	d := v1alpha1.TenantDatabase{Server: serverOf(p), Database: c.Postgres.Database, Schema: c.Postgres.Schema}
	if d.Database == "" {
		d.Database = p.Database
	}
	return d, true
}

func serverOf(p *v1alpha1.PostgresProvider) string {
	return net.JoinHostPort(strings.ToLower(p.Host), strconv.Itoa(int(ptr.Deref(p.Port, 5432))))
}

func overlap(a, b v1alpha1.TenantDatabase) bool {
	return a.Server == b.Server && a.Database == b.Database && (a.Schema == "" || b.Schema == "" || a.Schema == b.Schema)
}

// DatabaseKeys are the keys of an index that finds a Tenant by the databases and schemas that it names as its own.
func DatabaseKeys(t *v1alpha1.Tenant) []string {
	var keys []string
	for _, c := range t.Spec.Credentials {
		if c.Postgres != nil {
			in := databaseKey(c.ProviderRef.Name, c.Postgres.Database)
			keys = append(keys, in, schemaKey(in, c.Postgres.Schema))
		}
	}
	return keys
}

// OverlappingKeys are those DatabaseKeys that all Tenants have which name what this one names. Others may have them, too.
func OverlappingKeys(t *v1alpha1.Tenant, providers map[string]*v1alpha1.PostgresProvider) []string {
	settings := func(name string) *v1alpha1.PostgresProvider { return providers[name] }
	var keys []string
	for i := range t.Spec.Credentials {
		mine, known := databaseOf(&t.Spec.Credentials[i], settings)
		if !known {
			continue
		}
		in := []string{databaseKey("", mine.Database)}
		for name, p := range providers {
			if p != nil && p.Database == mine.Database && serverOf(p) == mine.Server {
				in = append(in, databaseKey(name, ""))
			}
		}
		for _, key := range in {
			if mine.Schema == "" {
				keys = append(keys, key)
			} else {
				keys = append(keys, schemaKey(key, ""), schemaKey(key, mine.Schema))
			}
		}
	}
	return keys
}

func databaseKey(provider, database string) string {
	if database != "" {
		return "database " + database
	}
	return "database of " + provider
}

func schemaKey(database, schema string) string { return database + "/" + schema }

// precedes says whether a Tenant is older than another one, of two as old whether its name comes first.
func precedes(a, b *v1alpha1.Tenant) bool {
	age := a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	return age < 0 || age == 0 && a.Name < b.Name
}
