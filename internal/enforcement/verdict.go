package enforcement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// settleAfter is how long after a policy was written the API server enforces it at the latest. It takes about a second.
	settleAfter = 2 * time.Second
	// provenFor is for how long a refusal proves that a policy is in force, if no further answer comes.
	provenFor = time.Minute
)

// outcome of a probe.
type outcome int

const (
	// unclear means that the probe had another answer, so that nothing is known.
	unclear outcome = iota
	// refused means that the policy has refused the probe.
	refused
	// admitted means that the API server would have done what the probe asked for.
	admitted
)

// answer to the probe of a policy.
type answer struct {
	policy  string
	outcome outcome
	// why is the error, if the outcome is unclear.
	why string
}

// Verdict is what is known about the policies.
type Verdict struct {
	// Known is false until each policy was tried out.
	Known bool
	// Gap says which policy is not in force, and why. Empty means that all are, if Known.
	Gap string
}

// Open says whether anything may start.
func (v Verdict) Open() bool { return v.Known && v.Gap == "" }

// standing of a policy.
type standing struct {
	// tried is when the last clear answer came. Zero means that there was none.
	tried time.Time
	// admitted says what that answer was.
	admitted bool
	// why is the last unclear answer, if it came after that.
	why string
	// repaired is when the policy or a binding of it was last put back. Until settleAfter has passed, no answer counts.
	repaired time.Time
	// broken is what is missing or changed and can't be put back.
	broken string
}

// standings of all policies, by name.
type standings map[string]*standing

func newStandings(policies []string) standings {
	all := standings{}
	for _, name := range policies {
		all[name] = &standing{}
	}
	return all
}

// answered takes in the answer to a probe that was sent at a time.
func (s standings) answered(a answer, sent time.Time) {
	p := s[a.policy]
	if a.outcome == unclear {
		p.why = a.why
		return
	}
	p.why = ""
	if a.outcome == admitted || !sent.Before(p.repaired.Add(settleAfter)) {
		p.tried, p.admitted = sent, a.outcome == admitted
	}
}

// restored takes in that a policy, or a binding of it, was put back at a time.
func (s standings) restored(policy string, now time.Time) {
	s[policy].repaired, s[policy].tried = now, time.Time{}
}

// verdict is what follows.
func (s standings) verdict(now time.Time) Verdict {
	v := Verdict{Known: true}
	var gaps []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		gap, known := s[name].gap(name, now)
		v.Known = v.Known && known
		if gap != "" {
			gaps = append(gaps, gap)
		}
	}
	v.Gap = strings.Join(gaps, "; ")
	return v
}

// gap says why a policy is not in force. Known is false when nothing can be said yet.
func (p *standing) gap(name string, now time.Time) (gap string, known bool) {
	switch {
	case p.broken != "":
		return p.broken, true
	case !p.tried.IsZero() && p.admitted:
		return fmt.Sprintf("policy %s does not refuse what it has to refuse", name), true
	case p.tried.IsZero() && !p.repaired.IsZero():
		return fmt.Sprintf("policy %s was put back and is being tried out%s", name, because(p.why)), true
	case !p.tried.IsZero() && now.Sub(p.tried) < provenFor:
		return "", true
	case p.why != "":
		return fmt.Sprintf("policy %s can't be tried out%s", name, because(p.why)), true
	}
	return "", false
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
