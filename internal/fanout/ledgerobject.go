package fanout

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Keys of the ConfigMap that holds a ledger. It is text, for people: who was missed, and why, can be read in it when the
// TenantJobs are gone.
const (
	keyFormat         = "format"
	keyOutcomes       = "outcomes"       // one character for each planned tenant, in the order of the plan
	keyLegend         = "legend"         // what the characters mean: lines of character, counter, reason
	keyMessages       = "messages"       // lines of index and message
	keyAccepted       = "accepted"       // how many failures a person has accepted
	keyCompletionTime = "completionTime" // RFC 3339, once it is complete

	ledgerFormat = "1"
)

// ConfigMap returns the object that holds the ledger.
func (l *Ledger) ConfigMap(fanOut *v1alpha1.TenantFanOut, namespace string) *corev1.ConfigMap {
	data := map[string]string{
		keyFormat:   ledgerFormat,
		keyOutcomes: string(l.marks),
		keyLegend:   l.legend(),
		keyMessages: l.messageLines(),
		keyAccepted: strconv.Itoa(l.accepted),
	}
	if !l.completionTime.IsZero() {
		data[keyCompletionTime] = l.completionTime.Format(time.RFC3339)
	}
	return &corev1.ConfigMap{ObjectMeta: objectMeta(fanOut, namespace, LedgerName(l.plan.FanOut)), Data: data}
}

// legend lists the marks that are used.
func (l *Ledger) legend() string {
	var text strings.Builder
	for _, mark := range slices.Sorted(maps.Keys(l.kinds)) {
		if l.marked[mark] > 0 {
			fmt.Fprintf(&text, "%c %s %s\n", mark, l.kinds[mark].counter, l.kinds[mark].reason)
		}
	}
	return text.String()
}

func (l *Ledger) messageLines() string {
	var text strings.Builder
	for _, i := range slices.Sorted(maps.Keys(l.messages)) {
		fmt.Fprintf(&text, "%d %s\n", i, l.messages[i])
	}
	return text.String()
}

// DecodeLedger reads the ledger of a plan back.
func DecodeLedger(cm *corev1.ConfigMap, p *Plan) (*Ledger, error) {
	l, err := decodeLedger(cm.Data, p)
	if err == nil && cm.Name != LedgerName(p.FanOut) {
		err = fmt.Errorf("it is not the ledger of %s", p.FanOut)
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", cm.Name, err)
	}
	return l, nil
}

func decodeLedger(data map[string]string, p *Plan) (*Ledger, error) {
	for key := range data {
		switch key {
		case keyFormat, keyOutcomes, keyLegend, keyMessages, keyAccepted, keyCompletionTime:
		default:
			return nil, fmt.Errorf("it has a key %q", key)
		}
	}
	if data[keyFormat] != ledgerFormat {
		return nil, fmt.Errorf("it has format %q, which this version of Tenantry can't read", data[keyFormat])
	}
	l := blankLedger(p)
	for _, decode := range []struct {
		key string
		do  func(string) error
	}{
		{keyLegend, l.decodeLegend}, {keyOutcomes, l.decodeOutcomes}, {keyMessages, l.decodeMessages},
		{keyAccepted, l.decodeAccepted}, {keyCompletionTime, l.decodeCompletionTime},
	} {
		if err := decode.do(data[decode.key]); err != nil {
			return nil, fmt.Errorf("decoding its %s: %w", decode.key, err)
		}
	}
	return l, nil
}

func (l *Ledger) decodeLegend(text string) error {
	kinds := maps.Clone(l.kinds)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 3 || len(f[0]) != 1 || !validReason(f[2]) {
			return fmt.Errorf("line %q", line)
		}
		mark, k := f[0][0], kind{Counter(f[1]), f[2]}
		known, isKnown := alphabet[mark]
		switch {
		case k.counter != Succeeded && k.counter != Failed && k.counter != Skipped,
			isKnown && known != k,
			!isKnown && !validMark(mark):
			return fmt.Errorf("line %q", line)
		}
		kinds[mark] = k
	}
	l.kinds = kinds
	return nil
}

// validMark lets letters and digits in that a later version may use.
func validMark(mark byte) bool {
	return mark >= '0' && mark <= '9' || mark >= 'A' && mark <= 'Z' || mark >= 'a' && mark <= 'z'
}

func (l *Ledger) decodeOutcomes(marks string) error {
	if len(marks) != len(l.plan.Entries) {
		return fmt.Errorf("there are %d for %d tenants", len(marks), len(l.plan.Entries))
	}
	for i, mark := range []byte(marks) {
		k, decided := l.kinds[mark]
		if !decided && mark != markNone && mark != markAnnounced && mark != markCreated {
			return fmt.Errorf("%q at %d is in no legend", mark, i)
		}
		if planned := l.plan.Entries[i].Outcome; planned.Decided() && k != l.kinds[l.markOf(planned)] {
			return fmt.Errorf("%q at %d is not what was planned", mark, i)
		}
		l.setMark(i, mark)
	}
	return nil
}

func (l *Ledger) decodeMessages(text string) error {
	for line := range strings.Lines(text) {
		index, message, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		i, err := strconv.Atoi(index)
		if err != nil || i < 0 || i >= len(l.marks) || message == "" || message != shorten(message, maxMessage) {
			return fmt.Errorf("line %q", line)
		}
		k, decided := l.kinds[l.marks[i]]
		if _, again := l.messages[i]; again || !decided {
			return fmt.Errorf("line %q is for a tenant that has none", line)
		}
		l.messages[i] = message
		l.messageBytes[k.counter] += len(message)
	}
	return nil
}

func (l *Ledger) decodeAccepted(text string) (err error) {
	if l.accepted, err = strconv.Atoi(text); err == nil && l.accepted < 0 {
		return fmt.Errorf("%d", l.accepted)
	}
	return err
}

func (l *Ledger) decodeCompletionTime(text string) (err error) {
	if text == "" {
		return nil
	}
	l.completionTime, err = time.Parse(time.RFC3339, text)
	return err
}
