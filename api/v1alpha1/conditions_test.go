package v1alpha1

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCounterOf checks that exactly the reasons that end a run have a counter. It reads the documented constants from the
// source, so that a new reason without a counter is found.
func TestCounterOf(t *testing.T) {
	ending := documentedReasons(t, "Reasons of the condition Succeeded of a TenantJob that has ended")
	waiting := documentedReasons(t, "Reasons of the condition Succeeded of a TenantJob while it is Unknown: it waits")
	running := documentedReasons(t, "Reasons of the condition Succeeded of a TenantJob while it is Unknown: it runs")
	// A TenantJob waits with these; a fan-out also ends a tenant with them.
	ending = append(ending, ReasonTenantSuspended, ReasonTenantNotReady)

	want := map[string]bool{}
	for _, reason := range append(waiting, running...) {
		want[reason] = false
	}
	for _, reason := range ending {
		want[reason] = true
	}
	got := map[string]bool{}
	for reason := range want {
		counter, ends := CounterOf(reason)
		got[reason] = ends
		if valid := counter == CounterSucceeded || counter == CounterFailed || counter == CounterSkipped; ends && !valid {
			t.Errorf("%s has the counter %q", reason, counter)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reasons that have a counter (-want, +got):\n%s", diff)
	}
	for reason := range counters {
		if !want[reason] {
			t.Errorf("%s has a counter and is not documented among the reasons that end a run", reason)
		}
	}
	for _, reason := range []string{"", "Unknown", ReasonSealed} {
		if counter, ends := CounterOf(reason); ends {
			t.Errorf("%q has the counter %s", reason, counter)
		}
	}
}

// documentedReasons returns the values of the constants in the block whose comment begins with a text.
func documentedReasons(t *testing.T, comment string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, d := range file.Decls {
		block, ok := d.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST || !strings.HasPrefix(strings.Join(strings.Fields(block.Doc.Text()), " "), comment) {
			continue
		}
		for _, spec := range block.Specs {
			value, err := strconv.Unquote(spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, value)
		}
	}
	if len(reasons) == 0 {
		t.Fatalf("no constants are documented as %q", comment)
	}
	return reasons
}
