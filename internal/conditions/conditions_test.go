package conditions

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestSetProgress(t *testing.T) {
	cases := map[string]struct {
		progress Progress
		want     []string
	}{
		"reconciling":  {Reconciling, []string{v1alpha1.ConditionReconciling}},
		"stalled":      {Stalled, []string{v1alpha1.ConditionStalled}},
		"current":      {Current, nil},
		"not set":      {"", nil},
		"an old other": {Stalled, []string{v1alpha1.ConditionStalled}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var list []metav1.Condition
			if name == "an old other" {
				Of(&list, 1).SetProgress(Reconciling, "Because", "")
			}
			Of(&list, 2).SetProgress(tc.progress, "Because", "of this")
			var got []string
			for _, c := range list {
				if c.Status != metav1.ConditionTrue || c.Reason != "Because" || c.Message != "of this" || c.ObservedGeneration != 2 {
					t.Errorf("set %+v", c)
				}
				got = append(got, c.Type)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetDatesOnlyWhatChanges(t *testing.T) {
	first, second := time.Unix(100, 0), time.Unix(200, 0)
	var list []metav1.Condition
	Setter{List: &list, Generation: 1, Now: first}.Set("Ready", metav1.ConditionTrue, "Ready", "")
	Setter{List: &list, Generation: 2, Now: second}.Set("Ready", metav1.ConditionTrue, "Other", "")
	if got := Get(list, "Ready"); !got.LastTransitionTime.Time.Equal(first) || got.ObservedGeneration != 2 {
		t.Errorf("the status did not change: %+v", got)
	}
	Setter{List: &list, Generation: 3, Now: second}.Set("Ready", metav1.ConditionFalse, "Other", "")
	if got := Get(list, "Ready"); !got.LastTransitionTime.Time.Equal(second) {
		t.Errorf("the status changed: %+v", got)
	}
}

func TestChanged(t *testing.T) {
	with := func(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
		return []metav1.Condition{{Type: "Paused", Status: status, Reason: reason, Message: message}}
	}
	before := with(metav1.ConditionTrue, "A", "a")
	cases := map[string]struct {
		now  []metav1.Condition
		want bool
	}{
		"the same":        {with(metav1.ConditionTrue, "A", "a"), false},
		"another message": {with(metav1.ConditionTrue, "A", "b"), false},
		"another reason":  {with(metav1.ConditionTrue, "B", "a"), true},
		"another status":  {with(metav1.ConditionFalse, "A", "a"), true},
		"gone":            {nil, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, got := Changed(before, tc.now, "Paused"); got != tc.want {
				t.Errorf("changed: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	cases := map[string]struct {
		text string
		n    int
		want string
	}{
		"fits":                      {"abc", 3, "abc"},
		"one too long":              {"abcdefg", 6, "abc..."},
		"within a character":        {"aöööö", 7, "aö..."},
		"a blank before the end":    {"ab cdefgh", 6, "ab..."},
		"no room for the ellipsis":  {"abcdef", 2, "..."},
		"bytes that are not UTF-8":  {strings.Repeat("\x80", 9), 6, "..."},
		"characters of three bytes": {"日本語日本語", 10, "日本..."},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := Cut(tc.text, tc.n)
			if got != tc.want || !utf8.ValidString(got) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestMessagesFit(t *testing.T) {
	cases := map[string]struct{ message, want string }{
		"too long":            {strings.Repeat("x", MaxMessage+1), strings.Repeat("x", MaxMessage-3) + "..."},
		"several lines":       {"denied by a webhook:\n\t- no limits\r\n", "denied by a webhook: - no limits"},
		"escape characters":   {"a\x1b[31mred", "a [31mred"},
		"bytes without UTF-8": {"a\xffb", "a\uFFFDb"},
		"a line that fits":    {"nothing to change", "nothing to change"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var list []metav1.Condition
			Of(&list, 1).Set("Ready", metav1.ConditionFalse, "Because", tc.message)
			if got := Get(list, "Ready").Message; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
