package fanout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// candidate is a selected tenant before the plan is sealed.
type candidate struct {
	// entry lacks its wave and its time.
	entry  Entry
	labels labels.Set
	// notBefore is when the tenant is due by its own clock, zero without such a time.
	notBefore time.Time
}

// selectTenants returns the tenants that spec.tenants selects, sorted by name. A selected tenant for which no TenantJob can
// be created is among them, with its outcome, so that the status shows it.
func selectTenants(r Request) ([]candidate, error) {
	s := r.FanOut.Spec.Tenants
	excluded := make(map[string]bool, len(s.Exclude))
	for _, name := range s.Exclude {
		excluded[string(name)] = true
	}
	var selected []candidate
	var err error
	switch {
	case ptr.Deref(s.All, false):
		selected = selectMatching(r.Tenants, labels.Everything())
	case s.Selector != nil:
		selected, err = selectByLabels(r.Tenants, s.Selector)
	case len(s.Names) > 0:
		selected = selectByName(r.Tenants, s.Names)
	case s.RetryOf != nil:
		selected, err = selectByOutcome(r, s.RetryOf)
	default:
		err = invalid("`spec.tenants` must have exactly one of all, selector, names, retryOf")
	}
	if err != nil {
		return nil, err
	}
	selected = slices.DeleteFunc(selected, func(c candidate) bool { return excluded[c.entry.Tenant] })
	slices.SortFunc(selected, func(a, b candidate) int { return strings.Compare(a.entry.Tenant, b.entry.Tenant) })
	return selected, nil
}

// selectByLabels refuses the empty selector. It would select every tenant because a field was left out.
func selectByLabels(tenants []Tenant, selector *metav1.LabelSelector) ([]candidate, error) {
	matches, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, invalid("`spec.tenants.selector` can't be read: " + err.Error())
	}
	if matches.Empty() {
		return nil, invalid("`spec.tenants.selector` is empty: write `all: true` to select every tenant")
	}
	return selectMatching(tenants, matches), nil
}

func selectMatching(tenants []Tenant, matches labels.Selector) []candidate {
	var selected []candidate
	for _, t := range tenants {
		if matches.Matches(labels.Set(t.Labels)) {
			selected = append(selected, candidateOf(t))
		}
	}
	return selected
}

// selectByName selects each name once. A name that no Tenant has is selected with its outcome.
func selectByName(tenants []Tenant, names []v1alpha1.TenantName) []candidate {
	byName := index(tenants)
	seen := make(map[string]bool, len(names))
	var selected []candidate
	for _, n := range names {
		name := string(n)
		if seen[name] {
			continue
		}
		seen[name] = true
		if t, exists := byName[name]; exists {
			selected = append(selected, candidateOf(t))
		} else {
			selected = append(selected, candidate{entry: Entry{Tenant: name, Outcome: unknownTenant(name)}})
		}
	}
	return selected
}

// selectByOutcome selects the tenants that have one of the outcomes in the source, once all have their outcome there.
func selectByOutcome(r Request, retry *v1alpha1.RetryOf) ([]candidate, error) {
	if err := sourceUsable(r, retry); err != nil {
		return nil, err
	}
	source := r.Source
	wanted := map[Counter]bool{}
	for _, outcome := range retry.Outcomes {
		wanted[Counter(outcome)] = true
	}
	if len(wanted) == 0 {
		wanted[Failed] = true
	}
	byName := index(r.Tenants)
	var selected []candidate
	for i, e := range source.plan.Entries {
		if !wanted[source.Outcome(i).Counter] {
			continue
		}
		t, exists := byName[e.Tenant]
		switch {
		case !exists:
			selected = append(selected, candidate{entry: Entry{Tenant: e.Tenant, UID: e.UID, Outcome: unknownTenant(e.Tenant)}})
		case e.UID != "" && e.UID != t.UID:
			selected = append(selected, candidate{entry: Entry{Tenant: e.Tenant, UID: e.UID, Outcome: tenantReplaced(e.Tenant)}})
		default:
			selected = append(selected, candidateOf(t))
		}
	}
	return selected, nil
}

// sourceUsable refuses a source that is not complete: it says whether it will be.
func sourceUsable(r Request, retry *v1alpha1.RetryOf) error {
	waits := func(message string) error {
		return &SealError{Reason: v1alpha1.ReasonSourceRunning, Message: message, Transient: true}
	}
	circle := circleOf(r)
	switch {
	case r.Source != nil && r.Source.Complete():
		return nil
	case retry.Name == r.FanOut.Name:
		return invalid("`spec.tenants.retryOf.name` is this fan-out itself, which has nothing to retry: delete it, and name another one")
	case circle != "":
		return invalid("`spec.tenants.retryOf` goes round in a circle (" + circle + "), so that none of them has anything to retry: delete them")
	case len(r.Sources) == 0 || r.Sources[0].DeletionTimestamp != nil || r.Source == nil && r.Sources[0].Status.CompletionTime != nil:
	case r.Source != nil:
		return waits(fmt.Sprintf("waits until TenantFanOut %s has ended, since more of its tenants may fail or be skipped", retry.Name))
	case !planned(r.Sources[0]):
		return waits(fmt.Sprintf("waits until TenantFanOut %s has ended, which has no plan yet", retry.Name))
	}
	return &SealError{Reason: v1alpha1.ReasonSourceGone,
		Message: fmt.Sprintf("there is no TenantFanOut %s with a plan to retry: name the tenants instead", retry.Name)}
}

// circleOf returns the names of fan-outs that retry each other in a circle, so that none of them is ever planned. It is empty
// when there is no circle.
func circleOf(r Request) string {
	names := []string{r.FanOut.Name}
	for _, source := range r.Sources {
		if slices.Contains(names, source.Name) {
			return strings.Join(append(names, source.Name), ", ")
		}
		names = append(names, source.Name)
	}
	return ""
}

// planned says whether the status of a fan-out says that its plan is sealed.
func planned(f *v1alpha1.TenantFanOut) bool {
	return meta.IsStatusConditionTrue(f.Status.Conditions, v1alpha1.ConditionPlanned)
}

func candidateOf(t Tenant) candidate {
	return candidate{entry: Entry{Tenant: t.Name, UID: t.UID, Outcome: stateOutcome(t)}, labels: t.Labels, notBefore: t.NotBefore}
}

func index(tenants []Tenant) map[string]Tenant {
	byName := make(map[string]Tenant, len(tenants))
	for _, t := range tenants {
		byName[t.Name] = t
	}
	return byName
}

func invalid(message string) *SealError {
	return &SealError{Reason: v1alpha1.ReasonInvalidSpec, Message: message}
}
