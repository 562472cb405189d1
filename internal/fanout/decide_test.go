package fanout

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// One tenant, acme, in all its states.
func TestDecideAboutOneTenant(t *testing.T) {
	acme := tenant("acme")
	waiting := Child{Presence: Ours, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonQueued}
	ended := func(status metav1.ConditionStatus, reason string) Child {
		return Child{Presence: Ours, Started: true, Status: status, Reason: reason, Message: "m"}
	}
	type want struct {
		Mark                    string
		Create, Announce, Check int
		Running                 int
		Reason                  string
		Wake                    time.Duration
	}
	for name, tc := range map[string]struct {
		mark    byte
		child   Child
		tenants []Tenant
		delay   time.Duration
		end     string
		change  func(*v1alpha1.TenantFanOut)
		want    want
	}{
		"new":                         {mark: markNone, want: want{Mark: ":", Announce: 1}},
		"announced":                   {mark: markAnnounced, want: want{Mark: ":", Create: 1}},
		"announced and not there":     {mark: markAnnounced, child: Child{Presence: Gone}, want: want{Mark: ":", Create: 1}},
		"made":                        {mark: markAnnounced, child: waiting, want: want{Mark: "+"}},
		"made, and the ledger is old": {mark: markNone, child: waiting, want: want{Mark: "+"}},
		"running": {
			mark: markCreated, child: Child{Presence: Ours, Reason: v1alpha1.ReasonStarting}, want: want{Mark: "+", Running: 1},
		},
		"started, and its status does not say so": {
			mark: markCreated, child: Child{Presence: Ours, Started: true}, want: want{Mark: "+", Running: 1},
		},
		"completed": {mark: markCreated, child: ended("True", "Completed"), want: want{Mark: "0", Reason: "Completed"}},
		"failed":    {mark: markCreated, child: ended("False", "PodsRefused"), want: want{Mark: "P", Reason: "PodsRefused"}},
		"skipped":   {mark: markCreated, child: ended("False", "Overlapped"), want: want{Mark: "o", Reason: "Overlapped"}},
		"a stranger has its name": {
			mark: markAnnounced, child: Child{Presence: Stranger}, want: want{Mark: "N", Reason: "NameConflict"},
		},
		"refused": {
			mark: markAnnounced, child: Child{Presence: Refused, Message: "m"}, want: want{Mark: "F", Reason: "JobFailed"},
		},
		"not in the cache":             {mark: markCreated, want: want{Mark: "+", Check: 1}},
		"deleted":                      {mark: markCreated, child: Child{Presence: Gone}, want: want{Mark: "X", Reason: "Deleted"}},
		"deleted, a stranger since":    {mark: markCreated, child: Child{Presence: Stranger}, want: want{Mark: "X", Reason: "Deleted"}},
		"gone with its tenant":         {mark: markCreated, child: Child{Presence: Gone}, tenants: []Tenant{}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"gone with its going tenant":   {mark: markCreated, child: Child{Presence: Gone}, tenants: []Tenant{in(Deleting, acme)}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"gone, and the tenant another": {mark: markCreated, child: Child{Presence: Gone}, tenants: []Tenant{{Name: "acme", UID: "new"}}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"suspended before it was made": {mark: markAnnounced, tenants: []Tenant{in(Suspended, acme)}, want: want{Mark: "s", Reason: "TenantSuspended"}},
		"its namespace gone before it was made": {
			mark: markNone, tenants: []Tenant{in(NotReady, acme)}, want: want{Mark: "n", Reason: "TenantNotReady"},
		},
		"its tenant not in the cache":     {mark: markNone, tenants: []Tenant{}, want: want{Mark: ".", Check: 1}},
		"its tenant gone":                 {mark: markNone, tenants: []Tenant{}, child: Child{Presence: Gone}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"its tenant another":              {mark: markNone, tenants: []Tenant{{Name: "acme", UID: "new"}}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"due in an hour":                  {mark: markNone, delay: time.Hour, want: want{Mark: ".", Wake: 59 * time.Minute}},
		"due in a minute":                 {mark: markNone, delay: time.Minute, want: want{Mark: ":", Announce: 1}},
		"superseded":                      {mark: markNone, end: "Superseded", want: want{Mark: "u", Reason: "Superseded"}},
		"superseded before it was made":   {mark: markAnnounced, end: "Superseded", want: want{Mark: "u", Reason: "Superseded"}},
		"superseded, but there is one":    {mark: markCreated, child: waiting, end: "Superseded", want: want{Mark: "+"}},
		"superseded, but it may be there": {mark: markCreated, end: "Superseded", want: want{Mark: "+", Check: 1}},
		"cancelled":                       {mark: markNone, end: "Cancelled", want: want{Mark: "c", Reason: "Cancelled"}},
		"paused": {
			mark: markAnnounced, change: func(f *v1alpha1.TenantFanOut) { f.Spec.Suspend = new(true) }, want: want{Mark: ":"},
		},
		"paused, and superseded": {
			mark: markAnnounced, end: "Superseded", change: func(f *v1alpha1.TenantFanOut) { f.Spec.Suspend = new(true) },
			want: want{Mark: "u", Reason: "Superseded"},
		},
		"the fan-out is being deleted": {
			mark: markAnnounced, change: func(f *v1alpha1.TenantFanOut) { f.DeletionTimestamp = &metav1.Time{Time: testTime} },
			want: want{Mark: ":"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := givenFanOut()
			if tc.change != nil {
				tc.change(fanOut)
			}
			l := NewLedger(givenPlan(t, fanOut, []Tenant{acme}))
			l.setMark(0, tc.mark)
			if tc.delay != 0 {
				l.plan.Entries[0].NotBefore = testTime.Add(tc.delay)
			}
			tenants := []Tenant{acme}
			if tc.tenants != nil {
				tenants = tc.tenants
			}
			d := Decide(Observed{FanOut: fanOut, Ledger: l, Tenants: index(tenants), Children: map[string]Child{"acme": tc.child}, End: tc.end}, testTime)
			got := want{
				Mark: string(d.Ledger.marks), Create: len(d.Create), Announce: len(d.Announced), Check: len(d.Check),
				Running: d.Running, Reason: d.Ledger.Outcome(0).Reason,
			}
			if !d.Wake.IsZero() {
				got.Wake = d.Wake.Sub(testTime)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || string(l.marks) != string(tc.mark) {
				t.Errorf("ledger before %s; -want +got:\n%s", l.marks, diff)
			}
		})
	}
}

func TestDecideMakesChildrenInOrder(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(Window+10)))
	for i := range l.plan.Entries {
		if i%2 == 0 {
			l.plan.Entries[i].NotBefore = testTime.Add(30 * time.Second)
		}
	}
	o := Observed{FanOut: fanOut, Ledger: l, Tenants: index(givenTenants(Window + 10))}
	d := Decide(o, testTime)
	if len(d.Announced) != Window || d.Announced[0] != 1 || d.Announced[1] != 3 || d.Announced[Window-1] != Window-12 {
		t.Errorf("%d announced, from %d to %d", len(d.Announced), d.Announced[0], d.Announced[len(d.Announced)-1])
	}
	o.Ledger = d.Ledger
	d = Decide(o, testTime)
	if len(d.Create) != Window || len(d.Announced) != 0 || d.Create[0] != 1 {
		t.Errorf("%d made, %d announced beyond the window", len(d.Create), len(d.Announced))
	}
	held := o
	held.Tenants = maps.Clone(o.Tenants)
	held.Tenants["tenant-00001"] = in(Suspended, o.Tenants["tenant-00001"])
	if d := Decide(held, testTime); len(d.Create) != Window-1 || len(d.Announced) != 1 {
		t.Errorf("%d made, %d announced in the place of one that can't be made", len(d.Create), len(d.Announced))
	}
	o.Children = map[string]Child{}
	for _, i := range d.Create {
		o.Children[l.plan.Entries[i].Tenant] = Child{Presence: Ours}
	}
	if d = Decide(o, testTime); len(d.Create) != 0 || len(d.Announced) != 10 {
		t.Errorf("%d made, %d announced when the window is free again", len(d.Create), len(d.Announced))
	}
}

// The last of a wave that are made are written down at once, and only then: nobody else is made with whom they could wait.
func TestLastOfAWaveAreUrgent(t *testing.T) {
	first := []v1alpha1.Wave{{Name: "first", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"number": "0"}}}}
	for name, tc := range map[string]struct {
		// marks of the tenants as stored, the first of which is the first wave, and what is made by now.
		marks  string
		made   []string
		delay  time.Duration
		urgent bool
	}{
		"the last two":                      {marks: "0+::", made: []string{"tenant-00001", "tenant-00002", "tenant-00003"}, urgent: true},
		"all but one":                       {marks: "0+::", made: []string{"tenant-00001", "tenant-00002"}},
		"all but one that is to be made":    {marks: "0+:.", made: []string{"tenant-00001", "tenant-00002"}},
		"all but one whose time is to come": {marks: "0+:.", made: []string{"tenant-00001", "tenant-00002"}, delay: time.Hour},
		"all, and it is written down":       {marks: "0+++", made: []string{"tenant-00001", "tenant-00002", "tenant-00003"}},
		"the last of the first wave":        {marks: ":...", made: []string{"tenant-00000"}, urgent: true},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := givenFanOut(withWaves(first...))
			l := NewLedger(givenPlan(t, fanOut, givenTenants(4)))
			for i, mark := range []byte(tc.marks) {
				l.setMark(i, mark)
			}
			l.plan.Entries[3].NotBefore = l.plan.Entries[3].NotBefore.Add(tc.delay)
			o := Observed{FanOut: fanOut, Ledger: l, Tenants: index(givenTenants(4)), Children: map[string]Child{}}
			for _, tenant := range tc.made {
				o.Children[tenant] = Child{Presence: Ours}
			}
			if d := Decide(o, testTime); d.Urgent != tc.urgent {
				t.Errorf("urgent is %v with the ledger %s, want %v", d.Urgent, d.Ledger.marks, tc.urgent)
			}
		})
	}
}

// A person reads why somebody has no child yet: of the first in the plan, and of nobody who has one or an outcome.
func TestSaysWhoIsPutOff(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(5)))
	l.Record(0, failedWith(v1alpha1.ReasonJobFailed))
	l.setMark(1, markCreated)
	l.setMark(2, markAnnounced)
	o := Observed{FanOut: fanOut, Ledger: l, Tenants: index(givenTenants(5)), Children: map[string]Child{"tenant-00001": {Presence: Ours}}}
	said := func() string {
		c := meta.FindStatusCondition(Decide(o, testTime).Status(testTime).Conditions, v1alpha1.ConditionSucceeded)
		return c.Reason + ": " + c.Message
	}
	const going = "Running: its tenants may start"
	if got := said(); got != going {
		t.Errorf("with nobody put off: %s", got)
	}
	o.PutOff = map[string]string{"tenant-00000": "has failed", "tenant-00001": "is made", "stranger": "is in no plan"}
	if got := said(); got != going {
		t.Errorf("when those that were put off need no child: %s", got)
	}
	o.PutOff["tenant-00003"], o.PutOff["tenant-00002"] = "quota", "exceeded quota"
	if got := said(); got != going+"; the TenantJob of tenant tenant-00002 can't be made yet: exceeded quota" {
		t.Errorf("with two: %s", got)
	}
}

func TestRemoveAfterTTL(t *testing.T) {
	fanOut := givenFanOut()
	fanOut.Spec.TTLSecondsAfterFinished = new(int32(60))
	o := Observed{FanOut: fanOut, Ledger: NewLedger(givenPlan(t, fanOut, nil))}
	d := Decide(o, testTime)
	if d.Remove || !d.Changed || !d.Urgent || !d.Wake.Equal(testTime.Add(time.Minute)) {
		t.Errorf("at its end: %+v", d)
	}
	o.Ledger = storedLedger(t, fanOut, d.Ledger)
	if d = Decide(o, testTime.Add(59*time.Second)); d.Remove || d.Changed {
		t.Errorf("before its time: %+v", d)
	}
	if d = Decide(o, testTime.Add(time.Minute)); !d.Remove {
		t.Errorf("after its time: %+v", d)
	}
}

// How a fan-out of ten tenants ends: marks in plan order, with the budgets.
func TestVerdict(t *testing.T) {
	canary := []v1alpha1.Wave{{Name: "canary", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"number": "0"}}, MaxFailures: amount(0)}}
	for name, tc := range map[string]struct {
		marks    string
		budget   any
		waves    []v1alpha1.Wave
		accepted int
		want     string
		progress string
	}{
		"all":                                       {"0000000000", nil, nil, 0, "True Completed", ""},
		"all but those nobody failed":               {"0000000sdo", 0, nil, 0, "True Completed", ""},
		"some failed, no budget":                    {"F000000000", nil, nil, 0, "False SomeFailed", "Stalled"},
		"some failed, within the budget":            {"F000000000", 1, nil, 0, "True CompletedWithFailures", ""},
		"a percentage that rounds to zero is one":   {"F000000000", "1%", nil, 0, "True CompletedWithFailures", ""},
		"none may fail":                             {"F000000000", "0%", nil, 0, "False TooManyFailed", "Stalled"},
		"too many failed":                           {"FX00000000", 1, nil, 0, "False TooManyFailed", "Stalled"},
		"too many failed, accepted":                 {"FX00000000", 1, nil, 2, "False TooManyFailed", "Stalled"},
		"too many in a wave":                        {"F000000000", 5, canary, 1, "False TooManyFailed", "Stalled"},
		"failed in a wave, and there was no budget": {"0F00000000", nil, canary, 0, "False SomeFailed", "Stalled"},
		"cancelled":                                 {"c000000000", nil, nil, 0, "False Cancelled", "Stalled"},
		"cancelled, and failed within the budget":   {"cF00000000", 3, nil, 0, "False Cancelled", "Stalled"},
		"cancelled, and failed":                     {"cF00000000", nil, nil, 0, "False SomeFailed", "Stalled"},
		"superseded, and failed":                    {"uF00000000", 0, nil, 0, "False Superseded", "Stalled"},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := givenFanOut(withWaves(tc.waves...), withMaxFailures(tc.budget))
			l := NewLedger(givenPlan(t, fanOut, givenTenants(10)))
			for i, mark := range []byte(tc.marks) {
				l.setMark(i, mark)
			}
			l.accepted = tc.accepted
			status := Decide(Observed{FanOut: fanOut, Ledger: l}, testTime).Status(testTime)
			progress := ""
			for _, c := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionReconciling} {
				if condition(status.Conditions, c) != "" {
					progress += c
				}
			}
			got := []string{
				condition(status.Conditions, v1alpha1.ConditionSucceeded), progress,
				condition(status.Conditions, v1alpha1.ConditionPlanned), condition(status.Conditions, v1alpha1.ConditionPaused), status.Wave,
			}
			if diff := cmp.Diff([]string{tc.want, tc.progress, "True Sealed", "False Active", ""}, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestEmptyPlanCompletesAtOnce(t *testing.T) {
	w := newWorld(t, givenFanOut(), nil)
	newLeader(w).pass(neverDies)
	status := w.fanOut.Status
	if got := condition(status.Conditions, v1alpha1.ConditionSucceeded); got != "True Completed" || status.CompletionTime == nil {
		t.Errorf("%s, completed at %v", got, status.CompletionTime)
	}
}

func TestUnplanned(t *testing.T) {
	fanOut := givenFanOut()
	for _, tc := range []struct {
		why  SealError
		want string
	}{
		{SealError{Reason: v1alpha1.ReasonSourceGone}, v1alpha1.ConditionStalled},
		{SealError{Reason: v1alpha1.ReasonTemplateNotReady, Passing: true}, v1alpha1.ConditionReconciling},
	} {
		fanOut.Status = Unplanned(fanOut, &tc.why, testTime)
		got := map[string]string{}
		for _, c := range fanOut.Status.Conditions {
			got[c.Type] = string(c.Status) + " " + c.Reason
		}
		want := map[string]string{
			v1alpha1.ConditionPlanned: "False " + tc.why.Reason, v1alpha1.ConditionSucceeded: "Unknown " + tc.why.Reason,
			tc.want: "True " + tc.why.Reason,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestGateHolds(t *testing.T) {
	running := func(g *Gate) { g.stored = g.ledger }
	for name, tc := range map[string]struct {
		fanOut  *v1alpha1.TenantFanOut
		mark    byte
		end     string
		change  func(*Gate)
		running int
		want    string
	}{
		"free":                           {givenFanOut(), markCreated, "", running, 99, ""},
		"not stored yet":                 {givenFanOut(), markCreated, "", func(*Gate) {}, 0, "fan-out nightly is writing down that it was made"},
		"another wave is open":           {givenFanOut(withWaves(labelWave("canary", "other"))), markCreated, "", running, 0, "fan-out nightly has not come to its wave"},
		"full":                           {givenFanOut(withMaxConcurrent(2)), markCreated, "", running, 2, "fan-out nightly is full"},
		"not full":                       {givenFanOut(withMaxConcurrent(2)), markCreated, "", running, 1, ""},
		"a share of two that rounds up":  {givenFanOut(withMaxConcurrent("1%")), markCreated, "", running, 0, ""},
		"a share of two that is one":     {givenFanOut(withMaxConcurrent("99%")), markCreated, "", running, 1, "fan-out nightly is full"},
		"suspended":                      {givenFanOut(func(f *v1alpha1.TenantFanOut) { f.Spec.Suspend = new(true) }), markCreated, "", running, 0, "fan-out nightly is paused"},
		"superseded":                     {givenFanOut(), markCreated, "Superseded", running, 0, "end: Superseded"},
		"cancelled":                      {givenFanOut(), markCreated, "Cancelled", running, 0, "end: Cancelled"},
		"appears with an outcome":        {givenFanOut(), 'X', "", running, 0, "end: Deleted"},
		"an outcome wins over the end":   {givenFanOut(), 'X', "Superseded", running, 0, "end: Deleted"},
		"the end wins over a suspension": {givenFanOut(func(f *v1alpha1.TenantFanOut) { f.Spec.Suspend = new(true) }), markCreated, "Superseded", running, 0, "end: Superseded"},
		"being deleted": {givenFanOut(func(f *v1alpha1.TenantFanOut) { f.DeletionTimestamp = &metav1.Time{Time: testTime} }), markCreated, "", running, 0,
			"fan-out nightly is being deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			before := NewLedger(givenPlan(t, tc.fanOut, []Tenant{tenant("acme"), tenant("globex", "other")}))
			after := before.Clone()
			after.setMark(0, tc.mark)
			g := NewGate(tc.fanOut, after, before, tc.end)
			tc.change(&g)
			hold := g.Hold(0, tc.running)
			got := hold.Limit
			if hold.End.Decided() {
				got = "end: " + hold.End.Reason
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A failure that is recorded closes the gate before anything else is decided.
func TestGateKnowsAFailureAtOnce(t *testing.T) {
	fanOut := givenFanOut(withMaxFailures(1))
	stored := NewLedger(givenPlan(t, fanOut, givenTenants(5)))
	for i := range 5 {
		stored.setMark(i, markCreated)
	}
	known := stored.Clone()
	for i, want := range []string{"", "", "fan-out nightly is paused"} {
		if got := NewGate(fanOut, known, stored, "").Hold(4, 0).Limit; got != want {
			t.Errorf("after %d failures %q, want %q", i, got, want)
		}
		known.Record(i, failedWith("JobFailed"))
	}
}

func TestChildOf(t *testing.T) {
	fanOut := givenFanOut()
	tj := &v1alpha1.TenantJob{}
	if got := ChildOf(tj, fanOut.UID); got.Presence != Stranger {
		t.Errorf("without an owner it is %+v", got)
	}
	tj.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut"))}
	if diff := cmp.Diff(Child{Presence: Ours, Status: "Unknown"}, ChildOf(tj, fanOut.UID)); diff != "" {
		t.Errorf("new -want +got:\n%s", diff)
	}
	if got := ChildOf(tj, "another"); got.Presence != Stranger {
		t.Errorf("of another fan-out of the name it is %+v", got)
	}
	tj.Status.JobRef = &v1alpha1.LocalReference{Name: "nightly"}
	tj.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: "False", Reason: "JobFailed", Message: "m"}}
	if diff := cmp.Diff(Child{Ours, true, "False", "JobFailed", "m"}, ChildOf(tj, fanOut.UID)); diff != "" {
		t.Errorf("ended -want +got:\n%s", diff)
	}
}

// The table of reasons in the contract.
func TestOutcomeOf(t *testing.T) {
	want := map[Counter][]string{
		Failed: {
			"CredentialsFailed", "DeadlineExceeded", "Deleted", "Expired", "InvalidParameters", "JobFailed", "NameConflict", "PodsRefused",
			"StoppedBySuspension", "TenantMismatch", "Unheard",
		},
		Skipped: {"Cancelled", "Overlapped", "Replaced", "Superseded", "TenantDeleted", "TenantSuspended"},
	}
	got := map[Counter][]string{}
	for _, reason := range slices.Sorted(maps.Keys(map[string]bool{
		"JobFailed": true, "DeadlineExceeded": true, "PodsRefused": true, "Expired": true, "CredentialsFailed": true,
		"InvalidParameters": true, "TenantMismatch": true, "NameConflict": true, "Deleted": true, "StoppedBySuspension": true,
		"Cancelled": true, "Replaced": true, "Superseded": true, "Overlapped": true, "TenantSuspended": true, "TenantDeleted": true, "Unheard": true,
	})) {
		o := OutcomeOf(metav1.ConditionFalse, reason, "")
		got[o.Counter] = append(got[o.Counter], o.Reason)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, reason := range []string{"TenantSuspended", "Running", ""} {
		if o := OutcomeOf(metav1.ConditionUnknown, reason, ""); o.Decided() {
			t.Errorf("Unknown %s is %+v", reason, o)
		}
	}
}
