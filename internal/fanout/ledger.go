package fanout

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxMessages is how many bytes of messages a ledger keeps. That is enough for hundreds of messages. Of outcomes after
	// that the ledger keeps the reason only; the TenantJob has the message until the fan-out is deleted.
	maxMessages = 64 << 10
	// maxSkippedMessages is how many of these bytes skipped tenants may use, so that there is room for failed ones.
	maxSkippedMessages = maxMessages / 4
)

// Ledger records for each planned tenant what was done about it and what its outcome is. Its counters are updated with
// every change. It is not safe for concurrent use.
type Ledger struct {
	plan *Plan
	// marks has one mark for each entry of the plan.
	marks []byte
	// identities say which TenantJob is the child of each entry, for those that are marked as created.
	identities []childIdentity
	// legend says what the marks of outcomes stand for. It is shared between ledgers and never changed in place.
	legend map[byte]outcomeKind
	// messages are those of tenants that did not succeed, by index. Messages that the plan has are not repeated.
	messages map[int]string
	// accepted is how many failures a person has accepted. They no longer spend a failure budget.
	accepted int
	// completionTime is when the last tenant got its outcome. It is zero before.
	completionTime time.Time

	// messageBytes is how many bytes the messages have, by counter.
	messageBytes map[Counter]int
	// marked is how many tenants have each mark.
	marked [256]int
	// waves are the counts of each wave; those of the tenants in no wave come last.
	waves []waveCounts
}

// waveCounts counts the tenants of a wave.
type waveCounts struct{ total, undecided, failed int }

// NewLedger returns the ledger of a plan about which nothing has been done yet. Call it only for a fan-out that never had a
// ledger: when the stored one is lost, it is unknown which tenants have run.
func NewLedger(p *Plan) *Ledger {
	l := blankLedger(p)
	for i, e := range p.Entries {
		if e.Outcome.Decided() {
			l.setMark(i, l.markOf(e.Outcome))
		}
	}
	return l
}

// blankLedger returns a ledger without outcomes. It lacks even those in the plan.
func blankLedger(p *Plan) *Ledger {
	l := &Ledger{
		plan:         p,
		marks:        slices.Repeat([]byte{markNone}, len(p.Entries)),
		identities:   make([]childIdentity, len(p.Entries)),
		legend:       knownMarks,
		messages:     map[int]string{},
		messageBytes: map[Counter]int{},
		waves:        make([]waveCounts, len(p.Waves)+1),
	}
	l.marked[markNone] = len(p.Entries)
	for _, e := range p.Entries {
		l.waves[e.Wave].total++
		l.waves[e.Wave].undecided++
	}
	return l
}

// Plan returns the plan of the ledger.
func (l *Ledger) Plan() *Plan { return l.plan }

// Outcome returns the outcome of the tenant at an index of the plan, the zero value when there is none yet. The reason is
// always kept; the message may be missing.
func (l *Ledger) Outcome(i int) Outcome {
	kind, decided := l.legend[l.marks[i]]
	if !decided {
		return Outcome{}
	}
	if planned := l.plan.Entries[i].Outcome; planned.Decided() {
		return planned
	}
	return Outcome{kind.counter, kind.reason, l.messages[i]}
}

// Record adds the outcome of the tenant at an index of the plan. It returns false, and changes nothing, when o is no
// outcome or the tenant already has one.
func (l *Ledger) Record(i int, o Outcome) bool {
	if !o.Decided() || l.decided(i) {
		return false
	}
	o = normalized(o)
	mark := l.markOf(o)
	if l.legend[mark].reason != o.Reason {
		o.Message = shorten(o.Reason+": "+o.Message, maxMessageLength)
	}
	l.setMark(i, mark)
	l.keepMessage(i, o)
	return true
}

// Complete says whether every tenant has an outcome.
func (l *Ledger) Complete() bool { return l.Undecided() == 0 }

// keepMessage keeps the message of an outcome if there is room for it.
func (l *Ledger) keepMessage(i int, o Outcome) {
	n := len(o.Message)
	if n == 0 || l.messageBytes[Failed]+l.messageBytes[Skipped]+n > maxMessages {
		return
	}
	if o.Counter == Skipped && l.messageBytes[Skipped]+n > maxSkippedMessages {
		return
	}
	l.messages[i] = o.Message
	l.messageBytes[o.Counter] += n
}

// Clone returns a copy that can be changed without changing l.
func (l *Ledger) Clone() *Ledger {
	c := *l
	c.marks = slices.Clone(l.marks)
	c.identities = slices.Clone(l.identities)
	c.messages = maps.Clone(l.messages)
	c.messageBytes = maps.Clone(l.messageBytes)
	c.waves = slices.Clone(l.waves)
	return &c
}

// equal says whether both ledgers would be stored with the same content.
func (l *Ledger) equal(other *Ledger) bool {
	return l.accepted == other.accepted && l.completionTime.Equal(other.completionTime) &&
		string(l.marks) == string(other.marks) && slices.Equal(l.identities, other.identities) && maps.Equal(l.messages, other.messages)
}

// setMark sets the mark of a tenant and updates the counters.
func (l *Ledger) setMark(i int, mark byte) {
	before := l.marks[i]
	l.marks[i] = mark
	l.marked[before]--
	l.marked[mark]++
	if mark != markCreated {
		l.identities[i] = 0
	}
	if kind, decided := l.legend[mark]; decided {
		wave := &l.waves[l.plan.Entries[i].Wave]
		wave.undecided--
		if kind.counter == Failed {
			wave.failed++
		}
	}
}

// markOf returns the mark of an outcome. A reason without a mark gets one of the spare marks. When none is left, it gets
// markOtherFailed or markOtherSkipped.
func (l *Ledger) markOf(o Outcome) byte {
	wanted := outcomeKind{o.Counter, o.Reason}
	for mark, kind := range l.legend {
		if kind == wanted {
			return mark
		}
	}
	for _, mark := range []byte(spareMarks) {
		if _, taken := l.legend[mark]; !taken {
			l.legend = maps.Clone(l.legend)
			l.legend[mark] = wanted
			return mark
		}
	}
	if o.Counter == Skipped {
		return markOtherSkipped
	}
	return markOtherFailed
}

// decided says whether the tenant at an index of the plan has an outcome.
func (l *Ledger) decided(i int) bool {
	mark := l.marks[i]
	return mark != markNone && mark != markAnnounced && mark != markCreated
}

// needsChild says whether a tenant has neither an outcome nor a TenantJob that was observed.
func (l *Ledger) needsChild(i int) bool {
	return l.marks[i] == markNone || l.marks[i] == markAnnounced
}

// HasChild says whether the TenantJob of the tenant at an index of the plan was observed, and the tenant has no outcome.
func (l *Ledger) HasChild(i int) bool { return l.marks[i] == markCreated }

// Untouched says whether nothing has been done about the tenant at an index of the plan. Such a tenant has no TenantJob of
// this fan-out, since a TenantJob is created only after it was announced.
func (l *Ledger) Untouched(i int) bool { return l.marks[i] == markNone }

// Seen is how many tenants have an outcome or a TenantJob that was observed.
func (l *Ledger) Seen() int {
	return len(l.marks) - l.marked[markNone] - l.marked[markAnnounced]
}

// Undecided is how many tenants have no outcome.
func (l *Ledger) Undecided() int {
	return l.marked[markNone] + l.marked[markAnnounced] + l.marked[markCreated]
}

// failed is how many tenants have failed.
func (l *Ledger) failed() int {
	failed := 0
	for _, wave := range l.waves {
		failed += wave.failed
	}
	return failed
}

// openWave returns the index of the open wave: the first one that has tenants without an outcome, or whose failure budget
// is exceeded while the fan-out is not complete. When there is no such wave, the index is that after the last one.
func (l *Ledger) openWave(over *exceededBudget) int {
	for w, wave := range l.waves {
		if wave.undecided > 0 || over != nil && over.wave == w && !l.Complete() {
			return w
		}
	}
	return len(l.waves)
}
