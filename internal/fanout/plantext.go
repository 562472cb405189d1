package fanout

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// A packed plan is text under gzip, so that a person can read it with zcat: a line of JSON about the plan, a line of
// JSON with the template, and for each tenant a line of fields that are separated by tabs.
const (
	planVersion = 1
	// maxPlanText bounds what a packed plan may unfold to.
	maxPlanText = 32 << 20
	entryFields = 7
)

type planHeader struct {
	Version            int       `json:"version"`
	FanOut             types.UID `json:"fanOut"`
	SealTime           int64     `json:"sealTime"`
	TemplateGeneration int64     `json:"templateGeneration"`
	SpreadSeconds      int32     `json:"spreadSeconds,omitempty"`
	Waves              []string  `json:"waves,omitempty"`
	Tenants            int       `json:"tenants"`
}

func (p *Plan) pack() ([]byte, error) {
	header, err := json.Marshal(planHeader{
		Version: planVersion, FanOut: p.FanOut, SealTime: p.SealTime.Unix(),
		TemplateGeneration: p.TemplateGeneration, SpreadSeconds: p.SpreadSeconds, Waves: p.Waves, Tenants: len(p.Entries),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the plan: %w", err)
	}
	template, err := json.Marshal(p.Template)
	if err != nil {
		return nil, fmt.Errorf("encoding the template: %w", err)
	}
	var text, packed bytes.Buffer
	text.Write(append(header, '\n'))
	text.Write(append(template, '\n'))
	for _, e := range p.Entries {
		fmt.Fprintf(&text, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", e.Tenant, e.UID, e.Wave, p.delay(e),
			e.Outcome.Counter, e.Outcome.Reason, e.Outcome.Message)
	}
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(text.Bytes()); err != nil {
		return nil, fmt.Errorf("compressing the plan: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compressing the plan: %w", err)
	}
	return packed.Bytes(), nil
}

// delay is an entry's time as seconds after the plan was sealed, or before. Empty means at once.
func (p *Plan) delay(e Entry) string {
	if e.NotBefore.IsZero() {
		return ""
	}
	return strconv.FormatInt(e.NotBefore.Unix()-p.SealTime.Unix(), 10)
}

func unpack(packed []byte) (*Plan, error) {
	text, err := unfold(packed)
	if err != nil {
		return nil, fmt.Errorf("unpacking the plan: %w", err)
	}
	lines := strings.Split(text, "\n")
	if len(lines) < 3 || lines[len(lines)-1] != "" {
		return nil, errors.New("the plan is cut off")
	}
	header, template, lines := lines[0], lines[1], lines[2:len(lines)-1]

	var h planHeader
	if err := decodeStrictly(header, &h); err != nil {
		return nil, fmt.Errorf("decoding the plan: %w", err)
	}
	if h.Version != planVersion {
		return nil, fmt.Errorf("the plan has version %d, which this version of Tenantry can't read", h.Version)
	}
	if h.FanOut == "" || h.Tenants != len(lines) {
		return nil, fmt.Errorf("the plan of %q has %d tenants instead of %d", h.FanOut, len(lines), h.Tenants)
	}
	p := &Plan{
		FanOut: h.FanOut, SealTime: time.Unix(h.SealTime, 0).UTC(), TemplateGeneration: h.TemplateGeneration,
		SpreadSeconds: h.SpreadSeconds, Waves: h.Waves, Entries: make([]Entry, 0, len(lines)),
	}
	if err := decodeStrictly(template, &p.Template); err != nil {
		return nil, fmt.Errorf("decoding the template: %w", err)
	}
	return p, p.addEntries(lines)
}

func (p *Plan) addEntries(lines []string) error {
	for i, line := range lines {
		e, err := p.parseEntry(line)
		if err != nil {
			return fmt.Errorf("decoding the plan: tenant %d: %w", i, err)
		}
		if i > 0 && p.Entries[i-1].Tenant >= e.Tenant {
			return fmt.Errorf("decoding the plan: tenant %d: %q is out of order", i, e.Tenant)
		}
		p.Entries = append(p.Entries, e)
	}
	return nil
}

func (p *Plan) parseEntry(line string) (Entry, error) {
	f := strings.Split(line, "\t")
	if len(f) != entryFields || f[0] == "" {
		return Entry{}, fmt.Errorf("%d fields in %q", len(f), line)
	}
	e := Entry{Tenant: f[0], UID: types.UID(f[1]), Outcome: Outcome{Counter(f[4]), f[5], f[6]}}
	var err error
	if e.Wave, err = strconv.Atoi(f[2]); err != nil || e.Wave < 0 || e.Wave > len(p.Waves) {
		return Entry{}, fmt.Errorf("wave %q", f[2])
	}
	if f[3] != "" {
		delay, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			return Entry{}, fmt.Errorf("time %q", f[3])
		}
		e.NotBefore = time.Unix(p.SealTime.Unix()+delay, 0).UTC()
	}
	switch o := e.Outcome; {
	case o == Outcome{}:
	case o.Counter != Failed && o.Counter != Skipped, o != tidy(o):
		return Entry{}, fmt.Errorf("outcome %q %q", o.Counter, o.Reason)
	}
	return e, nil
}

func decodeStrictly[T *planHeader | *v1alpha1.TenantJobTemplateSpec](text string, into T) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("there is more than one value")
	}
	return nil
}

// unfold undoes gzip, up to a bound.
func unfold(packed []byte) (string, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(&bounded{from: r, left: maxPlanText}); err != nil {
		return "", err
	}
	return text.String(), nil
}

// bounded reads until there is too much.
type bounded struct {
	from *gzip.Reader
	left int
}

func (b *bounded) Read(into []byte) (int, error) {
	n, err := b.from.Read(into)
	if b.left -= n; b.left < 0 {
		return n, fmt.Errorf("it has more than %d bytes", maxPlanText)
	}
	return n, err
}
