package cel_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// rule is shown by a value that it refuses and by a neighbour that it lets pass.
type rule struct {
	// at is the field that gets the values.
	at string
	// refused and accepted are YAML.
	refused, accepted string
	// want is part of what the refusal says.
	want string
}

type rules map[string]rule

// rulesOf are the rules of all kinds, by what they show.
var rulesOf = map[string]rules{
	"Tenant":             tenantRules,
	"TenantJobTemplate":  tenantJobTemplateRules,
	"TenantJob":          tenantJobRules,
	"TenantFanOut":       tenantFanOutRules,
	"TenantSchedule":     tenantScheduleRules,
	"TenantQueue":        tenantQueueRules,
	"CredentialProvider": credentialProviderRules,
}

func TestRules(t *testing.T) {
	for kind, rules := range rulesOf {
		for name, r := range rules {
			t.Run(kind+"/"+name, func(t *testing.T) {
				_, refusal := create(t.Context(), kind, r.at, r.refused)
				if !apierrors.IsInvalid(refusal) || !strings.Contains(refusal.Error(), r.want) {
					t.Errorf("%s: %.200s was not refused with %q: %.500v", r.at, r.refused, r.want, refusal)
				}
				accepted, err := create(t.Context(), kind, r.at, r.accepted)
				if err != nil {
					t.Fatalf("%s: %.200s was refused: %.500v", r.at, r.accepted, err)
				}
				if err := readable(accepted); err != nil {
					t.Errorf("%s: %.200s was accepted and can't be read: %v", r.at, r.accepted, err)
				}
			})
		}
	}
}

// create tries to make an object of a kind with one field set.
func create(ctx context.Context, kind, at, value string) (*unstructured.Unstructured, error) {
	obj := newObject(kind, "cel-test")
	put(obj, at, value)
	return obj, kube.Create(ctx, obj, client.DryRunAll)
}

// join makes one table of many.
func join(tables ...rules) rules {
	all := rules{}
	for _, table := range tables {
		for name, r := range table {
			if _, twice := all[name]; twice {
				panic("two rules are named " + name)
			}
			all[name] = r
		}
	}
	return all
}

// under returns the rules for the fields under another.
func (r rules) under(prefix string) rules {
	moved := maps.Clone(r)
	for name, one := range moved {
		one.at = prefix + one.at
		moved[name] = one
	}
	return moved
}

const (
	label     = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
	subdomain = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
)

// textRules are those of a field for a short text that matches a pattern. The field's value is what stands for %s in the
// value of the field at.
func textRules(field, at, value, pattern, good string, bad []string, limit int) rules {
	quoted := func(text string) string { return fill(value, strconv.Quote(text)) }
	pad := func(length int) string { return strings.Repeat("a", length) }
	table := rules{
		field + " is empty": {at, quoted(""), quoted("a"), "should be at least 1 chars long"},
		field + " is too long": {
			at, quoted(pad(limit + 1)), quoted(pad(limit)),
			fmt.Sprintf("may not be more than %d", limit),
		},
	}
	for _, text := range bad {
		table[fmt.Sprintf("%s is %q", field, text)] = rule{at, quoted(text), quoted(good), "should match '" + pattern + "'"}
	}
	return table
}

// labelRules are those of a field that holds a DNS-1123 label.
func labelRules(field, at, value string, limit int) rules {
	return textRules(field, at, value, label, "a-1", []string{"Acme", "a.b", "-a", "a_b"}, limit)
}

// subdomainRules are those of a field that holds a DNS-1123 subdomain.
func subdomainRules(field, at, value string) rules {
	return textRules(field, at, value, subdomain, "a.b-1", []string{"Acme", ".a", "a_b"}, 253)
}

// objectNameRules are those of metadata.name.
func objectNameRules(limit int) rules {
	want := fmt.Sprintf("`metadata.name` must be a DNS-1123 label of at most %d characters", limit)
	return rules{
		"the object's name is too long":   {"metadata.name", strings.Repeat("a", limit+1), strings.Repeat("a", limit), want},
		"the object's name has dots":      {"metadata.name", "a.b", "a-b", want},
		"the object's name is upper case": {"metadata.name", "Acme", "acme", "a lowercase RFC 1123 subdomain"},
	}
}

// numberRules are those of a field that holds a number. A limit of math.MaxInt32 is the type's own.
func numberRules(at string, least, most int) rules {
	number := strconv.Itoa
	table := rules{
		at + " is too low":    {at, number(least - 1), number(least), "should be greater than or equal to " + number(least)},
		at + " is no integer": {at, number(least+1) + ".5", number(least + 1), "must be of type int"},
		at + " is text":       {at, "several", number(least), "must be of type integer"},
	}
	if most == math.MaxInt32 {
		table[at+" is too high"] = rule{at, number(most + 1), number(most), "must be of type integer with format int32"}
	} else {
		table[at+" is too high"] = rule{at, number(most + 1), number(most), "should be less than or equal to " + number(most)}
	}
	return table
}

// fill puts text where %s stands in a value.
func fill(value, text string) string { return strings.ReplaceAll(value, "%s", text) }

// list is a YAML list of items in which %d is the place.
func list(length int, item string) string {
	items := make([]string, length)
	for i := range items {
		items[i] = strings.ReplaceAll(item, "%d", strconv.Itoa(i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// mapping is a YAML mapping of so many keys.
func mapping(length int, value string) string {
	entries := make([]string, length)
	for i := range entries {
		entries[i] = fmt.Sprintf("k%d: %s", i, value)
	}
	return "{" + strings.Join(entries, ", ") + "}"
}
