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

// Keys of the ConfigMap that holds a ledger. The values are text, so that a person can read in them which tenants did not
// succeed, and why, when the TenantJobs are gone.
const (
	keyFormat         = "format"         // ledgerFormat
	keyOutcomes       = "outcomes"       // one mark for each planned tenant, in the order of the plan
	keyLegend         = "legend"         // what the marks stand for: lines of mark, counter, reason
	keyMessages       = "messages"       // lines of index and message
	keyAccepted       = "accepted"       // how many failures a person has accepted
	keyCompletionTime = "completionTime" // RFC 3339; missing until the fan-out is complete
	// keyIdentities has which TenantJobs were created, see encodeIdentities. It is binary data, which versions of Tenantry
	// that do not know it leave out.
	keyIdentities = "identities"

	ledgerFormat = "1"
)

// ConfigMap returns the object in a namespace that holds the ledger of a fan-out.
func (l *Ledger) ConfigMap(fanOut *v1alpha1.TenantFanOut, namespace string) *corev1.ConfigMap {
	data := map[string]string{
		keyFormat:   ledgerFormat,
		keyOutcomes: string(l.marks),
		keyLegend:   l.encodeLegend(),
		keyMessages: l.encodeMessages(),
		keyAccepted: strconv.Itoa(l.accepted),
	}
	if !l.completionTime.IsZero() {
		data[keyCompletionTime] = l.completionTime.Format(time.RFC3339)
	}
	cm := &corev1.ConfigMap{ObjectMeta: objectMeta(fanOut, namespace, LedgerName(l.plan.FanOut)), Data: data}
	if identities := l.encodeIdentities(); len(identities) > 0 {
		cm.BinaryData = map[string][]byte{keyIdentities: identities}
	}
	return cm
}

// encodeLegend lists the marks that are in use.
func (l *Ledger) encodeLegend() string {
	var text strings.Builder
	for _, mark := range slices.Sorted(maps.Keys(l.legend)) {
		if l.marked[mark] > 0 {
			fmt.Fprintf(&text, "%c %s %s\n", mark, l.legend[mark].counter, l.legend[mark].reason)
		}
	}
	return text.String()
}

func (l *Ledger) encodeMessages() string {
	var text strings.Builder
	for _, i := range slices.Sorted(maps.Keys(l.messages)) {
		fmt.Fprintf(&text, "%d %s\n", i, l.messages[i])
	}
	return text.String()
}

// DecodeLedger reads the ledger of a plan from its ConfigMap. The error says what is damaged, or that a later version of
// Tenantry wrote the ledger.
func DecodeLedger(cm *corev1.ConfigMap, p *Plan) (*Ledger, error) {
	l, err := decodeLedger(cm.Data, p)
	if err == nil {
		if err = l.decodeIdentities(cm.BinaryData[keyIdentities]); err != nil {
			err = fmt.Errorf("decoding its %s: %w", keyIdentities, err)
		}
	}
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

// decodeLegend adds the marks of a stored legend. A mark that this version knows must stand for the same outcome.
func (l *Ledger) decodeLegend(text string) error {
	legend := maps.Clone(l.legend)
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 3 || len(f[0]) != 1 || !validReason(f[2]) {
			return fmt.Errorf("line %q", line)
		}
		mark, kind := f[0][0], outcomeKind{Counter(f[1]), f[2]}
		known, isKnown := knownMarks[mark]
		switch {
		case kind.counter != Succeeded && kind.counter != Failed && kind.counter != Skipped,
			isKnown && known != kind,
			!isKnown && !validMark(mark):
			return fmt.Errorf("line %q", line)
		}
		legend[mark] = kind
	}
	l.legend = legend
	return nil
}

func (l *Ledger) decodeOutcomes(marks string) error {
	if len(marks) != len(l.plan.Entries) {
		return fmt.Errorf("their number is %d and not %d", len(marks), len(l.plan.Entries))
	}
	for i, mark := range []byte(marks) {
		kind, decided := l.legend[mark]
		if !decided && mark != markNone && mark != markAnnounced && mark != markCreated {
			return fmt.Errorf("%q at %d is in no legend", mark, i)
		}
		if planned := l.plan.Entries[i].Outcome; planned.Decided() && kind != l.legend[l.markOf(planned)] {
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
		if err != nil || i < 0 || i >= len(l.marks) || message == "" || message != shorten(message, maxMessageLength) {
			return fmt.Errorf("line %q", line)
		}
		kind, decided := l.legend[l.marks[i]]
		if _, again := l.messages[i]; again || !decided {
			return fmt.Errorf("line %q is for a tenant that has no outcome, or a message already", line)
		}
		l.messages[i] = message
		l.messageBytes[kind.counter] += len(message)
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
