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
	// maxReasons and maxUnsuccessful are how many items the API accepts in the lists of a status.
	maxReasons      = 16
	maxUnsuccessful = 100
	// maxListBytes is how many bytes of JSON the list of unsuccessful tenants may have. Messages are cut to fit.
	maxListBytes = 22 << 10
	// itemBytes is how many bytes of JSON an item of that list has beside its values.
	itemBytes = len(`{"tenant":"","reason":"","message":""},`)
)

// counts returns the counters of the status when so many children run. Each tenant counts in exactly one of them.
func (l *Ledger) counts(running int) *v1alpha1.FanOutCounts {
	counts := v1alpha1.FanOutCounts{
		Total: toInt32(len(l.marks)), Waiting: toInt32(l.Undecided() - running), Running: toInt32(running),
	}
	for mark, kind := range l.legend {
		n := toInt32(l.marked[mark])
		switch kind.counter {
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

// summary returns the counters of a complete fan-out as a message.
func (l *Ledger) summary() string {
	c := l.counts(0)
	if c.Total == 0 {
		return "no tenant was selected"
	}
	text := fmt.Sprintf("%d of %s succeeded", c.Succeeded, quantity(c.Total, "tenant"))
	if c.Failed > 0 {
		text += fmt.Sprintf(", %d failed", c.Failed)
	}
	if c.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.Skipped)
	}
	return text
}

// reasons counts the reasons of the tenants that did not succeed. The most frequent reasons come first, those of equal
// frequency in alphabetical order.
func (l *Ledger) reasons() []v1alpha1.ReasonCount {
	byReason := map[string]int{}
	for mark, kind := range l.legend {
		if kind.counter != Succeeded && l.marked[mark] > 0 {
			byReason[kind.reason] += l.marked[mark]
		}
	}
	var reasons []v1alpha1.ReasonCount
	for reason, n := range byReason {
		reasons = append(reasons, v1alpha1.ReasonCount{Reason: reason, Count: toInt32(n)})
	}
	slices.SortFunc(reasons, func(a, b v1alpha1.ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	return reasons[:min(len(reasons), maxReasons)]
}

// unsuccessful lists the first tenants that did not succeed: failed ones before skipped ones, each in the order of the
// plan.
func (l *Ledger) unsuccessful() []v1alpha1.UnsuccessfulTenant {
	var list []v1alpha1.UnsuccessfulTenant
	left := maxListBytes
	for _, counter := range []Counter{Failed, Skipped} {
		for i := 0; i < len(l.marks) && len(list) < maxUnsuccessful; i++ {
			if l.legend[l.marks[i]].counter != counter {
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

// fit cuts a message so that it has at most n bytes as JSON, where a byte of text may become six.
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
		room = min(room, len(message)) - max(1, over/6)
	}
	return ""
}

// toInt32 returns n, or the nearest number from 0 that an int32 can hold.
func toInt32(n int) int32 { return int32(min(max(0, n), 1<<31-1)) }
