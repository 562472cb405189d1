package enforcement

import (
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestVerdict(t *testing.T) {
	start := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	refusal := answer{policy: "one", outcome: refused}
	for _, tt := range []struct {
		name string
		do   func(standings)
		// when is the time after the start.
		when time.Duration
		want Verdict
	}{
		{"nothing is known", func(standings) {}, 0, Verdict{}},
		{"one of two was tried", func(s standings) { s.answered(refusal, start) }, 0, Verdict{}},
		{"both refuse", func(s standings) {
			s.answered(refusal, start)
			s.answered(answer{policy: "two", outcome: refused}, start)
		}, time.Second, Verdict{Known: true}},
		{"one admits", func(s standings) {
			s.answered(answer{policy: "one", outcome: admitted}, start)
			s.answered(answer{policy: "two", outcome: refused}, start)
		}, time.Second, Verdict{true, "policy one does not refuse what it has to refuse"}},
		{"an unclear answer changes nothing for a minute", func(s standings) {
			s.answered(refusal, start)
			s.answered(answer{policy: "one", why: "timeout"}, at(time.Second))
			s.answered(answer{policy: "two", outcome: refused}, at(time.Second))
		}, time.Minute - time.Second, Verdict{Known: true}},
		{"and then it does", func(s standings) {
			s.answered(refusal, start)
			s.answered(answer{policy: "one", why: "timeout"}, at(time.Second))
			s.answered(answer{policy: "two", outcome: refused}, at(time.Second))
		}, time.Minute, Verdict{true, "policy one can't be tried out: timeout"}},
		{"an admission stays until it is refused", func(s standings) {
			s.answered(answer{policy: "one", outcome: admitted}, start)
			s.answered(answer{policy: "one", why: "timeout"}, at(time.Second))
			s.answered(answer{policy: "two", outcome: refused}, at(time.Second))
		}, 2 * time.Second, Verdict{true, "policy one does not refuse what it has to refuse"}},
		{"a refusal right after a repair is from before it", func(s standings) {
			s.answered(answer{policy: "two", outcome: refused}, start)
			s.restored("one", start)
			s.answered(refusal, at(settleAfter-time.Millisecond))
		}, settleAfter, Verdict{true, "policy one was put back and is being tried out"}},
		{"a later one counts", func(s standings) {
			s.answered(answer{policy: "two", outcome: refused}, start)
			s.restored("one", start)
			s.answered(refusal, at(settleAfter))
		}, settleAfter, Verdict{Known: true}},
		{"what can't be put back", func(s standings) {
			s.answered(refusal, start)
			s.answered(answer{policy: "two", outcome: refused}, start)
			s["two"].broken = "binding two is missing"
		}, time.Second, Verdict{true, "binding two is missing"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandings([]string{"two", "one"})
			tt.do(s)
			if got := s.verdict(at(tt.when)); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAnswerOf(t *testing.T) {
	pods, namespaces := schema.GroupResource{Resource: "pods"}, schema.GroupResource{Resource: "namespaces"}
	for _, tt := range []struct {
		name string
		err  error
		want outcome
	}{
		{"done", nil, admitted},
		{"the pod to enter is not there", apierrors.NewNotFound(pods, "probe"), admitted},
		{"the namespace is not there", apierrors.NewNotFound(namespaces, "tenantry-probe"), unclear},
		{"by the policy", apierrors.NewForbidden(pods, "probe", errors.New("ValidatingAdmissionPolicy 'one' with binding 'one-enforce' denied request: no")), refused},
		{"by another policy", apierrors.NewForbidden(pods, "probe", errors.New("ValidatingAdmissionPolicy 'one-pods' with binding 'one' denied request: no")), unclear},
		{"by RBAC", apierrors.NewForbidden(pods, "probe", errors.New("User cannot create resource")), unclear},
		{"by nobody in time", apierrors.NewTimeoutError("late", 1), unclear},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := answerOf("one", tt.err)
			if got.outcome != tt.want || got.why == "" == (tt.want == unclear) {
				t.Errorf("got %+v, want outcome %d", got, tt.want)
			}
		})
	}
}
