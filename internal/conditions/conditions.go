// Package conditions sets and reads the conditions of an object's status. It is pure.
package conditions

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// MaxMessage is how many bytes the API accepts of a condition's message.
const MaxMessage = 1024

// Progress is how an object stands for kstatus and Argo CD.
type Progress string

const (
	// Current means that the object is as its spec says, or has ended and nobody has to do anything.
	Current Progress = "Current"
	// Reconciling means that the operator works on it.
	Reconciling Progress = "Reconciling"
	// Stalled means that only a person can help.
	Stalled Progress = "Stalled"
)

// Setter sets the conditions of one object.
type Setter struct {
	// List is the list in the object's status.
	List *[]metav1.Condition
	// Generation is the object's, which becomes the observedGeneration of what is set.
	Generation int64
	// Now is the lastTransitionTime of what changes. Zero means the time of the machine's clock.
	Now time.Time
}

// Of returns the Setter of an object with these conditions and this generation.
func Of(list *[]metav1.Condition, generation int64) Setter {
	return Setter{List: list, Generation: generation}
}

// Set sets a condition. Its message is put on one line and cut to MaxMessage.
func (s Setter) Set(conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(s.List, metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: Cut(Line(message), MaxMessage),
		ObservedGeneration: s.Generation, LastTransitionTime: metav1.NewTime(s.Now),
	})
}

// SetProgress sets Reconciling or Stalled and removes the other: each is present only while it is True, as kstatus
// expects.
func (s Setter) SetProgress(p Progress, reason, message string) {
	for _, c := range []struct {
		conditionType string
		applies       bool
	}{
		{v1alpha1.ConditionReconciling, p == Reconciling},
		{v1alpha1.ConditionStalled, p == Stalled},
	} {
		if c.applies {
			s.Set(c.conditionType, metav1.ConditionTrue, reason, message)
		} else {
			meta.RemoveStatusCondition(s.List, c.conditionType)
		}
	}
}

// Get returns a condition, or the zero value when there is none of the type.
func Get(list []metav1.Condition, conditionType string) metav1.Condition {
	if c := meta.FindStatusCondition(list, conditionType); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// Changed returns a condition as it is now, and whether its status or reason is another than before.
func Changed(before, now []metav1.Condition, conditionType string) (metav1.Condition, bool) {
	was, is := Get(before, conditionType), Get(now, conditionType)
	return is, was.Status != is.Status || was.Reason != is.Reason
}

// Readiness is what other controllers look at in the condition Ready. The zero value means that there is none.
type Readiness struct {
	Status             metav1.ConditionStatus
	ObservedGeneration int64
	Message            string
}

// Ready returns the Readiness in a list of conditions.
func Ready(list []metav1.Condition) Readiness {
	c := Get(list, v1alpha1.ConditionReady)
	return Readiness{c.Status, c.ObservedGeneration, c.Message}
}

// Line puts text on one line: any sequence of blanks and control characters becomes one blank, and bytes that are not UTF-8 become
// U+FFFD.
func Line(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
}

// Cut shortens text to at most n bytes. It breaks no character.
func Cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const ellipsis = "..."
	n = max(0, n-len(ellipsis))
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return strings.TrimRight(text[:n], " ") + ellipsis
}

// FirstOf lists the first three of some names, and says how many more there are.
func FirstOf(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
