package fanout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

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
		if diff := cmp.Diff(contentOf(l), contentOf(got)); diff != "" || !l.equal(got) {
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
		"a message for no tenant":      {keyMessages, "9 lost\n"},
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

// A ledger that an earlier version has stored is decoded as it was meant, and stored in the same way again. It has every
// mark of that version, so this text must not change.
func TestLedgerOfAnEarlierVersion(t *testing.T) {
	const legend = `0 Succeeded Completed
C Failed CredentialsFailed
D Failed DeadlineExceeded
E Failed Expired
F Failed JobFailed
I Failed InvalidParameters
M Failed TenantMismatch
N Failed NameConflict
P Failed PodsRefused
S Failed StoppedBySuspension
X Failed Deleted
Z Failed Other
c Skipped Cancelled
d Skipped TenantDeleted
n Skipped TenantNotReady
o Skipped Overlapped
r Skipped Replaced
s Skipped TenantSuspended
u Skipped Superseded
z Skipped Other
`
	data := map[string]string{
		keyFormat: "1", keyOutcomes: "0CDEFIMNPSXZcdnorsuz+:.", keyLegend: legend, keyMessages: "1 first\n11 New: second\n", keyAccepted: "2",
	}
	fanOut := givenFanOut()
	p := givenPlan(t, fanOut, givenTenants(len(data[keyOutcomes])))
	l, err := decodeLedger(data, p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(data, l.ConfigMap(fanOut, testNamespace).Data); diff != "" {
		t.Errorf("the ledger as it is stored again (-want +got):\n%s", diff)
	}
	for i, line := range strings.Split(strings.TrimSpace(legend), "\n") {
		if got := l.Outcome(i); string(got.Counter)+" "+got.Reason != line[2:] {
			t.Errorf("outcome %d is %+v, want %s", i, got, line)
		}
	}
	want := v1alpha1.FanOutCounts{Total: 23, Waiting: 3, Succeeded: 1, Failed: 11, Skipped: 8}
	if diff := cmp.Diff(want, *l.counts(0)); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// Every mark has a counter, and a capital or a small letter that shows which.
func TestMarks(t *testing.T) {
	reasons := map[outcomeKind]byte{}
	for mark, kind := range knownMarks {
		want := Failed
		switch {
		case mark == '0':
			want = Succeeded
		case mark >= 'a':
			want = Skipped
		}
		if kind.counter != want || !validMark(mark) || strings.ContainsRune(spareMarks, rune(mark)) {
			t.Errorf("mark %c counts as %q", mark, kind.counter)
		}
		if other, twice := reasons[kind]; twice {
			t.Errorf("the marks %c and %c stand for %+v", mark, other, kind)
		}
		reasons[kind] = mark
	}
}

// A later version may know more reasons. They are kept with the counters that it stored.
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
	want := ledgerContent{
		Counts:  v1alpha1.FanOutCounts{Total: 3, Failed: 2, Skipped: 1},
		Reasons: []v1alpha1.ReasonCount{{Reason: "Evicted", Count: 2}, {Reason: "Postponed", Count: 1}},
		Unsuccessful: []v1alpha1.UnsuccessfulTenant{
			{Tenant: "tenant-00000", Reason: "Evicted"}, {Tenant: "tenant-00002", Reason: "Evicted"}, {Tenant: "tenant-00001", Reason: "Postponed"},
		},
	}
	if diff := cmp.Diff(want, contentOf(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Reasons without a mark of their own are kept in the message.
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
	if n := len(got.reasons()); n > maxReasons {
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

// The largest ledger and status: no tenant succeeds, with long messages of which each character has six bytes as JSON.
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
			if len(list) != maxUnsuccessful || list[0].Message == "" || list[99].Message == "" || l.Outcome(n-2).Reason == "" {
				t.Errorf("%d are listed, from %+v to %+v", len(list), list[0], list[len(list)-1])
			}
		})
	}
}

// The messages of skipped tenants leave room for those of failed ones.
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

// ledgerContent is what a status shows of a ledger.
type ledgerContent struct {
	Counts       v1alpha1.FanOutCounts
	Reasons      []v1alpha1.ReasonCount
	Unsuccessful []v1alpha1.UnsuccessfulTenant
}

func contentOf(l *Ledger) ledgerContent {
	return ledgerContent{*l.counts(0), l.reasons(), l.unsuccessful()}
}

func storedLedger(t testing.TB, fanOut *v1alpha1.TenantFanOut, l *Ledger) *Ledger {
	t.Helper()
	decoded, err := DecodeLedger(l.ConfigMap(fanOut, testNamespace), l.plan)
	if err != nil {
		t.Fatalf("decoding the ledger: %v", err)
	}
	return decoded
}
