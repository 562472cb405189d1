package fanout

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// TestIdentitiesRoundTrip: a stored ledger has which TenantJobs were created, and forgets it with the outcome.
func TestIdentitiesRoundTrip(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(5)))
	l.setCreated(1, "one")
	l.setCreated(2, "") // of a version that did not know it
	l.setCreated(3, "three")
	l.setMark(4, markAnnounced)
	got := storedLedger(t, fanOut, l)
	if !slices.Equal(got.identities, l.identities) || !got.equal(l) {
		t.Errorf("stored %v, and read %v", l.identities, got.identities)
	}
	for i, want := range map[int]bool{0: true, 1: false, 2: true, 3: false, 4: true} {
		if got.IsChild(i, "another") != want || got.Knows(i, "another") {
			t.Errorf("another is the child of %d: %t, and known: %t", i, !want, got.Knows(i, "another"))
		}
	}
	if !got.Knows(1, "one") || !got.IsChild(3, "three") || got.Knows(3, "one") || got.Knows(2, "") {
		t.Error("a child is not known by its UID")
	}
	for _, i := range []int{1, 2, 3} {
		got.Record(i, completed(""))
	}
	if cm := got.ConfigMap(fanOut, testNamespace); len(cm.BinaryData) > 0 {
		t.Errorf("kept with an outcome: %v", cm.BinaryData)
	}
}

// TestLedgerWithoutIdentities: the ledger of an earlier version can be read, and the next decision adds what it lacks. An earlier
// version can read that one: the new data are where it does not look.
func TestLedgerWithoutIdentities(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, []Tenant{tenant("acme"), tenant("globex")}))
	l.setCreated(0, "")
	old := l.ConfigMap(fanOut, testNamespace)
	if len(old.BinaryData) > 0 {
		t.Fatal("it has identities")
	}
	read, err := DecodeLedger(old, l.plan)
	if err != nil {
		t.Fatal(err)
	}
	child := Child{Presence: Ours, UID: "first", Status: "Unknown"}
	d := Decide(Observed{FanOut: fanOut, Ledger: read, Children: map[string]Child{"acme": child}, Tenants: index([]Tenant{tenant("globex")})}, testTime)
	if !d.Changed || !d.Ledger.Knows(0, "first") || string(d.Ledger.marks) != "+:" {
		t.Errorf("%s, and it knows the child: %t", d.Ledger.marks, d.Ledger.Knows(0, "first"))
	}
	stored := d.Ledger.ConfigMap(fanOut, testNamespace)
	if !slices.Equal(slices.Sorted(maps.Keys(stored.Data)), slices.Sorted(maps.Keys(old.Data))) {
		t.Errorf("an earlier version can't read %v", stored.Data)
	}
}

func TestDecodeIdentitiesRefuses(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(2)))
	l.setCreated(0, "one")
	for name, data := range map[string][]byte{"one too many": make([]byte, 12), "cut off": make([]byte, 5)} {
		cm := l.ConfigMap(fanOut, testNamespace)
		cm.BinaryData[keyIdentities] = data
		if _, err := DecodeLedger(cm, l.plan); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}

// TestLedgerSize: the ledger of ten thousand children that all wait has 71 kB, and one of any number fits a ConfigMap.
func TestLedgerSize(t *testing.T) {
	for tenants, most := range map[int]int{many: 71_000, 3 * maxIdentities: maxConfigMap} {
		fanOut := givenFanOut()
		l := NewLedger(&Plan{FanOut: fanOut.UID, Entries: make([]Entry, tenants)})
		for i := range l.marks {
			l.setCreated(i, types.UID(fmt.Sprint("uid-", i)))
		}
		cm := l.ConfigMap(fanOut, testNamespace)
		if n := size(cm); n > most {
			t.Errorf("%d tenants: %d bytes", tenants, n)
		}
		got, err := DecodeLedger(cm, l.plan)
		if err != nil || !got.Knows(min(tenants, maxIdentities)-1, types.UID(fmt.Sprint("uid-", min(tenants, maxIdentities)-1))) {
			t.Errorf("%d tenants: %v", tenants, err)
		}
	}
}

// TestReplacedChildNeverRuns: a member deletes a child, at any time, and creates another one of its name and owner. The tenant has
// one run at most, and its outcome is that its TenantJob was deleted, unless it had not started yet.
func TestReplacedChildNeverRuns(t *testing.T) {
	for name, tc := range map[string]struct {
		// passes is how many passes there are before, starts whether the child runs then.
		passes int
		starts bool
		want   string
	}{
		"while it runs":                     {3, true, "0 waiting, 0 running, 2 succeeded, 1 failed, 0 skipped of 3"},
		"while it waits":                    {3, false, "0 waiting, 0 running, 2 succeeded, 1 failed, 0 skipped of 3"},
		"before the ledger has it":          {1, false, "0 waiting, 0 running, 3 succeeded, 0 failed, 0 skipped of 3"},
		"before it was observed by anybody": {0, false, "0 waiting, 0 running, 3 succeeded, 0 failed, 0 skipped of 3"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, givenFanOut(), givenTenants(3))
			l := newLeader(w)
			for range tc.passes {
				l.sync()
				l.pass(neverDies)
			}
			if tc.starts && !w.dispatch("tenant-00001") {
				t.Fatal("it can't start")
			}
			w.replace("tenant-00001")
			status := w.run(completed)
			if got := describe(status.Counts); got != tc.want {
				t.Error(got)
			}
			if tc.passes == 3 && (status.UnsuccessfulTenants[0].Reason != v1alpha1.ReasonDeleted || tc.starts != (w.ran["tenant-00001"] == 1)) {
				t.Errorf("%+v, started %d times", status.UnsuccessfulTenants[0], w.ran["tenant-00001"])
			}
		})
	}
}

// TestHostileMembers: whatever a member does to its own child, the fan-out completes, later waves open, and the others do not wait.
func TestHostileMembers(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(*world, *child)
		starts bool
		reason string
	}{
		"puts it off for ever":                      {do: func(_ *world, c *child) { c.putOff = true }, reason: v1alpha1.ReasonCancelled},
		"removes its owner":                         {do: func(_ *world, c *child) { c.disowned = true }, reason: v1alpha1.ReasonDeleted},
		"removes its owner while it runs":           {do: func(_ *world, c *child) { c.disowned = true }, starts: true, reason: v1alpha1.ReasonDeleted},
		"deletes it and holds it with a finalizer":  {do: func(_ *world, c *child) { c.held = true }, reason: v1alpha1.ReasonDeleted},
		"does so while it runs":                     {do: func(_ *world, c *child) { c.held = true }, starts: true, reason: v1alpha1.ReasonDeleted},
		"replaces it":                               {do: func(w *world, _ *child) { w.replace("tenant-00000") }, reason: v1alpha1.ReasonDeleted},
		"replaces it while it runs":                 {do: func(w *world, _ *child) { w.replace("tenant-00000") }, starts: true, reason: v1alpha1.ReasonDeleted},
		"replaces it with one without an owner":     {do: func(w *world, _ *child) { w.delete("tenant-00000"); w.newChild("tenant-00000", child{foreign: true}) }, reason: v1alpha1.ReasonDeleted},
		"replaces it, and removes that one's owner": {do: func(w *world, _ *child) { w.replace("tenant-00000"); w.children["tenant-00000"].disowned = true }, reason: v1alpha1.ReasonDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			tenants := givenTenants(4)
			tenants[0].Labels["first"] = "true"
			w := newWorld(t, givenFanOut(withWaves(labelWave("first", "first"))), tenants)
			l := newLeader(w)
			for range 3 {
				l.sync()
				l.pass(neverDies)
			}
			if tc.starts && !w.dispatch("tenant-00000") {
				t.Fatal("it can't start")
			}
			tc.do(w, w.children["tenant-00000"])
			status := w.run(completed)
			counter, _ := v1alpha1.CounterOf(tc.reason)
			want := "0 waiting, 0 running, 3 succeeded, 1 failed, 0 skipped of 4"
			if counter == Skipped {
				want = "0 waiting, 0 running, 3 succeeded, 0 failed, 1 skipped of 4"
			}
			if got := describe(status.Counts); got != want || status.UnsuccessfulTenants[0].Reason != tc.reason {
				t.Errorf("%s, with %+v", got, status.UnsuccessfulTenants)
			}
			if n := w.ran["tenant-00000"]; n > 1 || !tc.starts && n > 0 {
				t.Errorf("it ran %d times", n)
			}
		})
	}
}

// TestBrokenTenant: the API server answers no creation for one tenant. The others go on, and the tenant ends after its bound.
func TestBrokenTenant(t *testing.T) {
	for _, everySecond := range []int{0, 1} {
		tenants := givenTenants(4)
		tenants[0].Labels["first"], tenants[1].Labels["first"] = "true", "true"
		w := newWorld(t, givenFanOut(withWaves(labelWave("first", "first"))), tenants)
		w.broken["tenant-00000"], w.attempts = true, everySecond
		status := w.run(completed)
		want := "0 waiting, 0 running, 4 succeeded, 0 failed, 0 skipped of 4" // It was created, and only the answer was lost.
		if got := describe(status.Counts); got != want {
			t.Errorf("%d: %s, with %+v", everySecond, got, status.UnsuccessfulTenants)
		}
	}
	w := newWorld(t, givenFanOut(), givenTenants(4))
	w.refuses = true
	w.broken["tenant-00000"] = true
	status := w.run(completed)
	if got := describe(status.Counts); got != "0 waiting, 0 running, 3 succeeded, 1 failed, 0 skipped of 4" {
		t.Errorf("%s, with %+v", got, status.UnsuccessfulTenants)
	}
	if got := status.UnsuccessfulTenants[0]; got.Reason != v1alpha1.ReasonPodsRefused || got.Message != "no answer" || w.now.Sub(testTime) > 3*time.Minute {
		t.Errorf("%+v after %v", got, w.now.Sub(testTime))
	}
}
