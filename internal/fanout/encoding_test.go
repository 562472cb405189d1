package fanout

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// maxConfigMap is what the API server accepts.
const maxConfigMap = 1 << 20

func TestPlanRoundTrip(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		tenants := givenTenants(rnd.IntN(200))
		for i := range tenants {
			tenants[i].State = State(rnd.IntN(4))
			if rnd.IntN(2) == 0 {
				tenants[i].NotBefore = testTime.Add(time.Duration(rnd.IntN(200000)-100000) * time.Second)
			}
		}
		fanOut := givenFanOut(withWaves(sizeWave("a", "10%", 0), sizeWave("b", 5, nil)), withSpread(int32(rnd.IntN(2)*600)))
		p := givenPlan(t, fanOut, tenants)
		got := storedPlan(t, fanOut, p)
		if diff := diffPlans(p, got); diff != "" {
			t.Fatalf("seed %d: plan -sealed +stored:\n%s", seed, diff)
		}
	}
}

// The template comes back as it was, whatever is in it.
func TestPlanKeepsTheTemplate(t *testing.T) {
	template := givenTemplate()
	container := &template.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
	container.Args = []string{"tab\tline\nnul\x00 \u2028 <&>", "\U0001F600"}
	container.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("1.5Gi"), "cpu": resource.MustParse("0.1")}
	template.Spec.JobTemplate.Labels = map[string]string{"a": "b"}
	p, err := Seal(Request{FanOut: givenFanOut(), Template: template}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	want := *template.Spec.DeepCopy()
	container.Image = "example.com/check:2" // case 13: an edit after the plan was sealed
	if got := storedPlan(t, givenFanOut(), p); !equality.Semantic.DeepEqual(want, got.Template) || got.TemplateGeneration != 4 {
		t.Errorf("template -want +got:\n%s", cmp.Diff(want, got.Template))
	}
}

// incompressible is text that gzip can't make smaller than six bits a byte.
func incompressible(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	rnd := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, n)
	for i := range text {
		text[i] = letters[rnd.IntN(len(letters))]
	}
	return string(text)
}

func TestPlanOutgrowsOneConfigMap(t *testing.T) {
	fanOut, template := givenFanOut(), givenTemplate()
	template.Spec.JobTemplate.Annotations = map[string]string{"big": incompressible(3 << 20)}
	p, err := Seal(Request{FanOut: fanOut, Template: template, Tenants: givenTenants(10)}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := p.ConfigMaps(fanOut, testNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) < 3 {
		t.Fatalf("%d objects", len(objects))
	}
	last := len(objects) - 1
	head, parts := objects[last], objects[:last]
	names, err := PartNames(head)
	if err != nil {
		t.Fatal(err)
	}
	for i, cm := range objects {
		if size := size(cm); size > maxConfigMap {
			t.Errorf("%s has %d bytes", cm.Name, size)
		}
		if cm.Immutable == nil || !*cm.Immutable || cm.OwnerReferences[0].UID != fanOut.UID || cm.Namespace != testNamespace {
			t.Errorf("%s is not sealed: %+v", cm.Name, cm.ObjectMeta)
		}
		if i < last && cm.Name != names[i] {
			t.Errorf("part %d is %s, want %s", i, cm.Name, names[i])
		}
	}
	if got, err := DecodePlan(head, parts...); err != nil || diffPlans(p, got) != "" {
		t.Errorf("it does not come back: %v", err)
	}
	if _, err := DecodePlan(head, parts[:1]...); err == nil {
		t.Error("it comes back without a part")
	}
	parts[0].BinaryData[keyPlan][7]++
	if _, err := DecodePlan(head, parts...); err == nil {
		t.Error("it comes back with a part that was changed")
	}

	// Another leader's plan has other parts, so that the two never mix.
	p.SealTime = p.SealTime.Add(time.Second)
	others, err := p.ConfigMaps(fanOut, testNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if others[last].Name != head.Name || others[0].Name == parts[0].Name {
		t.Errorf("the names are %s and %s", others[last].Name, others[0].Name)
	}
}

func TestDecodePlanRefuses(t *testing.T) {
	fanOut := givenFanOut(withWaves(sizeWave("a", 1, nil)))
	p := givenPlan(t, fanOut, []Tenant{tenant("acme"), in(Suspended, tenant("globex"))})
	packed, err := p.pack()
	if err != nil {
		t.Fatal(err)
	}
	text, err := unfold(packed)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, replacement string }{
		"another version":          {`"version":1`, `"version":2`},
		"a field of the plan":      {`"version":1`, `"version":1,"more":1`},
		"a field of the template":  {`"jobTemplate":`, `"more":1,"jobTemplate":`},
		"two values":               {`"tenants":2}`, `"tenants":2} {}`},
		"another number":           {`"tenants":2`, `"tenants":3`},
		"no fan-out":               {string(fanOut.UID), ""},
		"a tenant out of order":    {"globex\t", "aaa\t"},
		"a tenant twice":           {"globex\t", "acme\t"},
		"no tenant":                {"globex\t", "\t"},
		"a wave that there is not": {"uid-globex\t1", "uid-globex\t2"},
		"a wave that is no number": {"uid-globex\t1", "uid-globex\tone"},
		"a time":                   {"uid-globex\t1\t", "uid-globex\t1\tsoon"},
		"an outcome":               {"Skipped", "Vanished"},
		"an outcome of success":    {"Skipped", "Succeeded"},
		"a reason":                 {"TenantSuspended", "Tenant Suspended"},
		"a field more":             {"acme\t", "acme\t\t"},
		"no end":                   {"was suspended\n", "was suspended"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(text, tc.old, tc.replacement, 1)
			if changed == text {
				t.Fatalf("%q is not in %s", tc.old, text)
			}
			if got, err := unpack(fold(t, changed)); err == nil {
				t.Errorf("decoded %+v", got)
			}
		})
	}
	if _, err := unpack(packed[:len(packed)-9]); err == nil {
		t.Error("decoded half of it")
	}
	if _, err := unpack(fold(t, strings.Repeat("x", maxPlanText+1))); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("decoded more than memory should hold: %v", err)
	}
	if _, err := DecodePlan(&corev1.ConfigMap{}); err == nil {
		t.Error("decoded an empty object")
	}
}

func TestLedgerRoundTrip(t *testing.T) {
	reasons := []string{"JobFailed", "Deleted", "TenantSuspended", "Overlapped", "NewReason", "OtherNew", "not a word", ""}
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		fanOut := givenFanOut(withWaves(sizeWave("a", "30%", 1), sizeWave("b", 5, 2)))
		tenants := givenTenants(rnd.IntN(100))
		for i := range tenants {
			tenants[i].State = State(max(0, rnd.IntN(8)-4))
		}
		l := NewLedger(givenPlan(t, fanOut, tenants))
		for i := range l.marks {
			switch rnd.IntN(4) {
			case 0:
				l.Record(i, OutcomeOf("True", "Completed", ""))
			case 1:
				l.Record(i, OutcomeOf("False", reasons[rnd.IntN(len(reasons))], fmt.Sprintf("line\n%d\x00 \xff end  ", i)))
			case 2:
				if !l.decided(i) {
					l.setMark(i, markCreated)
				}
			}
		}
		l.accepted = rnd.IntN(3)
		if l.Complete() {
			l.completionTime = testTime
		}
		got := storedLedger(t, fanOut, l)
		if diff := cmp.Diff(summaryOf(l), summaryOf(got)); diff != "" || !l.equal(got) {
			t.Fatalf("seed %d: ledger -kept +stored:\n%s", seed, diff)
		}
	}
}

func TestDecodeLedgerRefuses(t *testing.T) {
	fanOut := givenFanOut()
	p := givenPlan(t, fanOut, []Tenant{tenant("acme"), in(Suspended, tenant("globex")), tenant("initech")})
	l := NewLedger(p)
	l.Record(0, failedWith("JobFailed"))
	for name, tc := range map[string]struct{ key, value string }{
		"another format":               {keyFormat, "2"},
		"a key":                        {"more", ""},
		"too few outcomes":             {keyOutcomes, "Fs"},
		"an outcome in no legend":      {keyOutcomes, "Fs?"},
		"not what was planned":         {keyOutcomes, "F.."},
		"another meaning":              {keyLegend, "F Failed Deleted\n"},
		"a legend of two words":        {keyLegend, "F Failed\n"},
		"a legend for a mark":          {keyLegend, ". Failed JobFailed\n"},
		"a counter":                    {keyLegend, "1 Vanished JobFailed\n"},
		"a message for nobody":         {keyMessages, "9 lost\n"},
		"a message without an outcome": {keyMessages, "2 early\n"},
		"two messages":                 {keyMessages, "0 a\n0 b\n"},
		"a long message":               {keyMessages, "0 " + strings.Repeat("x", 300) + "\n"},
		"a negative number":            {keyAccepted, "-1"},
		"no number":                    {keyAccepted, ""},
		"a time":                       {keyCompletionTime, "noon"},
	} {
		t.Run(name, func(t *testing.T) {
			cm := l.ConfigMap(fanOut, testNamespace)
			cm.Data[tc.key] = tc.value
			if _, err := DecodeLedger(cm, p); err == nil {
				t.Error("it was decoded")
			}
		})
	}
	cm := l.ConfigMap(fanOut, testNamespace)
	cm.Name = LedgerName("another")
	if _, err := DecodeLedger(cm, p); err == nil {
		t.Error("decoded the ledger of another fan-out")
	}
}

// A later version may have more reasons: they are kept, and counted as it counted them.
func TestLedgerOfALaterVersion(t *testing.T) {
	fanOut := givenFanOut()
	p := givenPlan(t, fanOut, givenTenants(3))
	cm := NewLedger(p).ConfigMap(fanOut, testNamespace)
	cm.Data[keyOutcomes], cm.Data[keyLegend] = "Qq.", "Q Failed Evicted\nq Skipped Postponed\n"
	l, err := DecodeLedger(cm, p)
	if err != nil {
		t.Fatal(err)
	}
	l.Record(2, Outcome{Failed, "Evicted", ""})
	got := storedLedger(t, fanOut, l)
	want := summary{
		Counts:  v1alpha1.FanOutCounts{Total: 3, Failed: 2, Skipped: 1},
		Reasons: []v1alpha1.ReasonCount{{Reason: "Evicted", Count: 2}, {Reason: "Postponed", Count: 1}},
		Unsuccessful: []v1alpha1.UnsuccessfulTenant{
			{Tenant: "tenant-00000", Reason: "Evicted"}, {Tenant: "tenant-00002", Reason: "Evicted"}, {Tenant: "tenant-00001", Reason: "Postponed"},
		},
	}
	if diff := cmp.Diff(want, summaryOf(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLedgerHasMoreReasonsThanMarks(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(30)))
	for i := range 30 {
		l.Record(i, failedWith(fmt.Sprintf("Reason%d", i)))
	}
	got := storedLedger(t, fanOut, l)
	if n := got.counts(0).Failed; n != 30 {
		t.Errorf("%d failed", n)
	}
	if o := got.Outcome(29); o.Reason != reasonOther || o.Message != "Reason29: it failed" {
		t.Errorf("the last is %+v", o)
	}
	if n := len(got.reasons()); n > mostReasons {
		t.Errorf("%d reasons", n)
	}
}

func TestRecordNeverChangesAnOutcome(t *testing.T) {
	l := NewLedger(givenPlan(t, givenFanOut(), []Tenant{tenant("acme"), in(Suspended, tenant("globex"))}))
	first := failedWith("JobFailed")
	if !l.Record(0, first) {
		t.Fatal("the first was not recorded")
	}
	for _, later := range []Outcome{{Counter: Succeeded}, failedWith("Deleted"), {}} {
		for i := range 2 {
			if l.Record(i, later) {
				t.Errorf("%+v was recorded for %d", later, i)
			}
		}
	}
	if got := l.Outcome(0); got != first {
		t.Errorf("it is %+v", got)
	}
}

// The worst that there can be: everybody fails, with long messages that take six bytes a character.
func TestSizesAreBounded(t *testing.T) {
	const n = 10_000
	fanOut := givenFanOut(withWaves(sizeWave(strings.Repeat("w", 63), "1%", 0)), withMaxFailures("5%"))
	tenants := givenTenants(n)
	for i := range tenants {
		tenants[i].Name = fmt.Sprintf("tenant-with-the-longest-name-there-%05d", i)
	}
	for name, message := range map[string]string{
		"ascii": strings.Repeat("x", 1000), "escaped": strings.Repeat("<", 1000), "wide": strings.Repeat("\U0001F600", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			l := NewLedger(givenPlan(t, fanOut, tenants))
			for i := range n {
				l.Record(i, Outcome{[]Counter{Failed, Skipped}[i%2], fmt.Sprintf("ReasonAsLongAsItMayBe%043d", i%4), message})
			}
			l.completionTime = testTime
			stored := l.ConfigMap(fanOut, testNamespace)
			if size := size(stored); size > n+maxMessages+(32<<10) {
				t.Errorf("the ledger has %d bytes", size)
			}
			status, err := json.Marshal(Decide(Observed{FanOut: fanOut, Ledger: l}, testTime).Status(testTime))
			if err != nil {
				t.Fatal(err)
			}
			if len(status) > 32<<10 {
				t.Errorf("the status has %d bytes", len(status))
			}
			t.Logf("ledger %d bytes, status %d bytes", size(stored), len(status))
			list := l.unsuccessful()
			if encoded, err := json.Marshal(list); err != nil || len(encoded) > maxListBytes+1 {
				t.Errorf("the list has %d bytes: %v", len(encoded), err)
			}
			if len(list) != mostUnsuccessful || list[0].Message == "" || list[99].Message == "" || l.Outcome(n-2).Reason == "" {
				t.Errorf("%d are listed, from %+v to %+v", len(list), list[0], list[len(list)-1])
			}
		})
	}
}

// Skipped tenants leave room for the messages of failed ones.
func TestMessagesOfFailedTenantsAreKept(t *testing.T) {
	l := NewLedger(givenPlan(t, givenFanOut(), givenTenants(2000)))
	for i := range 1900 {
		l.Record(i, Outcome{Skipped, v1alpha1.ReasonOverlapped, strings.Repeat("x", 150)})
	}
	for i := 1900; i < 2000; i++ {
		l.Record(i, failedWith("JobFailed"))
	}
	if got := l.unsuccessful(); got[0].Tenant != "tenant-01900" || got[99].Message != "it failed" {
		t.Errorf("from %+v to %+v", got[0], got[99])
	}
}

func diffPlans(a, b *Plan) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b v1alpha1.TenantJobTemplateSpec) bool {
		return equality.Semantic.DeepEqual(a, b)
	}))
}

// summary is all that can be seen of a ledger.
type summary struct {
	Counts       v1alpha1.FanOutCounts
	Reasons      []v1alpha1.ReasonCount
	Unsuccessful []v1alpha1.UnsuccessfulTenant
}

func summaryOf(l *Ledger) summary { return summary{*l.counts(0), l.reasons(), l.unsuccessful()} }

func storedLedger(t testing.TB, fanOut *v1alpha1.TenantFanOut, l *Ledger) *Ledger {
	t.Helper()
	decoded, err := DecodeLedger(l.ConfigMap(fanOut, testNamespace), l.plan)
	if err != nil {
		t.Fatalf("decoding the ledger: %v", err)
	}
	return decoded
}

// size is what the API server counts.
func size(cm *corev1.ConfigMap) int {
	n := 0
	for key, value := range cm.Data {
		n += len(key) + len(value)
	}
	for key, value := range cm.BinaryData {
		n += len(key) + len(value)
	}
	return n
}

// fold is the opposite of unfold.
func fold(t testing.TB, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}
