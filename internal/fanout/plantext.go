package fanout

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// A packed plan is text that is compressed with gzip, so that a person can read it with zcat. It has a line of JSON about
// the plan, a line of JSON with the template, and for each tenant a line of fields that are separated by tabs.
const (
	planVersion = 1
	// maxPlanText is how many bytes the text of a packed plan may have.
	maxPlanText = 32 << 20
	// entryFields is how many fields the line of a tenant has.
	entryFields = 7
)

// planHeader is the first line.
type planHeader struct {
	Version            int       `json:"version"`
	FanOut             types.UID `json:"fanOut"`
	SealTime           int64     `json:"sealTime"`
	TemplateGeneration int64     `json:"templateGeneration"`
	SpreadSeconds      int32     `json:"spreadSeconds,omitempty"`
	Waves              []string  `json:"waves,omitempty"`
	Tenants            int       `json:"tenants"`
}

// pack encodes the plan.
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

// delay encodes when an entry is due: in seconds after the plan was sealed, negative for before. Empty means at once.
func (p *Plan) delay(e Entry) string {
	if e.NotBefore.IsZero() {
		return ""
	}
	return strconv.FormatInt(e.NotBefore.Unix()-p.SealTime.Unix(), 10)
}

// unpack decodes a packed plan.
func unpack(packed []byte) (*Plan, error) {
	text, err := decompress(packed)
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
		return nil, fmt.Errorf("the number of tenants in the plan of %q is %d instead of %d", h.FanOut, len(lines), h.Tenants)
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
		return Entry{}, fmt.Errorf("%s in %q", quantity(len(f), "field"), line)
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
	case o.Counter != Failed && o.Counter != Skipped, o != normalized(o):
		return Entry{}, fmt.Errorf("outcome %q %q", o.Counter, o.Reason)
	}
	return e, nil
}

// decodeStrictly decodes one JSON value. It refuses fields that into does not have.
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

// decompress returns the text of a packed plan. It refuses one that is longer than maxPlanText.
func decompress(packed []byte) (string, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxPlanText+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxPlanText {
		return "", fmt.Errorf("it has more than %d bytes", maxPlanText)
	}
	return string(text), nil
}
