package fanout

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Decisions about one tenant, acme, in each of its states.
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
		RequeueAfter            time.Duration
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
		"new":                            {mark: markNone, want: want{Mark: ":", Announce: 1}},
		"announced":                      {mark: markAnnounced, want: want{Mark: ":", Create: 1}},
		"announced and not found":        {mark: markAnnounced, child: Child{Presence: NotFound}, want: want{Mark: ":", Create: 1}},
		"created":                        {mark: markAnnounced, child: waiting, want: want{Mark: "+"}},
		"created, and the ledger is old": {mark: markNone, child: waiting, want: want{Mark: "+"}},
		"running": {
			mark: markCreated, child: Child{Presence: Ours, Reason: v1alpha1.ReasonStarting}, want: want{Mark: "+", Running: 1},
		},
		"started, and its status does not say so": {
			mark: markCreated, child: Child{Presence: Ours, Started: true}, want: want{Mark: "+", Running: 1},
		},
		"completed": {mark: markCreated, child: ended("True", "Completed"), want: want{Mark: "0", Reason: "Completed"}},
		"failed":    {mark: markCreated, child: ended("False", "PodsRefused"), want: want{Mark: "P", Reason: "PodsRefused"}},
		"skipped":   {mark: markCreated, child: ended("False", "Overlapped"), want: want{Mark: "o", Reason: "Overlapped"}},
		"a foreign object has its name": {
			mark: markAnnounced, child: Child{Presence: Foreign}, want: want{Mark: "N", Reason: "NameConflict"},
		},
		"refused": {
			mark: markAnnounced, child: Child{Presence: Refused, Message: "m"}, want: want{Mark: "F", Reason: "JobFailed"},
		},
		"refused for too long": {
			mark: markAnnounced, child: Child{Presence: Refused, Reason: "PodsRefused", Message: "m"}, want: want{Mark: "P", Reason: "PodsRefused"},
		},
		"deleted, and a finalizer keeps it": {
			mark: markCreated, child: Child{Presence: Ours, Deleting: true, Status: "Unknown"}, want: want{Mark: "X", Reason: "Deleted"},
		},
		"completed, then deleted, and a finalizer keeps it": {
			mark: markCreated, child: Child{Presence: Ours, Deleting: true, Status: "True"}, want: want{Mark: "0", Reason: "Completed"},
		},
		"being deleted with its tenant": {
			mark: markCreated, child: Child{Presence: Ours, Deleting: true}, tenants: []Tenant{in(Deleting, acme)}, want: want{Mark: "d", Reason: "TenantDeleted"},
		},
		"not in the cache":                {mark: markCreated, want: want{Mark: "+", Check: 1}},
		"deleted":                         {mark: markCreated, child: Child{Presence: NotFound}, want: want{Mark: "X", Reason: "Deleted"}},
		"deleted, then a foreign object":  {mark: markCreated, child: Child{Presence: Foreign}, want: want{Mark: "X", Reason: "Deleted"}},
		"deleted with its tenant":         {mark: markCreated, child: Child{Presence: NotFound}, tenants: []Tenant{}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"deleted, its tenant deleting":    {mark: markCreated, child: Child{Presence: NotFound}, tenants: []Tenant{in(Deleting, acme)}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"deleted, its tenant replaced":    {mark: markCreated, child: Child{Presence: NotFound}, tenants: []Tenant{{Name: "acme", UID: "new"}}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"suspended before it was created": {mark: markAnnounced, tenants: []Tenant{in(Suspended, acme)}, want: want{Mark: "s", Reason: "TenantSuspended"}},
		"its namespace unusable before it was created": {
			mark: markNone, tenants: []Tenant{in(NotReady, acme)}, want: want{Mark: "n", Reason: "TenantNotReady"},
		},
		"its tenant not in the cache":      {mark: markNone, tenants: []Tenant{}, want: want{Mark: ".", Check: 1}},
		"its tenant deleted":               {mark: markNone, tenants: []Tenant{}, child: Child{Presence: NotFound}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"its tenant replaced":              {mark: markNone, tenants: []Tenant{{Name: "acme", UID: "new"}}, want: want{Mark: "d", Reason: "TenantDeleted"}},
		"due in an hour":                   {mark: markNone, delay: time.Hour, want: want{Mark: ".", RequeueAfter: 59 * time.Minute}},
		"due in a minute":                  {mark: markNone, delay: time.Minute, want: want{Mark: ":", Announce: 1}},
		"superseded":                       {mark: markNone, end: "Superseded", want: want{Mark: "u", Reason: "Superseded"}},
		"superseded before it was created": {mark: markAnnounced, end: "Superseded", want: want{Mark: "u", Reason: "Superseded"}},
		"superseded, and it was created":   {mark: markCreated, child: waiting, end: "Superseded", want: want{Mark: "+"}},
		"superseded, and it may exist":     {mark: markCreated, end: "Superseded", want: want{Mark: "+", Check: 1}},
		"cancelled":                        {mark: markNone, end: "Cancelled", want: want{Mark: "c", Reason: "Cancelled"}},
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
			if !d.RequeueAt.IsZero() {
				got.RequeueAfter = d.RequeueAt.Sub(testTime)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" || string(l.marks) != string(tc.mark) {
				t.Errorf("ledger before %s; -want +got:\n%s", l.marks, diff)
			}
		})
	}
}

func TestDecideCreatesChildrenInOrder(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(MaxAnnounced+10)))
	for i := range l.plan.Entries {
		if i%2 == 0 {
			l.plan.Entries[i].NotBefore = testTime.Add(30 * time.Second)
		}
	}
	o := Observed{FanOut: fanOut, Ledger: l, Tenants: index(givenTenants(MaxAnnounced + 10))}
	d := Decide(o, testTime)
	if len(d.Announced) != MaxAnnounced || d.Announced[0] != 1 || d.Announced[1] != 3 || d.Announced[MaxAnnounced-1] != MaxAnnounced-12 {
		t.Errorf("%d announced, from %d to %d", len(d.Announced), d.Announced[0], d.Announced[len(d.Announced)-1])
	}
	o.Ledger = d.Ledger
	d = Decide(o, testTime)
	if len(d.Create) != MaxAnnounced || len(d.Announced) != 0 || d.Create[0] != 1 {
		t.Errorf("%d created, %d announced beyond the limit", len(d.Create), len(d.Announced))
	}
	held := o
	held.Tenants = maps.Clone(o.Tenants)
	held.Tenants["tenant-00001"] = in(Suspended, o.Tenants["tenant-00001"])
	if d := Decide(held, testTime); len(d.Create) != MaxAnnounced-1 || len(d.Announced) != 1 {
		t.Errorf("%d created, %d announced in the place of one that can't be created", len(d.Create), len(d.Announced))
	}
	o.Children = map[string]Child{}
	for _, i := range d.Create {
		o.Children[l.plan.Entries[i].Tenant] = Child{Presence: Ours}
	}
	if d = Decide(o, testTime); len(d.Create) != 0 || len(d.Announced) != 10 {
		t.Errorf("%d created, %d announced when all were observed", len(d.Create), len(d.Announced))
	}
}

// The ledger is urgent when the last children of a wave were observed, and only then: no further child of the wave could be
// stored in the same write.
func TestLastOfAWaveAreUrgent(t *testing.T) {
	first := []v1alpha1.Wave{{Name: "first", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"number": "0"}}}}
	for name, tc := range map[string]struct {
		// marks are the stored ones. The first tenant is the first wave. created are the children that exist.
		marks   string
		created []string
		delay   time.Duration
		urgent  bool
	}{
		"the last two":                      {marks: "0+::", created: []string{"tenant-00001", "tenant-00002", "tenant-00003"}, urgent: true},
		"all but one":                       {marks: "0+::", created: []string{"tenant-00001", "tenant-00002"}},
		"all but one that is to be created": {marks: "0+:.", created: []string{"tenant-00001", "tenant-00002"}},
		"all but one that is not due":       {marks: "0+:.", created: []string{"tenant-00001", "tenant-00002"}, delay: time.Hour},
		"all, and the ledger has them":      {marks: "0+++", created: []string{"tenant-00001", "tenant-00002", "tenant-00003"}},
		"the last of the first wave":        {marks: ":...", created: []string{"tenant-00000"}, urgent: true},
	} {
		t.Run(name, func(t *testing.T) {
			fanOut := givenFanOut(withWaves(first...))
			l := NewLedger(givenPlan(t, fanOut, givenTenants(4)))
			for i, mark := range []byte(tc.marks) {
				l.setMark(i, mark)
			}
			l.plan.Entries[3].NotBefore = l.plan.Entries[3].NotBefore.Add(tc.delay)
			o := Observed{FanOut: fanOut, Ledger: l, Tenants: index(givenTenants(4)), Children: map[string]Child{}}
			for _, tenant := range tc.created {
				o.Children[tenant] = Child{Presence: Ours}
			}
			if d := Decide(o, testTime); d.Urgent != tc.urgent {
				t.Errorf("urgent is %v with the ledger %s, want %v", d.Urgent, d.Ledger.marks, tc.urgent)
			}
		})
	}
}

// The message says why the first tenant in the plan has no child yet. It leaves out tenants with a child or an outcome.
func TestMessageAboutADelayedChild(t *testing.T) {
	fanOut := givenFanOut()
	l := NewLedger(givenPlan(t, fanOut, givenTenants(5)))
	l.Record(0, failedWith(v1alpha1.ReasonJobFailed))
	l.setMark(1, markCreated)
	l.setMark(2, markAnnounced)
	o := Observed{FanOut: fanOut, Ledger: l, Tenants: index(givenTenants(5)), Children: map[string]Child{"tenant-00001": {Presence: Ours}}}
	message := func() string {
		c := meta.FindStatusCondition(Decide(o, testTime).Status(testTime).Conditions, v1alpha1.ConditionSucceeded)
		return c.Reason + ": " + c.Message
	}
	const running = "Running: its tenants may start"
	if got := message(); got != running {
		t.Errorf("with none delayed: %s", got)
	}
	o.Delayed = map[string]string{"tenant-00000": "has failed", "tenant-00001": "is created", "foreign": "is in no plan"}
	if got := message(); got != running {
		t.Errorf("when those that are delayed need no child: %s", got)
	}
	o.Delayed["tenant-00003"], o.Delayed["tenant-00002"] = "quota", "exceeded quota"
	if got := message(); got != running+"; the TenantJob of tenant tenant-00002 can't be made yet: exceeded quota" {
		t.Errorf("with two: %s", got)
	}
}

func TestRemoveAfterTTL(t *testing.T) {
	fanOut := givenFanOut()
	fanOut.Spec.TTLSecondsAfterFinished = new(int32(60))
	o := Observed{FanOut: fanOut, Ledger: NewLedger(givenPlan(t, fanOut, nil))}
	d := Decide(o, testTime)
	if d.Remove || !d.Changed || !d.Urgent || !d.RequeueAt.Equal(testTime.Add(time.Minute)) {
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

// The result of a complete fan-out of ten tenants, by their marks in the order of the plan.
func TestFinalResult(t *testing.T) {
	canary := []v1alpha1.Wave{{Name: "canary", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"number": "0"}}, MaxFailures: amount(0)}}
	for name, tc := range map[string]struct {
		marks    string
		budget   any
		waves    []v1alpha1.Wave
		accepted int
		want     string
		progress string
	}{
		"all":                            {"0000000000", nil, nil, 0, "True Completed", ""},
		"some skipped":                   {"0000000sdo", 0, nil, 0, "True Completed", ""},
		"some failed, no budget":         {"F000000000", nil, nil, 0, "False SomeFailed", "Stalled"},
		"some failed, within the budget": {"F000000000", 1, nil, 0, "True CompletedWithFailures", ""},
		"a percentage that rounds to zero is one": {"F000000000", "1%", nil, 0, "True CompletedWithFailures", ""},
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
		{SealError{Reason: v1alpha1.ReasonTemplateNotReady, Transient: true}, v1alpha1.ConditionReconciling},
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
