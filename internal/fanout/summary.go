package fanout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// mostReasons and mostUnsuccessful are what the API allows in a status.
	mostReasons      = 16
	mostUnsuccessful = 100
	// maxListBytes is how much of a status the list of unsuccessful tenants takes. Messages are cut to fit.
	maxListBytes = 22 << 10
	// itemBytes is what an item of the list takes beside what is in it.
	itemBytes = len(`{"tenant":"","reason":"","message":""},`)
)

// counts are the counters of the status. Each tenant is in one.
func (l *Ledger) counts(running int) *v1alpha1.FanOutCounts {
	counts := v1alpha1.FanOutCounts{
		Total: count(len(l.marks)), Waiting: count(l.Undecided() - running), Running: count(running),
	}
	for mark, k := range l.kinds {
		n := count(l.marked[mark])
		switch k.counter {
		case Succeeded:
			counts.Succeeded += n
		case Failed:
			counts.Failed += n
		case Skipped:
			counts.Skipped += n
		}
	}
	return &counts
}

// sentence is the counters of a complete fan-out in words.
func (l *Ledger) sentence() string {
	c := l.counts(0)
	if c.Total == 0 {
		return "no tenant was selected"
	}
	text := fmt.Sprintf("%d of %d tenants succeeded", c.Succeeded, c.Total)
	if c.Failed > 0 {
		text += fmt.Sprintf(", %d failed", c.Failed)
	}
	if c.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return text
}

// reasons of those that did not succeed, the most frequent first, then by name.
func (l *Ledger) reasons() []v1alpha1.ReasonCount {
	byReason := map[string]int{}
	for mark, k := range l.kinds {
		if k.counter != Succeeded && l.marked[mark] > 0 {
			byReason[k.reason] += l.marked[mark]
		}
	}
	var reasons []v1alpha1.ReasonCount
	for reason, n := range byReason {
		reasons = append(reasons, v1alpha1.ReasonCount{Reason: reason, Count: count(n)})
	}
	slices.SortFunc(reasons, func(a, b v1alpha1.ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	return reasons[:min(len(reasons), mostReasons)]
}

// unsuccessful are the first tenants that did not succeed, failed before skipped, each in the order of the plan.
func (l *Ledger) unsuccessful() []v1alpha1.UnsuccessfulTenant {
	var list []v1alpha1.UnsuccessfulTenant
	left := maxListBytes
	for _, counter := range []Counter{Failed, Skipped} {
		for i := 0; i < len(l.marks) && len(list) < mostUnsuccessful; i++ {
			if l.kinds[l.marks[i]].counter != counter {
				continue
			}
			o, tenant := l.Outcome(i), v1alpha1.TenantName(l.plan.Entries[i].Tenant)
			left -= itemBytes + len(tenant) + len(o.Reason)
			list = append(list, v1alpha1.UnsuccessfulTenant{Tenant: tenant, Reason: o.Reason, Message: o.Message})
		}
	}
	for i := range list {
		list[i].Message = fit(list[i].Message, left/len(list))
	}
	return list
}

// fit cuts a message until it takes at most n bytes of JSON, where some characters take six.
func fit(message string, n int) string {
	room := n
	for room > 0 {
		message = shorten(message, room)
		encoded, err := json.Marshal(message)
		if err != nil {
			return ""
		}
		over := len(encoded) - n
		if over <= 0 {
			return message
		}
		room = min(room, len(message)) - max(1, over/6) // a character takes six bytes at most
	}
	return ""
}

func count(n int) int32 { return int32(min(max(0, n), 1<<31-1)) }
