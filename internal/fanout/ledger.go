package fanout

import (
	"maps"
	"slices"
	"time"
)

const (
	// maxMessages is how many bytes of messages a ledger keeps. It is enough for hundreds; of tenants that fail after
	// that the reason is kept, and the TenantJob has the message until the fan-out goes.
	maxMessages = 64 << 10
	// maxSkippedMessages is how many of them are for skipped tenants, so that they leave room for failed ones.
	maxSkippedMessages = maxMessages / 4
)

// Ledger is what came of each planned tenant so far. Its counters are kept with every change. It is not safe for
// concurrent use.
type Ledger struct {
	plan *Plan
	// marks has one for each entry of the plan.
	marks []byte
	// kinds says what the marks of outcomes mean.
	kinds map[byte]kind
	// messages of those that did not succeed, by index. Those that the plan has are not repeated.
	messages map[int]string
	// accepted is how many failures a person has accepted: they no longer spend a budget.
	accepted int
	// completionTime is when the last tenant had its outcome.
	completionTime time.Time

	messageBytes map[Counter]int
	marked       [256]int
	waves        []waveTally
}

// waveTally counts the entries of a wave.
type waveTally struct{ total, undecided, failed int }

// NewLedger is the ledger of a plan of which nothing has been done. Only a fan-out that never had a ledger may get one:
// if the stored one is lost, nobody knows any more who has run.
func NewLedger(p *Plan) *Ledger {
	l := blankLedger(p)
	for i, e := range p.Entries {
		if e.Outcome.Decided() {
			l.setMark(i, l.markOf(e.Outcome))
		}
	}
	return l
}

// blankLedger has no outcomes, not even those in the plan.
func blankLedger(p *Plan) *Ledger {
	l := &Ledger{
		plan:         p,
		marks:        slices.Repeat([]byte{markNone}, len(p.Entries)),
		kinds:        alphabet,
		messages:     map[int]string{},
		messageBytes: map[Counter]int{},
		waves:        make([]waveTally, len(p.Waves)+1),
	}
	l.marked[markNone] = len(p.Entries)
	for _, e := range p.Entries {
		l.waves[e.Wave].total++
		l.waves[e.Wave].undecided++
	}
	return l
}

// Plan is the plan that it is the ledger of.
func (l *Ledger) Plan() *Plan { return l.plan }

// Outcome of the tenant at an index of the plan. Its message may be lost, its reason never is.
func (l *Ledger) Outcome(i int) Outcome {
	k, decided := l.kinds[l.marks[i]]
	if !decided {
		return Outcome{}
	}
	if planned := l.plan.Entries[i].Outcome; planned.Decided() {
		return planned
	}
	return Outcome{k.counter, k.reason, l.messages[i]}
}

// Record writes an outcome down, and says whether it did: one that is there never changes.
func (l *Ledger) Record(i int, o Outcome) bool {
	if !o.Decided() || l.decided(i) {
		return false
	}
	o = tidy(o)
	mark := l.markOf(o)
	if l.kinds[mark].reason != o.Reason {
		o.Message = shorten(o.Reason+": "+o.Message, maxMessage)
	}
	l.setMark(i, mark)
	l.keepMessage(i, o)
	return true
}

// Complete says whether every tenant has an outcome.
func (l *Ledger) Complete() bool { return l.Undecided() == 0 }

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

// Clone is a copy that can be changed.
func (l *Ledger) Clone() *Ledger {
	c := *l
	c.marks = slices.Clone(l.marks)
	c.messages = maps.Clone(l.messages)
	c.messageBytes = maps.Clone(l.messageBytes)
	c.waves = slices.Clone(l.waves)
	return &c
}

// equal says whether both would be stored alike.
func (l *Ledger) equal(other *Ledger) bool {
	return l.accepted == other.accepted && l.completionTime.Equal(other.completionTime) &&
		string(l.marks) == string(other.marks) && maps.Equal(l.messages, other.messages)
}

// setMark keeps the counters.
func (l *Ledger) setMark(i int, mark byte) {
	before := l.marks[i]
	l.marks[i] = mark
	l.marked[before]--
	l.marked[mark]++
	if k, decided := l.kinds[mark]; decided {
		wave := &l.waves[l.plan.Entries[i].Wave]
		wave.undecided--
		if k.counter == Failed {
			wave.failed++
		}
	}
}

// markOf is the mark of an outcome. A reason that this version does not know gets a spare one, as long as there are any.
func (l *Ledger) markOf(o Outcome) byte {
	wanted := kind{o.Counter, o.Reason}
	for mark, k := range l.kinds {
		if k == wanted {
			return mark
		}
	}
	for _, mark := range []byte(spare) {
		if _, taken := l.kinds[mark]; !taken {
			l.kinds = maps.Clone(l.kinds)
			l.kinds[mark] = wanted
			return mark
		}
	}
	if o.Counter == Skipped {
		return 'z'
	}
	return 'Z'
}

func (l *Ledger) decided(i int) bool {
	mark := l.marks[i]
	return mark != markNone && mark != markAnnounced && mark != markCreated
}

// awaitsChild says whether a tenant has neither a TenantJob that was seen nor an outcome.
func (l *Ledger) awaitsChild(i int) bool {
	return l.marks[i] == markNone || l.marks[i] == markAnnounced
}

// Untouched says whether nothing has been done about the tenant at an index of the plan: it has no TenantJob of this
// fan-out, since none is made that has not been announced.
func (l *Ledger) Untouched(i int) bool { return l.marks[i] == markNone }

// Seen is how many tenants have a TenantJob that was seen, or an outcome.
func (l *Ledger) Seen() int {
	return len(l.marks) - l.marked[markNone] - l.marked[markAnnounced]
}

// Undecided is how many tenants have no outcome.
func (l *Ledger) Undecided() int {
	return l.marked[markNone] + l.marked[markAnnounced] + l.marked[markCreated]
}

func (l *Ledger) failed() int {
	failed := 0
	for _, wave := range l.waves {
		failed += wave.failed
	}
	return failed
}

// openWave is the first that has tenants without an outcome, or more failures than it may have. When there is none, it is
// one more than the waves.
func (l *Ledger) openWave(over *overrun) int {
	for w, tally := range l.waves {
		if tally.undecided > 0 || over != nil && over.wave == w && !l.Complete() {
			return w
		}
	}
	return len(l.waves)
}
